package vault_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"phantom/vault"
)

const (
	keyA = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	keyB = "ffeeddccbbaa99887766554433221100f0e1d2c3b4a5968778695a4b3c2d1e0f"

	// What `(printf phantom-key-id; printf $KEY | xxd -r -p) | sha256sum | cut -c1-8` prints.
	idA = "ce5bd652"
	idB = "30ab66a6"

	place = "merchants.access_token:acct_1Phantom"
)

func newKey(t testing.TB, text string) vault.Key {
	t.Helper()
	key, err := vault.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newRing seals under the first key.
func newRing(t testing.TB, keys ...string) *vault.Keyring {
	t.Helper()
	var previous []vault.Key
	for _, text := range keys[1:] {
		previous = append(previous, newKey(t, text))
	}
	ring, err := vault.NewKeyring(newKey(t, keys[0]), previous...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestSealShapes(t *testing.T) {
	t.Parallel()
	ring := newRing(t, keyA)
	for _, plaintext := range []string{"x", "sk_live_canary", "ünï ☃ 🎉\n\r\n\x00", strings.Repeat("long ", 20_000)} {
		sealed, err := ring.Seal(plaintext, place)
		if err != nil {
			t.Fatal(err)
		}
		if sealed.KeyID != idA || sealed.Context != place || len(sealed.IV) != 32 || len(sealed.Tag) != 32 ||
			len(sealed.Ciphertext) != 2*len(plaintext) {
			t.Errorf("sealed %d bytes to %+v", len(plaintext), sealed)
		}
		all := sealed.IV + sealed.Ciphertext + sealed.Tag
		if strings.Trim(all, "0123456789abcdef") != "" {
			t.Errorf("not lower-case hex: %q", all)
		}
		if opened, err := ring.Open(sealed); err != nil || opened != plaintext {
			t.Errorf("opened to %q, %v", opened, err)
		}
		// The two forms are one format.
		raw, err := hex.DecodeString(all)
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := ring.OpenBytes([]byte("before "), raw, idA, place); err != nil || string(opened) != "before "+plaintext {
			t.Errorf("as bytes: %q, %v", opened, err)
		}
		if raw, err = ring.SealBytes([]byte("before "), []byte(plaintext), place); err != nil || !bytes.HasPrefix(raw, []byte("before ")) {
			t.Errorf("sealed bytes %x, %v", raw, err)
		}
		if opened, err := ring.OpenBytes(nil, raw[len("before "):], idA, place); err != nil || string(opened) != plaintext {
			t.Errorf("sealed and opened as bytes: %q, %v", opened, err)
		}
	}
}

func TestSealRefusesEmpty(t *testing.T) {
	t.Parallel()
	ring := newRing(t, keyA)
	if sealed, err := ring.Seal("secret", ""); err == nil {
		t.Errorf("sealed without a context: %+v", sealed)
	}
	if sealed, err := ring.Seal("", place); err == nil {
		t.Errorf("sealed nothing: %+v", sealed)
	}
	if sealed, err := ring.SealBytes(nil, []byte("secret"), ""); err == nil {
		t.Errorf("sealed bytes without a context: %x", sealed)
	}
}

func TestPreviousKeysOnlyOpen(t *testing.T) {
	t.Parallel()
	before, after, without := newRing(t, keyA), newRing(t, keyB, keyA), newRing(t, keyB)
	old, err := before.Seal("secret", place)
	if err != nil {
		t.Fatal(err)
	}
	oldBytes, err := before.SealBytes(nil, []byte("secret"), place)
	if err != nil {
		t.Fatal(err)
	}
	oldText, err := before.Encrypt("secret")
	if err != nil {
		t.Fatal(err)
	}

	if opened, err := after.Open(old); err != nil || opened != "secret" {
		t.Errorf("previous key: %q, %v", opened, err)
	}
	if opened, err := after.OpenBytes(nil, oldBytes, idA, place); err != nil || string(opened) != "secret" {
		t.Errorf("previous key, bytes: %q, %v", opened, err)
	}
	if opened, err := after.Decrypt(oldText); err != nil || opened != "secret" {
		t.Errorf("previous key, string form: %q, %v", opened, err)
	}

	renewed, err := after.Seal("secret", place)
	if err != nil {
		t.Fatal(err)
	}
	if after.KeyID() != idB || renewed.KeyID != idB {
		t.Errorf("seals under %s and %s, expected the current key %s", after.KeyID(), renewed.KeyID, idB)
	}
	if opened, err := without.Open(renewed); err != nil || opened != "secret" {
		t.Errorf("the current key alone: %q, %v", opened, err)
	}
	newText, err := after.Encrypt("secret")
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := before.Decrypt(newText); !errors.Is(err, vault.ErrOpen) {
		t.Errorf("the previous key opened a new string: %q, %v", opened, err)
	}

	if !after.Opens(idA) || !after.Opens(idB) || without.Opens(idA) || after.Opens("") {
		t.Error("Opens does not tell which keys the ring holds")
	}
	var unknown vault.UnknownKeyError
	if _, err := without.Open(old); !errors.As(err, &unknown) || unknown.KeyID != idA {
		t.Errorf("unknown key: %v", err)
	}
	if _, err := without.OpenBytes(nil, oldBytes, idA, place); !errors.As(err, &unknown) || unknown.KeyID != idA {
		t.Errorf("unknown key, bytes: %v", err)
	}
	if _, err := without.Decrypt(oldText); !errors.Is(err, vault.ErrOpen) {
		t.Errorf("unknown key, string form: %v", err)
	}

	// A key id is no more than a pointer to the key.
	old.KeyID = idB
	if _, err := after.Open(old); !errors.Is(err, vault.ErrOpen) {
		t.Errorf("sealed under one key, labelled with another: %v", err)
	}
	if _, err := after.OpenBytes(nil, oldBytes, idB, place); !errors.Is(err, vault.ErrOpen) {
		t.Errorf("sealed under one key, labelled with another, bytes: %v", err)
	}
}

func TestNewKeyring(t *testing.T) {
	t.Parallel()
	a, b := newKey(t, keyA), newKey(t, keyB)
	for _, test := range []struct {
		name     string
		current  vault.Key
		previous []vault.Key
		ok       bool
	}{
		{"one key", a, nil, true},
		{"two keys", a, []vault.Key{b}, true},
		{"current again among the previous", a, []vault.Key{newKey(t, keyA), b, newKey(t, strings.ToUpper(keyB))}, true},
		{"no current key", vault.Key{}, nil, false},
		{"no current key but a previous one", vault.Key{}, []vault.Key{a}, false},
		{"empty previous key", a, []vault.Key{{}}, false},
	} {
		ring, err := vault.NewKeyring(test.current, test.previous...)
		if (err == nil) != test.ok || (ring == nil) == test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
		if err != nil && !errors.Is(err, vault.ErrMalformedKey) {
			t.Errorf("%s: %v", test.name, err)
		}
		if err == nil && ring.KeyID() != idA {
			t.Errorf("%s: seals under %s", test.name, ring.KeyID())
		}
	}
}

// Key ids have 32 bits, so two keys with one id are found by trying some ten thousands.
func TestNewKeyringRefusesOneIDForTwoKeys(t *testing.T) {
	t.Parallel()
	seen := map[string]vault.Key{}
	for i := range uint64(1 << 20) {
		var raw [32]byte
		binary.BigEndian.PutUint64(raw[24:], i)
		key := newKey(t, hex.EncodeToString(raw[:]))
		twin, ok := seen[key.ID()]
		if !ok {
			seen[key.ID()] = key
			continue
		}
		if _, err := vault.NewKeyring(key, twin); err == nil || !strings.Contains(err.Error(), key.ID()) {
			t.Errorf("two keys with the id %s: %v", key.ID(), err)
		}
		return
	}
	t.Fatal("no two keys share an id: it is longer than 8 hex digits")
}

func TestSwappedContexts(t *testing.T) {
	t.Parallel()
	ring := newRing(t, keyA)
	contexts := []string{
		"merchants.access_token:acct_1", "merchants.access_token:acct_2", "merchants.access_token:acct_11",
		"merchants.access_token:acct_1 ", "merchants.access_token:ACCT_1", "merchants.refresh_token:acct_1",
		"merchants.access_token:", "ghost_targets.email:acct_1", "self-test",
	}
	for _, from := range contexts {
		sealed, err := ring.Seal("secret", from)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := ring.SealBytes(nil, []byte("secret"), from)
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range append([]string{""}, contexts...) {
			sealed.Context = to
			if _, err := ring.Open(sealed); (err == nil) != (from == to) || err != nil && !errors.Is(err, vault.ErrOpen) {
				t.Errorf("sealed for %q, opened for %q: %v", from, to, err)
			}
			if _, err := ring.OpenBytes(nil, raw, idA, to); (err == nil) != (from == to) || err != nil && !errors.Is(err, vault.ErrOpen) {
				t.Errorf("bytes sealed for %q, opened for %q: %v", from, to, err)
			}
		}
		if _, err := ring.Decrypt(sealed.IV + ":" + sealed.Tag + ":" + sealed.Ciphertext); !errors.Is(err, vault.ErrOpen) {
			t.Errorf("a value with a context opened as a string form: %v", err)
		}
	}
	text, err := ring.Encrypt("secret")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(text, ":")
	for _, context := range append([]string{""}, contexts...) {
		sealed := vault.Sealed{IV: parts[0], Tag: parts[1], Ciphertext: parts[2], KeyID: idA, Context: context}
		if _, err := ring.Open(sealed); !errors.Is(err, vault.ErrOpen) {
			t.Errorf("a string form opened in the place %q: %v", context, err)
		}
		raw, err := hex.DecodeString(parts[0] + parts[2] + parts[1])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ring.OpenBytes(nil, raw, idA, context); !errors.Is(err, vault.ErrOpen) {
			t.Errorf("a string form's bytes opened in the place %q: %v", context, err)
		}
	}
}

func TestIVsDoNotRepeat(t *testing.T) {
	t.Parallel()
	count := 1_000_000
	if testing.Short() {
		count = 100_000
	}
	ring := newRing(t, keyA)
	ivs := make([][16]byte, count)
	var ones [128]int
	buffer := make([]byte, 0, 64)
	for i := range ivs {
		sealed, err := ring.SealBytes(buffer, []byte("x"), place)
		if err != nil {
			t.Fatal(err)
		}
		copy(ivs[i][:], sealed)
		for bit := range ones {
			ones[bit] += int(sealed[bit/8]>>(bit%8)) & 1
		}
	}
	slices.SortFunc(ivs, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	if distinct := len(slices.Compact(ivs)); distinct != count {
		t.Errorf("%d of %d IVs repeat", count-distinct, count)
	}
	// Each bit is a fair coin: the deviation is sqrt(n)/2, and eight of them never happen.
	for bit, n := range ones {
		if d := n - count/2; d*d > 16*count {
			t.Errorf("bit %d of the IV is set %d times in %d", bit, n, count)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	ring := newRing(t, keyB, keyA)
	old, err := newRing(t, keyA).Seal("old secret", place)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 200 {
				plaintext, context := fmt.Sprintf("secret %d", i), fmt.Sprintf("%s%d", place, worker)
				sealed, err := ring.Seal(plaintext, context)
				if err != nil {
					t.Error(err)
					return
				}
				if opened, err := ring.Open(sealed); err != nil || opened != plaintext {
					t.Errorf("opened %q: %v", opened, err)
				}
				if opened, err := ring.Open(old); err != nil || opened != "old secret" {
					t.Errorf("opened %q: %v", opened, err)
				}
				text, err := ring.Encrypt(plaintext)
				if err != nil {
					t.Error(err)
					return
				}
				if opened, err := ring.Decrypt(text); err != nil || opened != plaintext {
					t.Errorf("decrypted %q: %v", opened, err)
				}
				if i%50 == 0 {
					if err := ring.SelfTest(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
}

// What was sealed and opened is counted, and what does not open is not.
func TestCounts(t *testing.T) {
	t.Parallel()
	ring := newRing(t, keyA)
	sealed, _ := ring.Seal("secret", place)
	text, _ := ring.Encrypt("secret")
	raw, _ := ring.SealBytes(nil, []byte("secret"), place)
	_, _ = ring.Seal("secret", "")
	for range 2 {
		_, _ = ring.Open(sealed)
		_, _ = ring.Decrypt(text)
		_, _ = ring.OpenBytes(nil, raw, ring.KeyID(), place)
	}
	sealed.Context = "elsewhere"
	_, _ = ring.Open(sealed)
	_, _ = ring.Decrypt(text[:40])
	_, _ = ring.OpenBytes(nil, raw, ring.KeyID(), "elsewhere")
	if ring.Seals() != 3 || ring.Opened() != 6 {
		t.Errorf("%d seals, %d opened", ring.Seals(), ring.Opened())
	}
}
