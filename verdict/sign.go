package verdict

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"phantom/shield"
)

// The types of what is signed.
const (
	verdictType = "access-verdict+jwt"
	listType    = "access-list+jwt"
)

// deniedFor is how long a signed denial holds: so long at most a payment is not seen by who keeps
// it.
const deniedFor = time.Minute

// SigningKey is an Ed25519 pair. Private is nil of one that only opens what it has signed.
type SigningKey struct {
	ID      string
	Public  ed25519.PublicKey
	Private ed25519.PrivateKey
}

// Signer signs verdicts and lists.
type Signer struct {
	// ListKey is what hashes a merchant's customers in their list: 16 bytes.
	ListKey func(ctx context.Context, merchant uuid.UUID) ([]byte, error)

	keys atomic.Pointer[signingKeys]
}

type signingKeys struct {
	current SigningKey
	jwks    []byte
}

// Set replaces the keys. The first one signs; all are published.
func (s *Signer) Set(keys []SigningKey) {
	if len(keys) == 0 {
		return
	}
	type jwk struct {
		Type      string `json:"kty"`
		Curve     string `json:"crv"`
		Use       string `json:"use"`
		Algorithm string `json:"alg"`
		ID        string `json:"kid"`
		X         string `json:"x"`
	}
	set := struct {
		Keys []jwk `json:"keys"`
	}{}
	for _, key := range keys {
		set.Keys = append(set.Keys, jwk{"OKP", "Ed25519", "sig", "EdDSA", key.ID, base64.RawURLEncoding.EncodeToString(key.Public)})
	}
	text, err := json.Marshal(set)
	if err != nil {
		panic(err) // our own fixed shapes always marshal
	}
	s.keys.Store(&signingKeys{keys[0], text})
}

// claims are what a verdict or a list says.
type claims struct {
	jwt.RegisteredClaims
	Level    shield.Level `json:"lvl"`
	Access   bool         `json:"acc"`
	Features []string     `json:"feat"`
	Revision string       `json:"rev"`
	Livemode bool         `json:"livemode"`
}

func (s *Signer) sign(kind string, claims jwt.Claims) (string, error) {
	keys := s.keys.Load()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	token.Header["typ"], token.Header["kid"] = kind, keys.current.ID
	return token.SignedString(keys.current.Private)
}

// ready says whether there is anything to sign with.
func (s *Signer) ready() bool { return s != nil && s.keys.Load() != nil }

var noSigner = &refusal{http.StatusServiceUnavailable, "not_signed_here", "Verdicts and lists are not signed here. Ask the server itself, or try again in a moment."}

func (h *Handler) signVerdict(w http.ResponseWriter, entry *tenant, v *view, customer string, expired bool) {
	if !h.config.Signer.ready() {
		noSigner.write(w)
		return
	}
	a, v := h.levelOf(v, customer, expired)
	h.count(byPath, entry, v, customer, a)
	life := time.Duration(v.Policy.VerdictTTL)
	if !a.access {
		life = deniedFor
	}
	features := []string{}
	switch a.level {
	case shield.Limited:
		features = v.Policy.Features.Limited
	case shield.Blocked:
		features = v.Policy.Features.Blocked
	case shield.Full, shield.Notice, shield.Grace:
	}
	now := time.Now()
	token, err := h.config.Signer.sign(verdictType, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: h.config.PublicURL, Audience: jwt.ClaimStrings{v.Account}, Subject: customer, IssuedAt: jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(life)), ID: uuid.NewString(),
		},
		Level: a.level, Access: a.access, Features: features, Revision: v.revision, Livemode: v.Livemode,
	})
	if err != nil {
		noSigner.write(w)
		return
	}
	send(w, jwtType, []byte(token))
}

var jwtType = []string{"application/jwt"}

// listClaims are a list: everybody who has less than full access, by a keyed hash.
type listClaims struct {
	jwt.RegisteredClaims
	Revision string                    `json:"rev"`
	Livemode bool                      `json:"livemode"`
	Key      string                    `json:"key"`  // of an HMAC-SHA-256; base64url
	Features map[shield.Level][]string `json:"feat"` // of limited and blocked
	Levels   map[string]shield.Level   `json:"lvls"`
}

// signedList is a tenant's list as it was built last.
type signedList struct {
	mutex    sync.Mutex
	revision string
	key      string // that has signed it
	builtAt  time.Time
	etag     string
	text     string
}

// list answers with everybody who has less than full access. Who holds it needs no further call
// until it expires.
func (h *Handler) list(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	entry, v, refused := h.enter(r)
	if refused != nil {
		refused.write(w)
		return
	}
	if !h.config.Signer.ready() {
		noSigner.write(w)
		return
	}
	// A list says nothing of what holds then: who asks for a verdict hears it.
	if h.mark(w.Header(), v) {
		notFresh.write(w)
		return
	}
	etag, text, err := h.buildList(r.Context(), entry, v)
	if err != nil {
		noSigner.write(w)
		return
	}
	w.Header()["Etag"] = []string{etag}
	if matches(r.Header["If-None-Match"], etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	send(w, jwtType, []byte(text))
}

// buildList builds a merchant's list once for each revision, and anew before the last one expires.
func (h *Handler) buildList(ctx context.Context, entry *tenant, v *view) (etag, text string, err error) {
	l := &entry.list
	l.mutex.Lock()
	defer l.mutex.Unlock()
	signer := h.config.Signer
	life := time.Duration(v.Policy.Fail.MaxStale) - h.table.Age()
	kid := signer.keys.Load().current.ID
	if l.revision == v.revision && l.key == kid && time.Since(l.builtAt) < life/4 {
		return l.etag, l.text, nil
	}
	key, err := signer.ListKey(ctx, v.ID)
	if err != nil {
		return "", "", err
	}
	now := time.Now()
	all := listClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: h.config.PublicURL, Audience: jwt.ClaimStrings{v.Account}, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(life)),
		},
		Revision: v.revision, Livemode: v.Livemode, Key: base64.RawURLEncoding.EncodeToString(key),
		Features: map[shield.Level][]string{shield.Limited: v.Policy.Features.Limited, shield.Blocked: v.Policy.Features.Blocked},
		Levels:   map[string]shield.Level{},
	}
	lowered := h.table.lowered(v)
	if next := h.table.replaced(v); next != nil { // the rows went while they were read
		return "", "", errReplaced
	}
	for customer, level := range lowered {
		all.Levels[hashOf(key, customer)] = level
	}
	if text, err = signer.sign(listType, all); err != nil {
		return "", "", err
	}
	l.revision, l.key, l.builtAt, l.text = v.revision, kid, now, text
	l.etag = fmt.Sprintf(`"%s.%x"`, v.revision, now.Unix())
	return l.etag, l.text, nil
}

// hashOf stands for a customer in a list.
func hashOf(key []byte, customer string) string {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write([]byte(customer))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// lowered are a merchant's customers who have less than full access.
func (t *Table) lowered(v *view) map[string]shield.Level {
	all := map[string]shield.Level{}
	for i := range t.records {
		s := &t.records[i]
		s.mutex.RLock()
		s.each(func(record []byte) {
			if slotOf(record) != v.slot {
				return
			}
			if a := v.answerOf(record, false); a.level != shield.Full {
				all[customerOf(record)] = a.level
			}
		})
		s.mutex.RUnlock()
	}
	return all
}

// Verify opens a verdict or a list that one of these keys has signed, and returns its claims as
// JSON.
func Verify(token string, keys []SigningKey) (string, error) {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithExpirationRequired())
	parsed, err := parser.Parse(token, func(t *jwt.Token) (any, error) {
		for _, key := range keys {
			if key.ID == t.Header["kid"] {
				return key.Public, nil
			}
		}
		return nil, errors.New("no key of this server's has signed it")
	})
	if err != nil {
		return "", err
	}
	text, err := json.MarshalIndent(parsed.Claims, "", "  ")
	return string(text), err
}

func (h *Handler) jwks(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	if !h.config.Signer.ready() {
		noSigner.write(w)
		return
	}
	send(w, jsonType, h.config.Signer.keys.Load().jwks)
}
