package sandbox

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// token is what the sandbox remembers of a secret it has issued. The secret itself is kept nowhere.
type token struct {
	SHA256  string `json:"sha256"`
	Kind    string `json:"kind"` // "access" or "refresh"
	Account string `json:"account"`
	Scope   string `json:"scope"`
	Revoked bool   `json:"revoked"`
}

// code is an authorization code; gave lists the tokens it bought.
type code struct {
	account, scope string
	issued         time.Time
	used           bool
	gave           []*token
}

type grants struct {
	tokens map[string]*token // by SHA-256
	codes  map[string]*code  // by SHA-256; in memory only, for they live five minutes
}

const codeLife = 5 * time.Minute

func digest(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(h[:])
}

// newSecret makes 256 random bits behind a prefix.
func newSecret(prefix string) string {
	b := make([]byte, 32)
	rand.Read(b) // never fails: crypto/rand ends the program first
	return prefix + hex.EncodeToString(b)
}

// find looks a secret up by its hash, so that no comparison runs over the secret itself.
func (g *grants) find(secret, kind string) *token {
	if t := g.tokens[digest(secret)]; t != nil && t.Kind == kind {
		return t
	}
	return nil
}

// issue makes a token and remembers its hash.
func (g *grants) issue(kind, account, scope string) (string, *token) {
	secret := newSecret(map[string]string{"access": "sk_test_", "refresh": "rt_"}[kind])
	t := &token{SHA256: digest(secret), Kind: kind, Account: account, Scope: scope}
	g.tokens[t.SHA256] = t
	return secret, t
}

// connected says whether the platform may act for the account.
func (g *grants) connected(account string) bool {
	for _, t := range g.tokens {
		if t.Account == account && !t.Revoked {
			return true
		}
	}
	return false
}

func (g *grants) forgetOldCodes(now time.Time) {
	for k, c := range g.codes {
		if now.Sub(c.issued) > 24*time.Hour {
			delete(g.codes, k)
		}
	}
}

type stateFile struct {
	Version int      `json:"version"`
	Seed    uint64   `json:"seed"`
	Epoch   int64    `json:"epoch"` // so that the same world is met again after a restart
	Tokens  []*token `json:"tokens"`
}

func (s *Sandbox) loadState() error {
	if s.cfg.StateFile == "" {
		return nil
	}
	b, err := os.ReadFile(s.cfg.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s.saveState()
	}
	if err != nil {
		return err
	}
	var f stateFile
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	if f.Version != 1 {
		return fmt.Errorf("version %d is not known", f.Version)
	}
	if f.Seed != s.cfg.Seed {
		return fmt.Errorf("made with seed %d, not %d: remove the file to begin anew", f.Seed, s.cfg.Seed)
	}
	s.epoch = f.Epoch
	for _, t := range f.Tokens {
		s.grants.tokens[t.SHA256] = t
	}
	return nil
}

// saveState writes the file beside its place and renames it, so that a crash leaves the old or the
// new one. Callers hold the lock.
func (s *Sandbox) saveState() (err error) {
	if s.cfg.StateFile == "" {
		return nil
	}
	f := stateFile{Version: 1, Seed: s.cfg.Seed, Epoch: s.epoch, Tokens: make([]*token, 0, len(s.grants.tokens))}
	for _, t := range s.grants.tokens {
		f.Tokens = append(f.Tokens, t)
	}
	slices.SortFunc(f.Tokens, func(a, b *token) int { return strings.Compare(a.SHA256, b.SHA256) })
	b, err := json.MarshalIndent(f, "", "\t")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(s.cfg.StateFile), ".sandbox-*") // 0600 by contract
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	if _, err = tmp.Write(append(b, '\n')); err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), s.cfg.StateFile)
}
