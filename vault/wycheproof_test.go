package vault

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"testing"

	"github.com/c2sp/wycheproof"
)

// hexBytes is a field of Project Wycheproof's JSON.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type vector struct {
	ID      int      `json:"tcId"`
	Key     hexBytes `json:"key"`
	IV      hexBytes `json:"iv"`
	AAD     hexBytes `json:"aad"`
	Message hexBytes `json:"msg"`
	Cipher  hexBytes `json:"ct"`
	Tag     hexBytes `json:"tag"`
	Result  string   `json:"result"`
	Comment string   `json:"comment"`
}

// aes256Vectors are the AES-GCM cases with a 256-bit key.
func aes256Vectors(t *testing.T) []vector {
	t.Helper()
	raw, err := fs.ReadFile(wycheproof.TestVectors, "aes_gcm_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		TestGroups []struct {
			KeySize int
			TagSize int
			Tests   []vector
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	for _, group := range file.TestGroups {
		if group.KeySize != 8*keySize {
			continue
		}
		if group.TagSize != 8*tagSize {
			t.Fatalf("a group has tags of %d bits", group.TagSize)
		}
		vectors = append(vectors, group.Tests...)
	}
	return vectors
}

func TestWycheproof(t *testing.T) {
	t.Parallel()
	ran := map[string]int{}
	for _, v := range aes256Vectors(t) {
		switch len(v.IV) {
		case 0:
			block, err := aes.NewCipher(v.Key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := cipher.NewGCMWithNonceSize(block, 0); err == nil || v.Result != "invalid" {
				t.Errorf("case %d: an empty IV was taken", v.ID)
			}
			ran["empty IV, refused"]++
		case ivSize:
			checkKeyringVector(t, v)
			ran["16-byte IV, keyring"]++
		default:
			block, err := aes.NewCipher(v.Key)
			if err != nil {
				t.Fatal(err)
			}
			aead, err := cipher.NewGCMWithNonceSize(block, len(v.IV))
			if err != nil {
				t.Fatal(err)
			}
			checkVector(t, v, aead)
			ran["other IV, crypto/cipher"]++
		}
		ran[v.Result]++
	}
	t.Logf("ran %v", ran)
	for name, expected := range map[string]int{
		"16-byte IV, keyring": 19, "other IV, crypto/cipher": 84, "empty IV, refused": 2, "valid": 76, "invalid": 29,
	} {
		if ran[name] < expected {
			t.Errorf("%s: %d vectors ran, expected %d", name, ran[name], expected)
		}
	}
}

func checkVector(t *testing.T, v vector, aead cipher.AEAD) {
	t.Helper()
	sealed := append(bytes.Clone(v.Cipher), v.Tag...)
	if got := aead.Seal(nil, v.IV, v.Message, v.AAD); bytes.Equal(got, sealed) != (v.Result == "valid") {
		t.Errorf("case %d (%s, %s): sealed to %x, expected %x", v.ID, v.Result, v.Comment, got, sealed)
	}
	opened, err := aead.Open(nil, v.IV, sealed, v.AAD)
	if (err == nil) != (v.Result == "valid") {
		t.Errorf("case %d (%s, %s): open: %v", v.ID, v.Result, v.Comment, err)
	}
	if err == nil && !bytes.Equal(opened, v.Message) {
		t.Errorf("case %d (%s): opened to %x, expected %x", v.ID, v.Comment, opened, v.Message)
	}
}

// checkKeyringVector also opens the vector by each method of the keyring that takes its additional
// data.
func checkKeyringVector(t *testing.T, v vector) {
	t.Helper()
	ring, err := NewKeyring(newKey(v.Key))
	if err != nil {
		t.Fatal(err)
	}
	checkVector(t, v, ring.current.aead)

	check := func(method, opened string, err error) {
		t.Helper()
		if (err == nil) != (v.Result == "valid") || err == nil && opened != string(v.Message) {
			t.Errorf("case %d (%s, %s): %s gave %x, %v", v.ID, v.Result, v.Comment, method, opened, err)
		}
	}
	iv, ciphertext, tag := hex.EncodeToString(v.IV), hex.EncodeToString(v.Cipher), hex.EncodeToString(v.Tag)
	if len(v.AAD) == 0 {
		opened, err := ring.Decrypt(iv + ":" + tag + ":" + ciphertext)
		check("Decrypt", opened, err)
		return
	}
	opened, err := ring.OpenBytes(nil, bytes.Join([][]byte{v.IV, v.Cipher, v.Tag}, nil), ring.KeyID(), string(v.AAD))
	check("OpenBytes", string(opened), err)
	if len(v.Cipher) > 0 {
		opened, err := ring.Open(Sealed{Ciphertext: ciphertext, IV: iv, Tag: tag, KeyID: ring.KeyID(), Context: string(v.AAD)})
		check("Open", opened, err)
	}
}

// The boot self-test's known answer is the published one.
func TestKnownAnswerIsPublished(t *testing.T) {
	t.Parallel()
	for _, v := range aes256Vectors(t) {
		if hex.EncodeToString(v.Key) == knownKey && hex.EncodeToString(v.IV) == knownIV &&
			hex.EncodeToString(v.Message) == knownPlaintext && hex.EncodeToString(v.Cipher) == knownCiphertext &&
			hex.EncodeToString(v.Tag) == knownTag && len(v.AAD) == 0 && v.Result == "valid" {
			return
		}
	}
	t.Error("no Wycheproof vector equals the self-test's known answer")
}
