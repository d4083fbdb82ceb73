package vault_test

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"phantom/vault"
)

const canary = "sk_live_CANARY~4eC39HqLyjWDarjtT1zdp7dc"

// renderings are the ways in which a printed secret would look.
func renderings(secret string) []string {
	raw := []byte(secret)
	forms := []string{
		secret, hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)),
		base64.RawStdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
	}
	for _, format := range []string{"%v", "%#v", "%d", "%o", "%b", "%c", "%U", "%q", "% x", "% X", "%#x", "%08b"} {
		forms = append(forms, strings.Trim(strings.TrimPrefix(fmt.Sprintf(format, raw), "[]byte"), "[]{}"))
	}
	return forms
}

func checkHidden(t *testing.T, where, output string, secrets ...[]string) {
	t.Helper()
	for _, forms := range secrets {
		for _, form := range forms {
			if strings.Contains(output, form) {
				t.Fatalf("%s shows the secret as %q", where, form)
			}
		}
	}
}

// holders is v alone and in everything that a printer or an encoder walks through.
func holders[T any](v T) map[string]any {
	type public struct{ Secret T }
	type deep struct {
		Name  string
		Inner *public
		Any   any
	}
	pointer := &v
	return map[string]any{
		"value": v, "pointer": pointer, "pointer to pointer": &pointer, "slice": []T{v}, "pointers": []*T{&v}, "array": [1]T{v},
		"map": map[string]T{"k": v}, "map of pointers": map[string]*T{"k": &v},
		"any": []any{v, &v}, "map of any": map[string]any{"k": v},
		"struct": public{v}, "pointer to struct": &public{v}, "slice of structs": []public{{v}},
		"deep": deep{Name: "n", Inner: &public{v}, Any: v}, "pointer to deep": &deep{Inner: &public{v}, Any: &v},
		"function": func() T { return v }, "error": fmt.Errorf("wrapped %v", v),
	}
}

// unexported is v in fields whose methods fmt may not call.
func unexported[T any](v T) map[string]any {
	type private struct{ secret T }
	type deep struct {
		inner private
		any   any
		slice []T
	}
	return map[string]any{
		"unexported field": private{v}, "pointer to unexported field": &private{v}, "slice of unexported fields": []private{{v}},
		"map of unexported fields": map[string]private{"k": {v}},
		"deep unexported field":    deep{inner: private{v}, any: v, slice: []T{v}},
		"pointers in unexported fields": struct {
			pointer *T
			any     any
		}{&v, &v},
	}
}

func secretHolders(t *testing.T) (map[string]map[string]any, [][]string) {
	t.Helper()
	raw, err := hex.DecodeString(keyB)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]map[string]any{
		"Key":            holders(newKey(t, keyB)),
		"EncryptedToken": holders(vault.NewToken(place, canary)),
		"StoredToken":    holders(vault.Store(place, canary)),
	}, [][]string{renderings(canary), renderings(string(raw))}
}

func TestNoVerbShowsASecret(t *testing.T) {
	t.Parallel()
	all, secrets := secretHolders(t)
	checkVerbs(t, all, secrets)
}

func TestNoVerbShowsASecretInAnUnexportedField(t *testing.T) {
	t.Parallel()
	_, secrets := secretHolders(t)
	checkVerbs(t, map[string]map[string]any{
		"Key":            unexported(newKey(t, keyB)),
		"EncryptedToken": unexported(vault.NewToken(place, canary)),
		"StoredToken":    unexported(vault.Store(place, canary)),
	}, secrets)
}

func checkVerbs(t *testing.T, all map[string]map[string]any, secrets [][]string) {
	t.Helper()
	printed := 0
	for kind, holders := range all {
		for shape, value := range holders {
			for verb := ' ' + 1; verb <= '~'; verb++ {
				for _, flags := range []string{"", "+", "#", "-", " ", "0", "+#", "# ", "200", "-200.100", ".5"} {
					if strings.ContainsRune("%*[.+-#0123456789", verb) { // not a verb
						continue
					}
					format := "%" + flags + string(verb)
					output := fmt.Sprintf(format, value)
					checkHidden(t, kind+" "+shape+" "+format, output, secrets...)
					printed++
					if shape == "value" && verb != 'T' && verb != 'p' && verb != 'w' && !strings.Contains(output, "[REDACTED]") {
						t.Fatalf("%s %s prints %q", kind, format, output)
					}
				}
			}
			for _, format := range []string{"no verb", "%[2]v", "%*d", "%!", "%"} {
				// printed as %!(EXTRA …) and the like
				checkHidden(t, kind+" "+shape+" "+format, fmt.Sprintf(format, value), secrets...)
			}
			checkHidden(t, kind+" "+shape+" Sprint", fmt.Sprint(value), secrets...)
			checkHidden(t, kind+" "+shape+" Sprintln", fmt.Sprintln("x", value, 1), secrets...)
			for _, verb := range []string{"%w", "%v", "%s", "%+v", "%#v", "%q"} {
				err := fmt.Errorf("do "+verb, value)
				err = fmt.Errorf("more: %w", errors.Join(err, errors.New("other")))
				checkHidden(t, kind+" "+shape+" in an error as "+verb, err.Error(), secrets...)
				checkHidden(t, kind+" "+shape+" in an error as "+verb, fmt.Sprintf("%+v %#v", err, err), secrets...)
			}
		}
	}
	t.Logf("%d printed forms", printed)
}

func TestNoEncoderShowsASecret(t *testing.T) {
	t.Parallel()
	all, secrets := secretHolders(t)
	for kind, holders := range all {
		for shape, value := range holders {
			// An encoder may refuse; neither its output nor its error may show anything.
			check := func(encoder string, output []byte, err error) {
				t.Helper()
				checkHidden(t, encoder+" of "+kind+" "+shape, fmt.Sprintf("%s %v", output, err), secrets...)
			}
			text, err := json.Marshal(value)
			check("json", text, err)
			text, err = json.MarshalIndent(map[string]any{"outer": value}, "", "  ")
			check("indented json", text, err)
			text, err = xml.Marshal(value)
			check("xml", text, err)
			var buffer bytes.Buffer
			err = gob.NewEncoder(&buffer).Encode(value)
			check("gob", buffer.Bytes(), err)

			for name, handler := range map[string]slog.Handler{
				"slog text": slog.NewTextHandler(&buffer, nil), "slog json": slog.NewJSONHandler(&buffer, nil),
			} {
				buffer.Reset()
				logger := slog.New(handler)
				logger.Info("m", "value", value)
				logger.Info("m", slog.Group("group", "value", value))
				logger.With("with", value).WithGroup("group").Error("m", "err", fmt.Errorf("wrapped: %v", value))
				logger.Info("m", "bad key", value, value)
				logger.Info("a value", "text", fmt.Sprint(value))
				check(name, buffer.Bytes(), nil)
				if buffer.Len() == 0 {
					t.Error("nothing was logged")
				}
			}
		}
	}
}

func TestTokenReadsRedacted(t *testing.T) {
	t.Parallel()
	token := vault.NewToken(place, canary)
	value := struct {
		Token   vault.EncryptedToken
		Pointer *vault.EncryptedToken
		Null    *vault.EncryptedToken
	}{token, &token, nil}

	text, err := json.Marshal(value)
	if expected := `{"Token":"[REDACTED]","Pointer":"[REDACTED]","Null":null}`; err != nil || string(text) != expected {
		t.Errorf("json: %s, %v", text, err)
	}
	if text, err = xml.Marshal(token); err != nil || string(text) != "<EncryptedToken>[REDACTED]</EncryptedToken>" {
		t.Errorf("xml: %s, %v", text, err)
	}
	var buffer bytes.Buffer
	slog.New(slog.NewTextHandler(&buffer, nil)).Info("m", "token", token, "pointer", &token)
	if strings.Count(buffer.String(), "[REDACTED]") != 2 {
		t.Errorf("slog text: %s", &buffer)
	}
	buffer.Reset()
	slog.New(slog.NewJSONHandler(&buffer, nil)).Info("m", "token", token, "pointer", &token, "null", (*vault.EncryptedToken)(nil))
	if strings.Count(buffer.String(), `"[REDACTED]"`) != 2 {
		t.Errorf("slog json: %s", &buffer)
	}
	if _, ok := any(&token).(fmt.Stringer); ok {
		t.Error("EncryptedToken has a String method: pgx would store what it returns")
	}
}

func TestReveal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		token   vault.EncryptedToken
		context string
		ok      bool
	}{
		{"its own context", vault.NewToken(place, canary), place, true},
		{"another row", vault.NewToken(place, canary), place + "2", false},
		{"another column", vault.NewToken(place, canary), "merchants.refresh_token:acct_1Phantom", false},
		{"a prefix", vault.NewToken(place, canary), place[:len(place)-1], false},
		{"another case", vault.NewToken(place, canary), strings.ToUpper(place), false},
		{"an empty context", vault.NewToken(place, canary), "", false},
		{"a token without a context", vault.NewToken("", canary), "", false},
		{"an empty token", vault.EncryptedToken{}, place, false},
		{"an empty token and context", vault.EncryptedToken{}, "", false},
	} {
		plaintext, err := test.token.Reveal(test.context)
		if test.ok {
			if err != nil || plaintext != canary {
				t.Errorf("%s: %q, %v", test.name, plaintext, err)
			}
			continue
		}
		if !errors.Is(err, vault.ErrWrongContext) || plaintext != "" {
			t.Errorf("%s: %q, %v", test.name, plaintext, err)
		}
		if err != nil {
			checkHidden(t, test.name, err.Error(), renderings(canary))
		}
	}
}

func TestTokenIsNotReadFromDocuments(t *testing.T) {
	t.Parallel()
	for _, document := range []string{`"text"`, `""`, `"[REDACTED]"`, `1`, `true`, `{}`, `{"context":"c","secret":{"plaintext":"p"}}`, `[]`} {
		token := vault.NewToken(place, canary)
		if err := json.Unmarshal([]byte(document), &token); err == nil {
			t.Errorf("json %s was read", document)
		}
		value := struct{ Token *vault.EncryptedToken }{}
		if err := json.Unmarshal([]byte(`{"Token":`+document+`}`), &value); err == nil {
			t.Errorf("json %s was read in a struct", document)
		}
		if plaintext, err := token.Reveal(place); err != nil || plaintext != canary {
			t.Errorf("json %s changed the token: %v", document, err)
		}
	}
	var token vault.EncryptedToken
	if err := xml.Unmarshal([]byte("<EncryptedToken>text</EncryptedToken>"), &token); err == nil {
		t.Error("xml was read")
	}
}

func TestTokenHasNoDriverValue(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]vault.EncryptedToken{"full": vault.NewToken(place, canary), "empty": {}} {
		value, err := token.Value()
		if err == nil || value != nil {
			t.Errorf("%s token: value %v, %v", name, value, err)
			continue
		}
		checkHidden(t, name, err.Error(), renderings(canary))
	}
}
