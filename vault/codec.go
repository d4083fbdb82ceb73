package vault

import (
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"
)

// Register teaches a connection's type map the types sealed_token and sealed_token[], with these
// OIDs, so that an [EncryptedToken] or a [StoredToken] is sealed by ring when it is sent and opened
// when it is scanned, in every exec mode of pgx.
func Register(types *pgtype.Map, ring *Keyring, oid, arrayOID uint32) error {
	text, ok := types.TypeForOID(pgtype.TextOID)
	if !ok {
		return errors.New("register sealed_token: the type map has no text type")
	}
	fields := make([]pgtype.CompositeCodecField, 0, 5)
	for _, name := range []string{"ciphertext", "iv", "tag", "key_id", "context"} {
		fields = append(fields, pgtype.CompositeCodecField{Name: name, Type: text})
	}
	sealed := &pgtype.Type{
		Name: "sealed_token", OID: oid,
		Codec: &tokenCodec{composite: &pgtype.CompositeCodec{Fields: fields}, ring: ring},
	}
	types.RegisterType(sealed)
	types.RegisterType(&pgtype.Type{Name: "_sealed_token", OID: arrayOID, Codec: &pgtype.ArrayCodec{ElementType: sealed}})
	// Exec mode and the simple protocol learn a parameter's type from its Go type.
	types.RegisterDefaultPgType(EncryptedToken{}, "sealed_token")
	types.RegisterDefaultPgType((*EncryptedToken)(nil), "sealed_token")
	types.RegisterDefaultPgType(StoredToken{}, "sealed_token")
	types.RegisterDefaultPgType((*StoredToken)(nil), "sealed_token")
	types.RegisterDefaultPgType([]EncryptedToken(nil), "_sealed_token")
	types.RegisterDefaultPgType([]*EncryptedToken(nil), "_sealed_token")
	return nil
}

// tokenCodec is the composite codec with the vault in between. It encodes and scans EncryptedToken
// and StoredToken and nothing else: a string or a struct of fields never reaches the column.
type tokenCodec struct {
	composite *pgtype.CompositeCodec
	ring      *Keyring
}

func (c *tokenCodec) FormatSupported(format int16) bool { return c.composite.FormatSupported(format) }
func (c *tokenCodec) PreferredFormat() int16            { return c.composite.PreferredFormat() }

func (c *tokenCodec) PlanEncode(types *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	switch value.(type) {
	case EncryptedToken, *EncryptedToken, StoredToken, *StoredToken:
	default:
		return nil
	}
	next := c.composite.PlanEncode(types, oid, format, compositeFields{})
	if next == nil {
		return nil
	}
	return &sealPlan{ring: c.ring, next: next}
}

type sealPlan struct {
	ring *Keyring
	next pgtype.EncodePlan
}

func (p *sealPlan) Encode(value any, buffer []byte) ([]byte, error) {
	var token EncryptedToken
	switch value := value.(type) {
	case EncryptedToken:
		token = value
	case *EncryptedToken:
		if value == nil {
			return nil, nil
		}
		token = *value
	case StoredToken:
		token = value.EncryptedToken // empty where it did not open: it is never sealed again
	case *StoredToken:
		if value == nil {
			return nil, nil
		}
		token = value.EncryptedToken
	}
	if token.secret == nil {
		return nil, errors.New("seal: the token is empty; NULL is a nil pointer")
	}
	sealed, err := p.ring.Seal(token.secret(), token.context)
	if err != nil {
		return nil, err
	}
	return p.next.Encode(compositeFields{&sealed}, buffer)
}

func (c *tokenCodec) PlanScan(types *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	next := c.composite.PlanScan(types, oid, format, compositeFields{})
	if next == nil {
		return nil
	}
	plan := &openPlan{ring: c.ring, next: next}
	switch target.(type) {
	case *EncryptedToken:
		return plan
	case *StoredToken:
		return &storedPlan{plan}
	}
	return nil
}

// storedPlan keeps why a value does not open. NULL is no value, and fails as ever.
type storedPlan struct{ open *openPlan }

func (p *storedPlan) Scan(source []byte, target any) error {
	token := target.(*StoredToken)
	*token = StoredToken{}
	token.err = p.open.Scan(source, &token.EncryptedToken)
	if source == nil {
		return token.err
	}
	return nil
}

type openPlan struct {
	ring *Keyring
	next pgtype.ScanPlan
}

func (p *openPlan) Scan(source []byte, target any) error {
	token := target.(*EncryptedToken)
	*token = EncryptedToken{} // nothing old is left behind by an error
	var sealed Sealed
	if err := p.next.Scan(source, compositeFields{&sealed}); err != nil {
		return fmt.Errorf("scan sealed_token: %w", err)
	}
	plaintext, err := p.ring.Open(sealed)
	if err != nil {
		return err
	}
	*token = NewToken(sealed.Context, plaintext)
	return nil
}

// DecodeValue serves rows.Values: an EncryptedToken, or nil for NULL.
func (c *tokenCodec) DecodeValue(types *pgtype.Map, oid uint32, format int16, source []byte) (any, error) {
	if source == nil {
		return nil, nil
	}
	var token EncryptedToken
	plan := c.PlanScan(types, oid, format, &token)
	if plan == nil {
		return nil, fmt.Errorf("scan sealed_token: format %d is not supported", format)
	}
	if err := plan.Scan(source, &token); err != nil {
		return nil, err
	}
	return token, nil
}

// DecodeDatabaseSQLValue fails: database/sql has no type that keeps a secret.
func (c *tokenCodec) DecodeDatabaseSQLValue(*pgtype.Map, uint32, int16, []byte) (driver.Value, error) {
	return nil, errors.New("a sealed_token is not read through database/sql")
}

// compositeFields shows a Sealed to the composite codec, in the order in which CREATE TYPE lists
// the fields.
type compositeFields struct{ sealed *Sealed }

func (f compositeFields) field(i int) *string {
	return [...]*string{&f.sealed.Ciphertext, &f.sealed.IV, &f.sealed.Tag, &f.sealed.KeyID, &f.sealed.Context}[i]
}

func (f compositeFields) IsNull() bool        { return f.sealed == nil }
func (f compositeFields) Index(i int) any     { return *f.field(i) }
func (f compositeFields) ScanNull() error     { return errors.New("NULL is not a sealed value") }
func (f compositeFields) ScanIndex(i int) any { return f.field(i) }
