package vault

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[REDACTED]"

// EncryptedToken is a secret on its way into or out of a sealed_token column. In memory it holds
// the plaintext, inside a closure, and the context it belongs to; only [EncryptedToken.Reveal]
// gives it out. However it is printed, logged or marshalled it reads [REDACTED], and every path
// into the database but its own codec fails.
//
// It has no String method on purpose: pgx would take that for the value to store.
type EncryptedToken struct {
	context string
	// A closure and not a pointer: fmt follows a pointer in somebody's unexported field when the
	// verb does not fit.
	secret func() string
}

// ErrWrongContext is returned by Reveal when the value belongs to another place than the caller
// expects.
var ErrWrongContext = errors.New("secret belongs to another context")

// NewToken wraps a plaintext to be sealed for the place that context names, "table.column:key".
func NewToken(context, plaintext string) EncryptedToken {
	return EncryptedToken{context: context, secret: func() string { return plaintext }}
}

// Reveal returns the plaintext if context is the one that the value was sealed for, else
// [ErrWrongContext].
func (t EncryptedToken) Reveal(context string) (string, error) {
	if t.secret == nil || context == "" || t.context != context {
		return "", fmt.Errorf("reveal %.200q: %w", context, ErrWrongContext)
	}
	return t.secret(), nil
}

// Format writes [REDACTED] for every verb.
func (t EncryptedToken) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

// LogValue is [REDACTED].
func (t EncryptedToken) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON writes "[REDACTED]".
func (t EncryptedToken) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText writes [REDACTED].
func (t EncryptedToken) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText fails: a secret comes from NewToken or from the database, never from a document.
func (t *EncryptedToken) UnmarshalText([]byte) error {
	return errors.New("an encrypted token cannot be read from text")
}

// Value fails, so that a connection without the codec cannot store anything in the token's place.
func (t EncryptedToken) Value() (driver.Value, error) {
	return nil, errors.New("an encrypted token passes only through the vault's codec: open the pool with db.Open")
}

// StoredToken is an [EncryptedToken] as queries of many rows read it. A value that does not open
// costs its own row and not the whole query: scanning keeps the reason, and [StoredToken.Reveal]
// returns it. What is read alone, such as a merchant's tokens, is an EncryptedToken, whose scan
// fails.
type StoredToken struct {
	EncryptedToken
	err error
}

// Store wraps a plaintext for a column that is read as a StoredToken. It is [NewToken] otherwise.
func Store(context, plaintext string) StoredToken {
	return StoredToken{EncryptedToken: NewToken(context, plaintext)}
}

// Reveal is that of [EncryptedToken]. Of a value that does not open it returns why: [ErrOpen], an
// [UnknownKeyError], or that it has not the shape of a sealed value.
func (t StoredToken) Reveal(context string) (string, error) {
	if t.err != nil {
		return "", t.err
	}
	return t.EncryptedToken.Reveal(context)
}

// Opens says whether the value has opened.
func (t StoredToken) Opens() bool { return t.err == nil && t.secret != nil }
