package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	keySize = 32 // AES-256
	ivSize  = 16
	tagSize = 16
)

// Key is an AES-256 key. It formats as [REDACTED]. The zero Key is none.
type Key struct {
	// A closure and not a pointer: fmt follows a pointer in somebody's unexported field when the
	// verb does not fit.
	reveal func() *[keySize]byte
}

// ErrMalformedKey is returned for every key that is not one of the accepted forms. It never quotes
// the key.
var ErrMalformedKey = errors.New("malformed key: provide 64 hex characters (openssl rand -hex 32) or base64 of exactly 32 bytes")

// ParseKey reads a key of 64 hex characters, or of base64 (standard or URL alphabet, padded or not)
// of exactly 32 bytes. One trailing newline is removed. Anything else is [ErrMalformedKey]: a key
// is never hashed, padded or cut.
func ParseKey(text string) (Key, error) {
	if line, ok := strings.CutSuffix(text, "\n"); ok {
		text = strings.TrimSuffix(line, "\r")
	}
	if len(text) == hex.EncodedLen(keySize) {
		if raw, err := hex.DecodeString(text); err == nil {
			return newKey(raw), nil
		}
		return Key{}, ErrMalformedKey
	}
	if strings.ContainsAny(text, "\r\n") { // the decoder below would skip them
		return Key{}, ErrMalformedKey
	}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if raw, err := encoding.Strict().DecodeString(text); err == nil && len(raw) == keySize {
			return newKey(raw), nil
		}
	}
	return Key{}, ErrMalformedKey
}

func newKey(raw []byte) Key {
	bytes := [keySize]byte(raw)
	return Key{func() *[keySize]byte { return &bytes }}
}

// ID names a key without revealing it: the first 8 hex digits of SHA-256("phantom-key-id" ‖ key).
func (k Key) ID() string {
	sum := sha256.Sum256(append([]byte("phantom-key-id"), k.reveal()[:]...))
	return hex.EncodeToString(sum[:4])
}

// Format writes [REDACTED] for every verb.
func (k Key) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

func (k Key) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(k.reveal()[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithNonceSize(block, ivSize)
}
