package connect

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/trail"
)

// A prefix begins every key, so that people and secret scanners know one when they see it. 256
// random bits follow.
const (
	apiKeyPrefix    = "phk_"
	shieldKeyPrefix = "phs_" // of one that reads verdicts alone
)

var (
	// ErrUnknownAccount says that no merchant with this account has ever connected.
	ErrUnknownAccount = errors.New("account is not connected")
	// ErrUnknownAPIKey says that the account has no key with this id.
	ErrUnknownAPIKey = errors.New("account has no such key")
)

// Scope is what a key may do.
type Scope string

// Each scope holds what those before it do.
const (
	ScopeShield Scope = "shield" // ask who may keep access, and nothing else
	ScopeRead   Scope = "read"   // see the merchant's data, and change nothing
	ScopeWrite  Scope = "write"  // all of the merchant API
)

// Scopes are all that a key can have. The database's api_keys_scope_known lists the same.
var Scopes = []Scope{ScopeShield, ScopeRead, ScopeWrite}

// APIKey is what is known of a key of the merchant API: never the key itself.
type APIKey struct {
	ID         uuid.UUID
	Name       *string
	Scope      Scope
	CreatedAt  time.Time
	LastUsedAt *time.Time // to the minute
	ExpiresAt  *time.Time
	RevokedAt  *time.Time
	Expired    bool // by the database's clock
}

// NewAPIKey is how a key is made.
type NewAPIKey struct {
	Name    string // for people, 64 characters at most; "" for none
	Scope   Scope
	Expires *time.Time // refused from then on; nil: never
}

// CreateAPIKey makes a key for the account, "acct_…", and returns it. This is the one time it is
// seen: the database holds its SHA-256. A failure may be [ErrUnknownAccount].
func (s *Service) CreateAPIKey(ctx context.Context, account string, how NewAPIKey) (key string, id uuid.UUID, err error) {
	merchant, err := s.Merchant(ctx, account)
	if err != nil {
		return "", uuid.Nil, err
	}
	if id, err = uuid.NewV7(); err != nil {
		return "", uuid.Nil, fmt.Errorf("make id: %w", err)
	}
	key = apiKeyPrefix + newSecret()
	if how.Scope == ScopeShield {
		key = shieldKeyPrefix + newSecret()
	}
	row := db.APIKeyCreateParams{MerchantID: merchant, ID: id, KeyHash: hash(key), Scope: string(how.Scope), ExpiresAt: how.Expires}
	if how.Name != "" {
		row.Name = &how.Name
	}
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		if err := db.New(tx).APIKeyCreate(ctx, row); err != nil {
			return err
		}
		if err := touch(ctx, tx, merchant); err != nil {
			return err
		}
		return trail.Record(ctx, tx, trail.Change{Merchant: merchant, Action: "apikey.create", Object: id.String(), After: struct {
			Scope   Scope      `json:"scope"`
			Expires *time.Time `json:"expires_at"`
		}{how.Scope, how.Expires}})
	})
	if err != nil {
		return "", uuid.Nil, fmt.Errorf("store key: %w", err)
	}
	return key, id, nil
}

// ListAPIKeys returns the account's keys, the oldest first, revoked ones too. A failure may be
// [ErrUnknownAccount].
func (s *Service) ListAPIKeys(ctx context.Context, account string) ([]APIKey, error) {
	merchant, err := s.Merchant(ctx, account)
	if err != nil {
		return nil, err
	}
	rows, err := s.queries.APIKeyList(ctx, merchant)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	keys := make([]APIKey, len(rows))
	for i, row := range rows {
		keys[i] = APIKey{row.ID, row.Name, Scope(row.Scope), row.CreatedAt, row.LastUsedAt, row.ExpiresAt, row.RevokedAt, row.Expired}
	}
	return keys, nil
}

// RevokeAPIKey ends a key: the next request with it is refused. Revoking it again changes nothing.
// A failure may be [ErrUnknownAccount] or [ErrUnknownAPIKey].
func (s *Service) RevokeAPIKey(ctx context.Context, account string, id uuid.UUID) error {
	merchant, err := s.Merchant(ctx, account)
	if err != nil {
		return err
	}
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		revoked, err := queries.APIKeyLock(ctx, db.APIKeyLockParams{MerchantID: merchant, ID: id})
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrUnknownAPIKey
		}
		if err != nil || revoked {
			return err
		}
		if err := queries.APIKeyRevoke(ctx, db.APIKeyRevokeParams{MerchantID: merchant, ID: id}); err != nil {
			return err
		}
		if err := touch(ctx, tx, merchant); err != nil {
			return err
		}
		return trail.Record(ctx, tx, trail.Change{Merchant: merchant, Action: "apikey.revoke", Object: id.String()})
	})
	if err != nil {
		return fmt.Errorf("revoke key: %w", err)
	}
	return nil
}

// touch tells those who answer from memory, package verdict, that keys or the connection of a
// merchant have changed.
func touch(ctx context.Context, tx db.DBTX, merchantID uuid.UUID) error {
	revision, err := db.New(tx).ShieldTouch(ctx, merchantID)
	if err != nil {
		return fmt.Errorf("raise the revision: %w", err)
	}
	return db.Notify(ctx, tx, db.ShieldChannel, fmt.Sprintf(`{"m":%q,"v":%d}`, merchantID, revision))
}

// Merchant returns the id of a connected account, or [ErrUnknownAccount].
func (s *Service) Merchant(ctx context.Context, account string) (uuid.UUID, error) {
	id, err := s.queries.MerchantGetID(ctx, account)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, ErrUnknownAccount
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("find account: %w", err)
	}
	return id, nil
}

// Caller is who a request of the merchant API is from.
type Caller struct {
	Merchant  uuid.UUID
	Key       uuid.UUID
	Scope     Scope
	Connected bool // whether the merchant still is
}

// MayRead says whether the caller's key may see the merchant's data.
func (c Caller) MayRead() bool { return c.Scope != ScopeShield }

// MayWrite says whether the caller's key may change anything.
func (c Caller) MayWrite() bool { return c.Scope == ScopeWrite }

// ErrScope is what a request gets that its key may not make.
var ErrScope = &Error{CodeInsufficientScope, "This key may not do that. Use one with the scope write, or read for a GET.", errors.New("the key's scope does not do")}

// Authenticate returns whose key this is. A key that is malformed, unknown, revoked or expired is
// an [*Error] with CodeUnauthorized, the same for each. The database is asked every time, so that
// revoking works at once.
func (s *Service) Authenticate(ctx context.Context, key string) (Caller, error) {
	unauthorized := &Error{CodeUnauthorized, "The API key is missing, unknown, revoked or expired. Send it as Authorization: Bearer phk_…", errors.New("no valid key")}
	secret, ok := strings.CutPrefix(key, apiKeyPrefix)
	if !ok {
		secret, ok = strings.CutPrefix(key, shieldKeyPrefix)
	}
	if !ok || !isSecret(secret) {
		return Caller{}, unauthorized
	}
	found, err := s.queries.APIKeyFind(ctx, hash(key))
	if errors.Is(err, pgx.ErrNoRows) {
		return Caller{}, unauthorized
	}
	if err != nil {
		return Caller{}, databaseError("find key", err)
	}
	if found.Unnoted {
		// A database that takes no writes for now can still be read.
		if err := s.queries.APIKeyNoteUse(ctx, db.APIKeyNoteUseParams{MerchantID: found.MerchantID, ID: found.ID}); err != nil && !db.ReadOnly(err) {
			return Caller{}, databaseError("note use of key", err)
		}
	}
	return Caller{found.MerchantID, found.ID, Scope(found.Scope), !found.Disconnected}, nil
}
