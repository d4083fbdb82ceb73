package vault

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
)

// FuzzDecrypt: what opens is exactly what Encrypt writes for that IV, so no two strings open as
// one value.
func FuzzDecrypt(f *testing.F) {
	raw, err := hex.DecodeString(knownKey)
	if err != nil {
		f.Fatal(err)
	}
	ring, err := NewKeyring(newKey(raw))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("")
	f.Add("::")
	f.Add("sk_live_plain_text")
	f.Add(knownIV + ":" + knownTag + ":" + knownCiphertext)
	f.Add(strings.ToUpper(knownIV) + ":" + knownTag + ":" + knownCiphertext)
	f.Add(knownIV + ":" + knownTag[:24] + ":" + knownCiphertext)
	for _, plaintext := range []string{"", "x", "ünï ☃ 🎉\r\n", strings.Repeat("long", 100)} {
		text, err := ring.Encrypt(plaintext)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		f.Add(text + "00")
		f.Add(text[:len(text)-1])
	}
	f.Fuzz(func(t *testing.T, text string) {
		plaintext, err := ring.Decrypt(text)
		if err != nil {
			if plaintext != "" {
				t.Errorf("%q came with the error %v", plaintext, err)
			}
			return
		}
		iv, err := hex.DecodeString(text[:2*ivSize])
		if err != nil {
			t.Fatalf("%q opened: %v", text, err)
		}
		sealed := ring.current.aead.Seal(nil, iv, []byte(plaintext), nil)
		tagAt := len(sealed) - tagSize
		if again := hex.EncodeToString(iv) + ":" + hex.EncodeToString(sealed[tagAt:]) + ":" + hex.EncodeToString(sealed[:tagAt]); again != text {
			t.Errorf("%q opened, which is written %q", text, again)
		}
	})
}

// FuzzParseKey: what parses is the key in one of the accepted forms and at most one newline.
func FuzzParseKey(f *testing.F) {
	raw, err := hex.DecodeString(knownKey)
	if err != nil {
		f.Fatal(err)
	}
	for _, form := range keyForms(raw) {
		f.Add(form)
		f.Add(form + "\n")
		f.Add(form + "\r\n")
		f.Add(form + " ")
		f.Add(form[:len(form)-1])
	}
	f.Add(strings.ToUpper(knownKey))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := ParseKey(text)
		if err != nil {
			if !errors.Is(err, ErrMalformedKey) || key.reveal != nil {
				t.Errorf("key %v, error %v", key, err)
			}
			return
		}
		body, newline := strings.CutSuffix(text, "\n")
		if newline {
			body = strings.TrimSuffix(body, "\r")
		}
		if len(body) == 2*keySize {
			body = strings.ToLower(body)
		}
		for _, decode := range []func(string) ([]byte, error){
			hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
			base64.URLEncoding.DecodeString, base64.RawURLEncoding.DecodeString,
		} {
			raw, err := decode(body)
			if err == nil && len(raw) == keySize && slices.Contains(keyForms(raw), body) && newKey(raw).ID() == key.ID() {
				return
			}
		}
		t.Errorf("%q was taken for a key", text)
	})
}

func keyForms(raw []byte) []string {
	return []string{
		hex.EncodeToString(raw),
		base64.StdEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw),
		base64.URLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
	}
}
