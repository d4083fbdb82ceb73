// Package bench measures PHANTOM beside its peers. It is a module of its own, so that the peers
// stay out of the program's go.mod.
//
//	go run ./cmd/ratios       a table of ratios, exit code 1 if one misses its bar
//	go test -bench .          the same pairs for pprof and benchstat
package bench

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"phantom/vault"
)

// Pair is one thing done in two ways. Ours may take at most Bar times as long as the peer.
type Pair struct {
	Name       string
	Ours, Peer func() error
	Bar        float64
}

// Sizes of real values: a token of 100 bytes, the context "merchants.access_token:acct_1234".
var token = "sk_live_" + strings.Repeat("x", 92)

const tokenContext = "merchants.access_token:acct_1234"

func newRing() (*vault.Keyring, []byte, error) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	key, err := vault.ParseKey(hex.EncodeToString(raw))
	if err != nil {
		return nil, nil, err
	}
	ring, err := vault.NewKeyring(key)
	return ring, raw, err
}

// Vault compares bytes with Tink, and values in hex, as they go to the database, with the bare
// cipher.
func Vault() ([]Pair, error) {
	ring, raw, err := newRing()
	if err != nil {
		return nil, err
	}
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	tink, err := aead.New(handle)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	bare, err := cipher.NewGCMWithNonceSize(block, 16)
	if err != nil {
		return nil, err
	}
	plaintext, context := []byte(token), []byte(tokenContext)
	sealBare := func() []byte {
		out := make([]byte, 16, 16+len(token)+16)
		_, _ = rand.Read(out)
		return bare.Seal(out, out, plaintext, context)
	}
	ourBytes, err := ring.SealBytes(nil, plaintext, tokenContext)
	if err != nil {
		return nil, err
	}
	tinkBytes, err := tink.Encrypt(plaintext, context)
	if err != nil {
		return nil, err
	}
	sealed, err := ring.Seal(token, tokenContext)
	if err != nil {
		return nil, err
	}
	bareBytes := sealBare()
	keyID := ring.KeyID()

	return []Pair{
		{
			Name: "seal, beside Tink AES256-GCM", Bar: 1.1,
			Ours: func() error { _, err := ring.SealBytes(nil, plaintext, tokenContext); return err },
			Peer: func() error { _, err := tink.Encrypt(plaintext, context); return err },
		},
		{
			Name: "open, beside Tink AES256-GCM", Bar: 1.1,
			Ours: func() error { _, err := ring.OpenBytes(nil, ourBytes, keyID, tokenContext); return err },
			Peer: func() error { _, err := tink.Decrypt(tinkBytes, context); return err },
		},
		{
			Name: "seal to hex, beside bare crypto/cipher", Bar: 2.5,
			Ours: func() error { _, err := ring.Seal(token, tokenContext); return err },
			Peer: func() error { sealBare(); return nil },
		},
		{
			Name: "open from hex, beside bare crypto/cipher", Bar: 2.5,
			Ours: func() error { _, err := ring.Open(sealed); return err },
			Peer: func() error { _, err := bare.Open(nil, bareBytes[:16], bareBytes[16:], context); return err },
		},
	}, nil
}
