package vault_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"phantom/vault"
)

func TestParseKey(t *testing.T) {
	t.Parallel()
	const (
		stdB = "/+7dzLuqmYh3ZlVEMyIRAPDh0sO0pZaHeGlaSzwtHg8="
		urlB = "_-7dzLuqmYh3ZlVEMyIRAPDh0sO0pZaHeGlaSzwtHg8="
		// The last character of 43 carries two bits that must be 0: 8 is 111100, 9 is 111101.
		looseB = "/+7dzLuqmYh3ZlVEMyIRAPDh0sO0pZaHeGlaSzwtHg9="
	)
	for _, test := range []struct{ name, text, id string }{ // no id: refused
		{"hex", keyA, idA},
		{"hex, upper case", strings.ToUpper(keyA), idA},
		{"hex, both cases", strings.ToUpper(keyB[:32]) + keyB[32:], idB},
		{"hex, newline", keyA + "\n", idA},
		{"hex, carriage return and newline", keyA + "\r\n", idA},
		{"base64", stdB, idB},
		{"base64, unpadded", strings.TrimSuffix(stdB, "="), idB},
		{"base64, URL alphabet", urlB, idB},
		{"base64, URL alphabet, unpadded", strings.TrimSuffix(urlB, "="), idB},
		{"base64, newline", stdB + "\n", idB},
		{"base64, carriage return and newline", urlB + "\r\n", idB},
		{"base64, unpadded, newline", strings.TrimSuffix(urlB, "=") + "\n", idB},

		{"empty", "", ""},
		{"a newline alone", "\n", ""},
		{"hex, two newlines", keyA + "\n\n", ""},
		{"hex, two carriage returns and newlines", keyA + "\r\n\r\n", ""},
		{"hex, two carriage returns", keyA + "\r\r\n", ""},
		{"hex, newline before", "\n" + keyA, ""},
		{"hex, newline inside", keyA[:32] + "\n" + keyA[32:], ""},
		{"hex, newline instead of a digit", keyA[:32] + "\n" + keyA[33:], ""},
		{"hex, space before", " " + keyA, ""},
		{"hex, space after", keyA + " ", ""},
		{"hex, space and newline after", keyA + " \n", ""},
		{"hex, NUL after", keyA + "\x00", ""},
		{"hex, byte order mark", "\ufeff" + keyA, ""},
		{"hex, quoted", `"` + keyA + `"`, ""},
		{"hex, 0x", "0x" + keyA, ""},
		{"hex, 0x, 64 characters", "0x" + keyA[2:], ""},
		{"hex, 63 characters", keyA[:63], ""},
		{"hex, 65 characters", keyA + "0", ""},
		{"hex, 62 characters", keyA[:62], ""},
		{"hex, 66 characters", keyA + "00", ""},
		{"hex, 32 characters", keyA[:32], ""},
		{"hex, 128 characters", keyA + keyA, ""},
		{"hex, one letter beyond f", keyA[:63] + "g", ""},
		{"hex, with colons", strings.Repeat("ab:", 31) + "ab", ""},
		{"hex, fullwidth digit", keyA[:63] + "１", ""},
		{"base64 of 31 bytes", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==", ""},
		{"base64 of 33 bytes", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g", ""},
		{"base64 of 48 bytes, 64 characters", strings.Repeat("/+7d", 16), ""},
		{"base64, two newlines", stdB + "\n\n", ""},
		{"base64, newline inside", stdB[:20] + "\n" + stdB[20:], ""},
		{"base64, carriage return inside", stdB[:20] + "\r" + stdB[20:], ""},
		{"base64, newline before", "\n" + stdB, ""},
		{"base64, newline before the padding", strings.TrimSuffix(stdB, "=") + "\n=", ""},
		{"base64, space before", " " + stdB, ""},
		{"base64, space after", stdB + " ", ""},
		{"base64, space inside", stdB[:20] + " " + stdB[20:], ""},
		{"base64, both alphabets", "/-7dzLuqmYh3ZlVEMyIRAPDh0sO0pZaHeGlaSzwtHg8=", ""},
		{"base64, twice padded", stdB + "=", ""},
		{"base64, trailing bits", looseB, ""},
		{"base64, trailing bits, unpadded", strings.TrimSuffix(looseB, "="), ""},
		{"base64, trailing bits, URL alphabet", "_-7dzLuqmYh3ZlVEMyIRAPDh0sO0pZaHeGlaSzwtHg9=", ""},
		{"32 characters of text", "correct horse battery staple!!!!", ""},
		{"a passphrase", "hunter2", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			key, err := vault.ParseKey(test.text)
			if test.id != "" {
				if err != nil || key.ID() != test.id {
					t.Fatalf("key %v, %v", key, err)
				}
				return
			}
			if !errors.Is(err, vault.ErrMalformedKey) {
				t.Fatalf("error is %v", err)
			}
			if !reflect.ValueOf(key).IsZero() {
				t.Error("a key came with the error")
			}
			if kernel := strings.Trim(test.text, "\r\n =\""); kernel != "" && strings.Contains(err.Error(), kernel) {
				t.Error("the error quotes the key")
			}
			if err.Error() != vault.ErrMalformedKey.Error() {
				t.Errorf("the error depends on the key: %v", err)
			}
		})
	}
}

func TestParseKeyRefusesALoneCarriageReturn(t *testing.T) {
	t.Parallel()
	for _, text := range []string{keyA + "\r", "/+7dzLuqmYh3ZlVEMyIRAPDh0sO0pZaHeGlaSzwtHg8=\r"} {
		if _, err := vault.ParseKey(text); !errors.Is(err, vault.ErrMalformedKey) {
			t.Errorf("error is %v", err)
		}
	}
}
