package vault

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"unsafe"
)

// Keyring seals under one key and opens under several. It is safe for concurrent use.
type Keyring struct {
	current *sealer
	sealers []*sealer // the current one first

	seals, opened atomic.Uint64
}

// sealer keeps the AEAD of one key: building it anew for each value costs more than sealing.
type sealer struct {
	id   string
	aead cipher.AEAD
}

// ErrOpen is returned when a value does not open: it was changed, belongs to another context or was
// sealed under another key.
var ErrOpen = errors.New("sealed value does not open: changed, moved from its place, or sealed under another key")

// UnknownKeyError says that a value was sealed under a key that the keyring does not hold.
type UnknownKeyError struct{ KeyID string }

func (e UnknownKeyError) Error() string {
	return fmt.Sprintf("sealed under key id %.16q, which is not in the keyring", e.KeyID)
}

// NewKeyring returns a keyring that seals under current and opens under current and previous. Two
// keys with one id are an error.
func NewKeyring(current Key, previous ...Key) (*Keyring, error) {
	ring := &Keyring{}
	keys := make(map[string]Key)
	for _, key := range append([]Key{current}, previous...) {
		if key.reveal == nil {
			return nil, ErrMalformedKey
		}
		id := key.ID()
		if twin, ok := keys[id]; ok {
			if *twin.reveal() != *key.reveal() {
				return nil, fmt.Errorf("two different keys have the key id %s: replace one of them", id)
			}
			continue
		}
		keys[id] = key
		aead, err := key.aead()
		if err != nil {
			return nil, fmt.Errorf("prepare key %s: %w", id, err)
		}
		ring.sealers = append(ring.sealers, &sealer{id: id, aead: aead})
	}
	ring.current = ring.sealers[0]
	return ring, nil
}

// KeyID is the id of the key that the keyring seals under.
func (k *Keyring) KeyID() string { return k.current.id }

// Seals is how many values the keyring has sealed since it was made.
func (k *Keyring) Seals() uint64 { return k.seals.Load() }

// Opened is how many values it has opened.
func (k *Keyring) Opened() uint64 { return k.opened.Load() }

// Opens reports whether the keyring holds the key with this id.
func (k *Keyring) Opens(keyID string) bool { return k.find(keyID) != nil }

func (k *Keyring) find(keyID string) *sealer {
	for _, s := range k.sealers {
		if s.id == keyID {
			return s
		}
	}
	return nil
}

// Sealed is one encrypted value as the database type sealed_token holds it. Ciphertext, IV and Tag
// are lower-case hex, IV and Tag of 32 characters each.
type Sealed struct {
	Ciphertext, IV, Tag, KeyID, Context string
}

// Seal encrypts plaintext for one place. Neither may be empty.
func (k *Keyring) Seal(plaintext, context string) (Sealed, error) {
	if context == "" {
		return Sealed{}, errors.New("seal: the context is empty")
	}
	if plaintext == "" {
		return Sealed{}, fmt.Errorf("seal %q: nothing to seal", context)
	}
	text := k.sealHex(plaintext, context)
	return Sealed{
		Ciphertext: text[2*ivSize : len(text)-2*tagSize],
		IV:         text[:2*ivSize],
		Tag:        text[len(text)-2*tagSize:],
		KeyID:      k.current.id,
		Context:    context,
	}, nil
}

// Open decrypts what Seal returned. Every field must have exactly the shape that Seal gives it.
func (k *Keyring) Open(sealed Sealed) (string, error) {
	if sealed.Context == "" || sealed.Ciphertext == "" {
		return "", ErrOpen
	}
	s := k.find(sealed.KeyID)
	if s == nil {
		return "", UnknownKeyError{sealed.KeyID}
	}
	plaintext, err := s.openHex(sealed.IV, sealed.Ciphertext, sealed.Tag, sealed.Context)
	if err != nil {
		return "", fmt.Errorf("open %.200q: %w", sealed.Context, err)
	}
	k.opened.Add(1)
	return plaintext, nil
}

// Encrypt returns the string form iv:authTag:encryptedContent, in lower-case hex, without a
// context: what Node's crypto writes and reads as aes-256-gcm with a 16-byte IV and authTagLength
// 16. Columns are sealed with [Keyring.Seal] instead.
func (k *Keyring) Encrypt(text string) (string, error) {
	hexed := k.sealHex(text, "")
	tagAt := len(hexed) - 2*tagSize
	return hexed[:2*ivSize] + ":" + hexed[tagAt:] + ":" + hexed[2*ivSize:tagAt], nil
}

// Decrypt opens the string form with whichever of its keys fits. Anything that Encrypt would not
// write is [ErrOpen].
func (k *Keyring) Decrypt(text string) (string, error) {
	iv, rest, ok := strings.Cut(text, ":")
	if !ok {
		return "", ErrOpen
	}
	tag, ciphertext, ok := strings.Cut(rest, ":")
	if !ok {
		return "", ErrOpen
	}
	for _, s := range k.sealers {
		if plaintext, err := s.openHex(iv, ciphertext, tag, ""); err == nil {
			k.opened.Add(1)
			return plaintext, nil
		}
	}
	return "", ErrOpen
}

// SealBytes encrypts plaintext for one place and appends iv ‖ ciphertext ‖ tag to dst:
// [Keyring.Seal] before hex. An empty context is an error.
func (k *Keyring) SealBytes(dst, plaintext []byte, context string) ([]byte, error) {
	if context == "" {
		return nil, errors.New("seal: the context is empty")
	}
	k.seals.Add(1)
	return k.current.seal(dst, plaintext, bytesOf(context)), nil
}

// OpenBytes decrypts what SealBytes wrote under the key with this id and appends the plaintext to
// dst.
func (k *Keyring) OpenBytes(dst, sealed []byte, keyID, context string) ([]byte, error) {
	s := k.find(keyID)
	if s == nil {
		return nil, UnknownKeyError{keyID}
	}
	if len(sealed) < ivSize+tagSize || context == "" {
		return nil, ErrOpen
	}
	plaintext, err := s.aead.Open(dst, sealed[:ivSize], sealed[ivSize:], bytesOf(context))
	if err != nil {
		return nil, ErrOpen
	}
	k.opened.Add(1)
	return plaintext, nil
}

// sealHex is seal in lower-case hex. The hex stands behind the raw bytes in one buffer, and the
// fields are cut out of one string.
func (k *Keyring) sealHex(plaintext, context string) string {
	k.seals.Add(1)
	size := ivSize + len(plaintext) + tagSize
	raw := k.current.seal(make([]byte, 0, 3*size), bytesOf(plaintext), bytesOf(context))
	text := raw[size : 3*size]
	hex.Encode(text, raw)
	return stringOf(text)
}

// seal appends iv ‖ ciphertext ‖ tag to dst.
func (s *sealer) seal(dst, plaintext, aad []byte) []byte {
	start, end := len(dst), len(dst)+ivSize+len(plaintext)+tagSize
	if cap(dst) < end {
		dst = append(make([]byte, 0, end), dst...)
	}
	iv := dst[start : start+ivSize]
	_, _ = rand.Read(iv) // never fails since Go 1.24: it ends the process instead
	return s.aead.Seal(dst[:start+ivSize], iv, plaintext, aad)
}

// bytesOf shares the memory of text with an AEAD, which only reads it. Copying would cost a third
// of a seal.
func bytesOf(text string) []byte {
	return unsafe.Slice(unsafe.StringData(text), len(text)) //nolint:gosec // one of two uses
}

// stringOf takes over raw, to which nobody may write any more.
func stringOf(raw []byte) string {
	return unsafe.String(unsafe.SliceData(raw), len(raw)) //nolint:gosec // see bytesOf
}

// openHex refuses upper-case hex, so that no two texts open as one value.
func (s *sealer) openHex(iv, ciphertext, tag, context string) (string, error) {
	if len(iv) != 2*ivSize || len(tag) != 2*tagSize || len(ciphertext)%2 != 0 {
		return "", ErrOpen
	}
	raw := make([]byte, ivSize+len(ciphertext)/2+tagSize)
	tagAt := len(raw) - tagSize
	if !unhex(raw[:ivSize], iv) || !unhex(raw[ivSize:tagAt], ciphertext) || !unhex(raw[tagAt:], tag) {
		return "", ErrOpen
	}
	plaintext, err := s.aead.Open(raw[ivSize:ivSize], raw[:ivSize], raw[ivSize:], bytesOf(context))
	if err != nil {
		return "", ErrOpen
	}
	return stringOf(plaintext), nil
}

// unhex decodes lower-case hex of exactly 2*len(dst) characters.
func unhex(dst []byte, text string) bool {
	for i := range dst {
		high, low := nibble[text[2*i]], nibble[text[2*i+1]]
		if high|low > 0x0f {
			return false
		}
		dst[i] = high<<4 | low
	}
	return true
}

// nibble is the value of each lower-case hex digit, 0xff for every other byte.
var nibble = func() (table [256]byte) {
	for i := range table {
		table[i] = 0xff
	}
	for i, digit := range []byte("0123456789abcdef") {
		table[digit] = byte(i)
	}
	return table
}()
