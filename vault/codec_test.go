package vault_test

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"phantom/vault"
)

// Any OIDs do where no server answers.
const (
	tokenOID = 90001
	arrayOID = 90002
)

var formats = map[string]int16{"text": pgtype.TextFormatCode, "binary": pgtype.BinaryFormatCode}

func newTypes(t testing.TB, ring *vault.Keyring) *pgtype.Map {
	t.Helper()
	types := pgtype.NewMap()
	if err := vault.Register(types, ring, tokenOID, arrayOID); err != nil {
		t.Fatal(err)
	}
	return types
}

func TestCodecRoundTrip(t *testing.T) {
	t.Parallel()
	types := newTypes(t, newRing(t, keyA))
	for name, format := range formats {
		for _, plaintext := range []string{"x", canary, `quo"tes, (commas) and \ ` + "\nlines", "{},NULL"} {
			for _, context := range []string{place, ` "odd", (context) \ `} {
				token := vault.NewToken(context, plaintext)
				for _, value := range []any{token, &token} {
					encoded, err := types.Encode(tokenOID, format, value, nil)
					if err != nil {
						t.Fatalf("%s: encode %T: %v", name, value, err)
					}
					if len(plaintext) > 8 {
						checkHidden(t, name, string(encoded), []string{plaintext})
					}
					checkScans(t, types, tokenOID, format, encoded, context, plaintext)
					decoded, err := decodeValue(types, format, encoded)
					if err != nil {
						t.Fatal(err)
					}
					checkToken(t, decoded, context, plaintext)
				}

				encoded, err := types.Encode(arrayOID, format, []*vault.EncryptedToken{&token, nil, &token}, nil)
				if err != nil {
					t.Fatalf("%s: encode an array: %v", name, err)
				}
				var tokens []*vault.EncryptedToken
				if err := types.Scan(arrayOID, format, encoded, &tokens); err != nil || len(tokens) != 3 || tokens[1] != nil {
					t.Fatalf("%s: scan an array: %v, %v", name, tokens, err)
				}
				checkToken(t, *tokens[0], context, plaintext)
				checkToken(t, *tokens[2], context, plaintext)
			}
		}
	}
}

func decodeValue(types *pgtype.Map, format int16, encoded []byte) (any, error) {
	sealedToken, ok := types.TypeForOID(tokenOID)
	if !ok {
		return nil, errors.New("sealed_token is not registered")
	}
	return sealedToken.Codec.DecodeValue(types, tokenOID, format, encoded)
}

func checkScans(t *testing.T, types *pgtype.Map, oid uint32, format int16, encoded []byte, context, plaintext string) {
	t.Helper()
	var token vault.EncryptedToken
	if err := types.Scan(oid, format, encoded, &token); err != nil {
		t.Fatal(err)
	}
	checkToken(t, token, context, plaintext)
	var pointer *vault.EncryptedToken
	if err := types.Scan(oid, format, encoded, &pointer); err != nil {
		t.Fatal(err)
	}
	checkToken(t, *pointer, context, plaintext)
}

func checkToken(t *testing.T, value any, context, plaintext string) {
	t.Helper()
	token, ok := value.(vault.EncryptedToken)
	if !ok {
		t.Fatalf("a %T", value)
	}
	if got, err := token.Reveal(context); err != nil || got != plaintext {
		t.Fatalf("revealed %q, %v", got, err)
	}
}

func TestCodecNull(t *testing.T) {
	t.Parallel()
	types := newTypes(t, newRing(t, keyA))
	for name, format := range formats {
		if encoded, err := types.Encode(tokenOID, format, (*vault.EncryptedToken)(nil), nil); err != nil || encoded != nil {
			t.Errorf("%s: a nil pointer is %q, %v", name, encoded, err)
		}
		empty := vault.EncryptedToken{}
		for _, value := range []any{empty, &empty, vault.NewToken("", canary), vault.NewToken(place, "")} {
			encoded, err := types.Encode(tokenOID, format, value, nil)
			if err == nil {
				t.Errorf("%s: an empty token was encoded as %q", name, encoded)
				continue
			}
			checkHidden(t, name, err.Error(), renderings(canary))
		}

		token := vault.NewToken(place, canary)
		if err := types.Scan(tokenOID, format, nil, &token); err == nil {
			t.Errorf("%s: NULL was scanned into a token that cannot be NULL", name)
		}
		if _, err := token.Reveal(place); err == nil {
			t.Errorf("%s: the old value outlived a failed scan", name)
		}
		pointer := new(vault.EncryptedToken)
		if err := types.Scan(tokenOID, format, nil, &pointer); err != nil || pointer != nil {
			t.Errorf("%s: NULL scanned to %v, %v", name, pointer, err)
		}
		if decoded, err := decodeValue(types, format, nil); err != nil || decoded != nil {
			t.Errorf("%s: NULL decoded to %v, %v", name, decoded, err)
		}
	}
}

func TestCodecEncodesNothingButTokens(t *testing.T) {
	t.Parallel()
	ring := newRing(t, keyA)
	types := newTypes(t, ring)
	sealed, err := ring.Seal(canary, place)
	if err != nil {
		t.Fatal(err)
	}
	for name, format := range formats {
		for _, value := range []any{
			sealed, &sealed, 1, []string{canary}, map[string]string{"ciphertext": canary},
			pgtype.CompositeFields{canary, "", "", "", place}, struct{ Ciphertext string }{canary},
		} {
			if encoded, err := types.Encode(tokenOID, format, value, nil); err == nil {
				t.Errorf("%s: a %T was encoded as %q", name, value, encoded)
			}
		}
	}
	sealedToken, ok := types.TypeForOID(tokenOID)
	if !ok {
		t.Fatal("sealed_token is not registered")
	}
	for name, format := range formats {
		// In text format pgx sends strings and bytes without asking any codec; there the column's
		// CHECK stands guard.
		for _, value := range []any{canary, []byte(canary)} {
			if plan := sealedToken.Codec.PlanEncode(types, tokenOID, format, value); plan != nil {
				t.Errorf("%s: the codec encodes a %T", name, value)
			}
		}
		if encoded, err := types.Encode(tokenOID, pgtype.BinaryFormatCode, canary, nil); err == nil {
			t.Errorf("a string was encoded as %q", encoded)
		}
		if value, err := sealedToken.Codec.DecodeDatabaseSQLValue(types, tokenOID, format, []byte("()")); err == nil {
			t.Errorf("%s: database/sql reads %v", name, value)
		}
	}
}

func TestCodecRefusesHostileValues(t *testing.T) {
	t.Parallel()
	ring := newRing(t, keyA)
	types := newTypes(t, ring)
	good, err := ring.Seal(canary, place)
	if err != nil {
		t.Fatal(err)
	}
	sealedElsewhere, err := newRing(t, keyB).Seal(canary, place)
	if err != nil {
		t.Fatal(err)
	}
	// Text fields as PostgreSQL would send them, NULL for nil.
	row := func(sealed vault.Sealed) pgtype.CompositeFields {
		return pgtype.CompositeFields{sealed.Ciphertext, sealed.IV, sealed.Tag, sealed.KeyID, sealed.Context}
	}
	change := func(i int, value any) pgtype.CompositeFields {
		changed := slices.Clone(row(good))
		changed[i] = value
		return changed
	}
	rows := map[string]pgtype.CompositeFields{
		"plain text in every field": {canary, canary, canary, canary, place}, "all NULL": {nil, nil, nil, nil, nil},
		"all empty": {"", "", "", "", ""}, "another key": row(sealedElsewhere),
		"plain text": change(0, canary), "no ciphertext": change(0, ""), "another place": change(4, place+"2"),
		"short tag": change(2, good.Tag[:30]), "tag as IV": change(1, good.Tag), "unknown key id": change(3, idB),
	}
	for i := range 5 {
		rows["NULL in field "+string(rune('0'+i))] = change(i, nil)
	}

	plain := plainTypes()
	for name, format := range formats {
		encoded, err := plain.Encode(tokenOID, format, row(good), nil)
		if err != nil {
			t.Fatal(err)
		}
		checkScans(t, types, tokenOID, format, encoded, place, canary)

		for label, fields := range rows {
			encoded, err := plain.Encode(tokenOID, format, fields, nil)
			if err != nil {
				t.Fatal(err)
			}
			token := vault.NewToken(place, "old")
			if err := types.Scan(tokenOID, format, encoded, &token); err == nil {
				t.Errorf("%s, %s: scanned", name, label)
			} else {
				checkHidden(t, label, err.Error(), renderings(canary))
			}
			if _, err := token.Reveal(place); err == nil {
				t.Errorf("%s, %s: the failed scan left a value", name, label)
			}
			pointer := new(vault.EncryptedToken)
			if err := types.Scan(tokenOID, format, encoded, &pointer); err == nil {
				t.Errorf("%s, %s: scanned into a pointer", name, label)
			}
			checkKept(t, types, format, encoded, name+", "+label)
			if value, err := decodeValue(types, format, encoded); err == nil {
				t.Errorf("%s, %s: decoded to %v", name, label, value)
			}
		}
	}
}

// plainTypes write what the vault's codec would not: a plain composite type.
func plainTypes() *pgtype.Map {
	plain := pgtype.NewMap()
	text, _ := plain.TypeForOID(pgtype.TextOID)
	composite := &pgtype.CompositeCodec{}
	for _, name := range []string{"ciphertext", "iv", "tag", "key_id", "context"} {
		composite.Fields = append(composite.Fields, pgtype.CompositeCodecField{Name: name, Type: text})
	}
	plain.RegisterType(&pgtype.Type{Name: "sealed_token", OID: tokenOID, Codec: composite})
	return plain
}

// checkKept scans a value that does not open as a row of many: the error is the value's own, and
// nothing of an earlier row is left.
func checkKept(t *testing.T, types *pgtype.Map, format int16, encoded []byte, label string) {
	t.Helper()
	stored := vault.Store(place, "old")
	if err := types.Scan(tokenOID, format, encoded, &stored); err != nil {
		t.Fatalf("%s: the scan fails: %v", label, err)
	}
	text, err := stored.Reveal(place)
	if err == nil || text != "" || stored.Opens() {
		t.Fatalf("%s: revealed %q", label, text)
	}
	checkHidden(t, label, err.Error(), renderings(canary))
	if encoded, err := types.Encode(tokenOID, format, stored, nil); err == nil {
		t.Errorf("%s: sealed again as %q", label, encoded)
	}
	pointer := new(vault.StoredToken)
	if err := types.Scan(tokenOID, format, encoded, &pointer); err != nil || pointer == nil || pointer.Opens() {
		t.Errorf("%s: scanned into a pointer: %v", label, err)
	}
}

// Of many rows, one that does not open is an error of its own and not of the others.
func TestStoredToken(t *testing.T) {
	t.Parallel()
	ring := newRing(t, keyA)
	types := newTypes(t, ring)
	good := vault.Store(place, canary)
	for name, format := range formats {
		for _, value := range []any{good, &good} {
			encoded, err := types.Encode(tokenOID, format, value, nil)
			if err != nil {
				t.Fatalf("%s: encode %T: %v", name, value, err)
			}
			checkHidden(t, name, string(encoded), renderings(canary))
			checkScans(t, types, tokenOID, format, encoded, place, canary)
			stored := new(vault.StoredToken)
			if err := types.Scan(tokenOID, format, encoded, &stored); err != nil || !stored.Opens() {
				t.Fatalf("%s: %v", name, err)
			}
			if got, err := stored.Reveal(place); err != nil || got != canary {
				t.Errorf("%s: revealed %q, %v", name, got, err)
			}
			if _, err := stored.Reveal(place + "2"); !errors.Is(err, vault.ErrWrongContext) {
				t.Errorf("%s: revealed in another place: %v", name, err)
			}
		}
		if err := types.Scan(tokenOID, format, nil, &good); err == nil {
			t.Errorf("%s: NULL was scanned into a token that cannot be NULL", name)
		}
		good = vault.Store(place, canary)
		pointer := new(vault.StoredToken)
		if err := types.Scan(tokenOID, format, nil, &pointer); err != nil || pointer != nil {
			t.Errorf("%s: NULL scanned to %v, %v", name, pointer, err)
		}
		if encoded, err := types.Encode(tokenOID, format, (*vault.StoredToken)(nil), nil); err != nil || encoded != nil {
			t.Errorf("%s: a nil pointer is %q, %v", name, encoded, err)
		}
		if encoded, err := types.Encode(tokenOID, format, vault.StoredToken{}, nil); err == nil {
			t.Errorf("%s: an empty token was encoded as %q", name, encoded)
		}
		// The reasons are told apart: what another process may open, and what nobody will.
		sealed, err := newRing(t, keyB).Seal(canary, place)
		if err != nil {
			t.Fatal(err)
		}
		for keyID, reason := range map[string]error{idB: vault.UnknownKeyError{KeyID: idB}, idA: vault.ErrOpen} {
			encoded, err := plainTypes().Encode(tokenOID, format,
				pgtype.CompositeFields{sealed.Ciphertext, sealed.IV, sealed.Tag, keyID, sealed.Context}, nil)
			if err != nil {
				t.Fatal(err)
			}
			var stored vault.StoredToken
			if err := types.Scan(tokenOID, format, encoded, &stored); err != nil {
				t.Fatal(err)
			}
			if _, err := stored.Reveal(place); !errors.Is(err, reason) {
				t.Errorf("%s: %v, want %v", name, err, reason)
			}
		}
	}
}

// FuzzCodec scans any bytes. What opens must have been sealed by this keyring: the fuzzer does not
// know the key.
func FuzzCodec(f *testing.F) {
	ring := newRing(f, keyA)
	types := newTypes(f, ring)
	known := map[[2]string]bool{}
	for _, plaintext := range []string{"x", canary, `quo"te, (comma) \` + "\n"} {
		for _, context := range []string{place, `odd "context", (really) \`} {
			known[[2]string{context, plaintext}] = true
			token := vault.NewToken(context, plaintext)
			for _, format := range formats {
				for oid, value := range map[uint32]any{tokenOID: token, arrayOID: []vault.EncryptedToken{token, token}} {
					encoded, err := types.Encode(oid, format, value, nil)
					if err != nil {
						f.Fatal(err)
					}
					f.Add(encoded, format == pgtype.BinaryFormatCode)
					f.Add(encoded[:len(encoded)-1], format == pgtype.BinaryFormatCode)
					f.Add(append(bytes.Clone(encoded), ','), format == pgtype.BinaryFormatCode)
				}
			}
		}
	}
	for _, text := range []string{"", "(", "()", "(,,,,)", `("","","","","")`, `("`, `("\`, "{}", "{NULL}", "plain text", "\x00\x00\x00\x05"} {
		f.Add([]byte(text), false)
		f.Add([]byte(text), true)
	}

	f.Fuzz(func(t *testing.T, source []byte, binary bool) {
		format := int16(pgtype.TextFormatCode)
		if binary {
			format = pgtype.BinaryFormatCode
		}
		check := func(token vault.EncryptedToken) {
			t.Helper()
			for place := range known {
				if plaintext, err := token.Reveal(place[0]); err == nil && known[[2]string{place[0], plaintext}] {
					return
				}
			}
			t.Errorf("%q scanned to a value that was never sealed", source)
		}
		var token vault.EncryptedToken
		if err := types.Scan(tokenOID, format, source, &token); err == nil {
			check(token)
		} else if !reflect.ValueOf(token).IsZero() {
			t.Error("a failed scan left a value")
		}
		var pointer *vault.EncryptedToken
		if err := types.Scan(tokenOID, format, source, &pointer); err == nil && pointer != nil {
			check(*pointer)
		}
		var tokens []vault.EncryptedToken
		if err := types.Scan(arrayOID, format, source, &tokens); err == nil {
			for _, token := range tokens {
				check(token)
			}
		}
		var pointers []*vault.EncryptedToken
		if err := types.Scan(arrayOID, format, source, &pointers); err == nil {
			for _, pointer := range pointers {
				if pointer != nil {
					check(*pointer)
				}
			}
		}
		value, err := decodeValue(types, format, source)
		if token, ok := value.(vault.EncryptedToken); ok && err == nil {
			check(token)
		} else if value != nil {
			t.Errorf("%q decoded to %T, %v", source, value, err)
		}
	})
}
