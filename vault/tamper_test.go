package vault_test

import (
	"errors"
	"flag"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"phantom/vault"
)

var flips = flag.Int("flips", 50_000, "changes of sealed values that TestEveryChangeIsDetected tries at least; the long mode is 1000000 or more")

// tamperer counts changes and those that went undetected.
type tamperer struct {
	t     *testing.T
	ring  *vault.Keyring
	count int
}

func (m *tamperer) refused(err error, format string, args ...any) {
	m.count++
	var unknown vault.UnknownKeyError
	if !errors.Is(err, vault.ErrOpen) && !errors.As(err, &unknown) {
		m.t.Helper()
		m.t.Fatalf("undetected: "+format+": %v", append(args, err)...)
	}
}

func TestEveryChangeIsDetected(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	m := &tamperer{t: t, ring: newRing(t, keyA, keyB)}
	records := 0
	for m.count < *flips {
		plaintext := randomText(random)
		m.bits(plaintext+"x", place+randomText(random))
		m.characters(plaintext + "x")
		records++
	}
	t.Logf("%d changes of %d records, none undetected (seed %d)", m.count, records, seed)
}

// bits flips every bit of the binary form, the key id and the context.
func (m *tamperer) bits(plaintext, context string) {
	sealed, err := m.ring.SealBytes(nil, []byte(plaintext), context)
	if err != nil {
		m.t.Fatal(err)
	}
	flipBits(sealed, func(changed []byte) {
		_, err := m.ring.OpenBytes(nil, changed, idA, context)
		m.refused(err, "iv, ciphertext and tag %x", changed)
	})
	flipBits([]byte(context), func(changed []byte) {
		_, err := m.ring.OpenBytes(nil, sealed, idA, string(changed))
		m.refused(err, "context %q instead of %q", changed, context)
	})
	flipBits([]byte(idA), func(changed []byte) {
		_, err := m.ring.OpenBytes(nil, sealed, string(changed), context)
		m.refused(err, "key id %q", changed)
	})
	if opened, err := m.ring.OpenBytes(nil, sealed, idA, context); err != nil || string(opened) != plaintext {
		m.t.Fatalf("the unchanged value opened to %q, %v", opened, err)
	}
}

func flipBits(raw []byte, try func(changed []byte)) {
	for bit := range 8 * len(raw) {
		raw[bit/8] ^= 1 << (bit % 8)
		try(raw)
		raw[bit/8] ^= 1 << (bit % 8)
	}
}

// characters puts another character in every position of the string form and of the hex fields: all
// that are one bit away, which holds the other case of a letter, and some that hex decoders and
// parsers take for something else.
func (m *tamperer) characters(plaintext string) {
	text, err := m.ring.Encrypt(plaintext)
	if err != nil {
		m.t.Fatal(err)
	}
	replaceCharacters(text, func(changed string) {
		_, err := m.ring.Decrypt(changed)
		m.refused(err, "string form %q instead of %q", changed, text)
	})
	if opened, err := m.ring.Decrypt(text); err != nil || opened != plaintext {
		m.t.Fatalf("the unchanged string opened to %q, %v", opened, err)
	}

	sealed, err := m.ring.Seal(plaintext, place)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, field := range fields(&sealed) {
		good := *field
		replaceCharacters(good, func(changed string) {
			*field = changed
			_, err := m.ring.Open(sealed)
			m.refused(err, "%q instead of %q", changed, good)
		})
		*field = good
	}
	if opened, err := m.ring.Open(sealed); err != nil || opened != plaintext {
		m.t.Fatalf("the unchanged value opened to %q, %v", opened, err)
	}
}

func replaceCharacters(text string, try func(changed string)) {
	for i, old := range []byte(text) {
		others := []byte("0f\x00 :g")
		for bit := range 8 {
			others = append(others, old^1<<bit)
		}
		for _, other := range others {
			if other != old {
				try(text[:i] + string([]byte{other}) + text[i+1:])
			}
		}
	}
}

func fields(sealed *vault.Sealed) []*string {
	return []*string{&sealed.Ciphertext, &sealed.IV, &sealed.Tag, &sealed.KeyID, &sealed.Context}
}

func TestTagLengths(t *testing.T) {
	t.Parallel()
	ring := newRing(t, keyA)
	for _, plaintext := range []string{"x", "sixteen bytes ok", "longer than one block of AES and a bit"} {
		sealed, err := ring.Seal(plaintext, place)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := ring.SealBytes(nil, []byte(plaintext), place)
		if err != nil {
			t.Fatal(err)
		}
		text, err := ring.Encrypt(plaintext)
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(text, ":")
		if len(parts) != 3 || len(parts[1]) != 32 {
			t.Fatalf("string form %q", text)
		}
		fullTag, extendedRaw := sealed.Tag, append(raw[:len(raw):len(raw)], make([]byte, 15)...)
		for length := range 32 {
			check := func(form string, err error) {
				t.Helper()
				if (err == nil) != (length == 16) || err != nil && !errors.Is(err, vault.ErrOpen) {
					t.Errorf("%s, tag of %d bytes: %v", form, length, err)
				}
			}
			_, err := ring.OpenBytes(nil, extendedRaw[:len(raw)-16+length], idA, place)
			check("bytes", err)
			sealed.Tag = (fullTag + strings.Repeat("00", 15))[:2*length]
			_, err = ring.Open(sealed)
			check("hex", err)
			_, err = ring.Decrypt(parts[0] + ":" + (parts[1] + strings.Repeat("00", 15))[:2*length] + ":" + parts[2])
			check("string form", err)
		}
	}
}

func TestMisshapenFieldsAreRefused(t *testing.T) {
	t.Parallel()
	ring := newRing(t, keyA)
	good, err := ring.Seal("a secret of some length", place)
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]func(string) string{
		"empty":              func(string) string { return "" },
		"first digit cut":    func(s string) string { return s[1:] },
		"first byte cut":     func(s string) string { return s[2:] },
		"last digit cut":     func(s string) string { return s[:len(s)-1] },
		"last byte cut":      func(s string) string { return s[:len(s)-2] },
		"digit before":       func(s string) string { return "0" + s },
		"byte before":        func(s string) string { return "00" + s },
		"digit after":        func(s string) string { return s + "0" },
		"byte after":         func(s string) string { return s + "00" },
		"newline after":      func(s string) string { return s + "\n" },
		"space after":        func(s string) string { return s + " " },
		"NUL after":          func(s string) string { return s + "\x00" },
		"space before":       func(s string) string { return " " + s },
		"0x":                 func(s string) string { return "0x" + s },
		"0x, length kept":    func(s string) string { return "0x" + s[2:] },
		`\x`:                 func(s string) string { return `\x` + s },
		"upper case":         strings.ToUpper,
		"twice":              func(s string) string { return s + s },
		"fullwidth digit":    func(s string) string { return "１" + s[1:] },
		"plaintext":          func(string) string { return "a secret of some length" },
		"fullwidth, in size": func(s string) string { return "１" + s[3:] },
	}
	var unknown vault.UnknownKeyError
	for name, change := range changes {
		sealed := good
		for i, field := range fields(&sealed) {
			was := *field
			*field = change(was)
			if *field == was { // no letter to make upper case
				continue
			}
			opened, err := ring.Open(sealed)
			if opened != "" || !errors.Is(err, vault.ErrOpen) && !errors.As(err, &unknown) {
				t.Errorf("%s in field %d: %q, %v", name, i, opened, err)
			}
			if i == 3 && !errors.As(err, &unknown) {
				t.Errorf("key id, %s: %v", name, err)
			}
			if err != nil && strings.Contains(err.Error(), good.Ciphertext) {
				t.Errorf("%s in field %d: the error quotes the ciphertext", name, i)
			}
			*field = was
		}
	}
	if _, err := ring.Open(vault.Sealed{}); err == nil {
		t.Error("an empty value opened")
	}
	// Bytes that change places between the fields leave their sum as it was.
	moved := good
	moved.IV, moved.Ciphertext = good.IV[:30], good.IV[30:]+good.Ciphertext
	if _, err := ring.Open(moved); !errors.Is(err, vault.ErrOpen) {
		t.Errorf("IV cut before its end: %v", err)
	}
	moved = good
	moved.Ciphertext, moved.Tag = good.Ciphertext+good.Tag[:2], good.Tag[2:]
	if _, err := ring.Open(moved); !errors.Is(err, vault.ErrOpen) {
		t.Errorf("tag begun late: %v", err)
	}
}

func TestMisshapenStringFormsAreRefused(t *testing.T) {
	t.Parallel()
	ring := newRing(t, keyA)
	good, err := ring.Encrypt("a secret of some length")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ":")
	if len(parts) != 3 {
		t.Fatalf("%q has %d parts", good, len(parts))
	}
	iv, tag, ciphertext := parts[0], parts[1], parts[2]
	for _, text := range []string{
		"", ":", "::", ":::", "a secret of some length", iv, iv + ":" + tag, iv + ":" + tag + ":", iv + ":" + ciphertext,
		"::" + ciphertext, ":" + tag + ":" + ciphertext, iv + "::" + ciphertext,
		good + ":", ":" + good, good + ":" + ciphertext, iv + ":" + good, good + good,
		iv + ":" + ciphertext + ":" + tag, tag + ":" + iv + ":" + ciphertext, ciphertext + ":" + tag + ":" + iv,
		strings.ToUpper(iv) + ":" + tag + ":" + ciphertext,
		iv + ":" + strings.ToUpper(tag) + ":" + ciphertext,
		iv + ":" + tag + ":" + strings.ToUpper(ciphertext),
		strings.ReplaceAll(good, ":", "."), strings.ReplaceAll(good, ":", ""), strings.ReplaceAll(good, ":", " : "),
		good + "\n", "\n" + good, good + " ", " " + good, good + "\x00", good + "0", good + "00",
		good[:len(good)-1], good[:len(good)-2], good[1:], good[2:], "0x" + good, "00" + good,
	} {
		if text == good { // no letter to make upper case
			continue
		}
		if opened, err := ring.Decrypt(text); !errors.Is(err, vault.ErrOpen) || opened != "" {
			t.Errorf("%q opened to %q, %v", text, opened, err)
		}
	}
	for length := range len(good) {
		if opened, err := ring.Decrypt(good[:length]); !errors.Is(err, vault.ErrOpen) {
			t.Errorf("the first %d characters opened to %q, %v", length, opened, err)
		}
	}
	if opened, err := ring.Decrypt(good); err != nil || opened != "a secret of some length" {
		t.Errorf("the whole opened to %q, %v", opened, err)
	}
}

func TestShortBytesAreRefused(t *testing.T) {
	t.Parallel()
	ring := newRing(t, keyA)
	sealed, err := ring.SealBytes(nil, []byte("secret"), place)
	if err != nil {
		t.Fatal(err)
	}
	for length := range len(sealed) {
		if opened, err := ring.OpenBytes(nil, sealed[:length], idA, place); !errors.Is(err, vault.ErrOpen) {
			t.Errorf("the first %d bytes opened to %q, %v", length, opened, err)
		}
	}
}
