package vault

import (
	"crypto/cipher"
	"errors"
	"strings"
	"testing"
)

// brokenAEAD is an AEAD with one fault.
type brokenAEAD struct {
	cipher.AEAD
	seal func(good cipher.AEAD, dst, iv, plaintext, aad []byte) []byte
	open func(good cipher.AEAD, dst, iv, sealed, aad []byte) ([]byte, error)
}

func (b brokenAEAD) Seal(dst, iv, plaintext, aad []byte) []byte {
	if b.seal == nil {
		return b.AEAD.Seal(dst, iv, plaintext, aad)
	}
	return b.seal(b.AEAD, dst, iv, plaintext, aad)
}

func (b brokenAEAD) Open(dst, iv, sealed, aad []byte) ([]byte, error) {
	if b.open == nil {
		return b.AEAD.Open(dst, iv, sealed, aad)
	}
	return b.open(b.AEAD, dst, iv, sealed, aad)
}

func twoKeys(t *testing.T) *Keyring {
	t.Helper()
	ring, err := NewKeyring(newKey([]byte(strings.Repeat("a", keySize))), newKey([]byte(strings.Repeat("b", keySize))))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestSelfTest(t *testing.T) {
	t.Parallel()
	if err := twoKeys(t).SelfTest(); err != nil {
		t.Error(err)
	}
}

func TestSelfTestNamesTheFailure(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, step string
		broken     brokenAEAD
	}{
		{"ignores the tag", "flipped tag", brokenAEAD{
			// GCM is its own inverse but for the tag.
			open: func(good cipher.AEAD, dst, iv, sealed, aad []byte) ([]byte, error) {
				plaintext := good.Seal(dst, iv, sealed[:len(sealed)-tagSize], aad)
				return plaintext[:len(plaintext)-tagSize], nil
			},
		}},
		{"ignores the tag's last byte", "flipped tag", brokenAEAD{
			open: func(good cipher.AEAD, dst, iv, sealed, aad []byte) ([]byte, error) {
				plaintext := good.Seal(nil, iv, sealed[:len(sealed)-tagSize], aad)
				plaintext = plaintext[:len(plaintext)-tagSize]
				expected := good.Seal(nil, iv, plaintext, aad)
				if string(expected[:len(expected)-1]) != string(sealed[:len(sealed)-1]) {
					return nil, errors.New("authentication failed")
				}
				return append(dst, plaintext...), nil
			},
		}},
		{"ignores the context", "wrong context", brokenAEAD{
			seal: func(good cipher.AEAD, dst, iv, plaintext, _ []byte) []byte { return good.Seal(dst, iv, plaintext, nil) },
			open: func(good cipher.AEAD, dst, iv, sealed, _ []byte) ([]byte, error) {
				return good.Open(dst, iv, sealed, nil)
			},
		}},
		{"cannot open", "round trip", brokenAEAD{
			open: func(cipher.AEAD, []byte, []byte, []byte, []byte) ([]byte, error) {
				return nil, errors.New("authentication failed")
			},
		}},
		{"opens to something else", "round trip", brokenAEAD{
			open: func(good cipher.AEAD, dst, iv, sealed, aad []byte) ([]byte, error) {
				plaintext, err := good.Open(dst, iv, sealed, aad)
				return append(plaintext, '!'), err
			},
		}},
		{"seals under another IV", "round trip", brokenAEAD{
			seal: func(good cipher.AEAD, dst, _, plaintext, aad []byte) []byte {
				return good.Seal(dst, make([]byte, ivSize), plaintext, aad)
			},
		}},
		{"does not encrypt", "flipped tag", brokenAEAD{
			seal: func(_ cipher.AEAD, dst, _, plaintext, _ []byte) []byte {
				return append(append(dst, plaintext...), make([]byte, tagSize)...)
			},
			open: func(_ cipher.AEAD, dst, _, sealed, _ []byte) ([]byte, error) {
				return append(dst, sealed[:len(sealed)-tagSize]...), nil
			},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for i, which := range []string{"current", "previous"} {
				ring := twoKeys(t)
				broken := test.broken
				broken.AEAD = ring.sealers[i].aead
				ring.sealers[i].aead = broken
				err := ring.SelfTest()
				if err == nil {
					t.Fatalf("%s key: the self-test passed", which)
				}
				if !strings.Contains(err.Error(), test.step) || !strings.Contains(err.Error(), ring.sealers[i].id) {
					t.Errorf("%s key %s: %v, expected the step %q", which, ring.sealers[i].id, err, test.step)
				}
			}
		})
	}
}
