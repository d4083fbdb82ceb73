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
)

// apiKeyPrefix begins every key, so that people and secret scanners know one when they see it. 256 random bits follow.
const apiKeyPrefix = "phk_"

var (
	// ErrUnknownAccount says that no merchant with this account has ever connected.
	ErrUnknownAccount = errors.New("account is not connected")
	// ErrUnknownAPIKey says that the account has no key with this id.
	ErrUnknownAPIKey = errors.New("account has no such key")
)

// APIKey is what is known of a key of the merchant API: never the key itself.
type APIKey struct {
	ID         uuid.UUID
	CreatedAt  time.Time
	LastUsedAt *time.Time // to the minute
	RevokedAt  *time.Time
}

// CreateAPIKey makes a key for the account, "acct_…", and returns it. This is the one time it is seen: the database holds its
// SHA-256. A failure may be [ErrUnknownAccount].
func (s *Service) CreateAPIKey(ctx context.Context, account string) (key string, id uuid.UUID, err error) {
	merchant, err := s.Merchant(ctx, account)
	if err != nil {
		return "", uuid.Nil, err
	}
	if id, err = uuid.NewV7(); err != nil {
		return "", uuid.Nil, fmt.Errorf("make id: %w", err)
	}
	key = apiKeyPrefix + newSecret()
	err = s.queries.APIKeyCreate(ctx, db.APIKeyCreateParams{MerchantID: merchant, ID: id, KeyHash: hash(key)})
	if err != nil {
		return "", uuid.Nil, fmt.Errorf("store key: %w", err)
	}
	return key, id, nil
}

// ListAPIKeys returns the account's keys, the oldest first, revoked ones too. A failure may be [ErrUnknownAccount].
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
		keys[i] = APIKey(row)
	}
	return keys, nil
}

// RevokeAPIKey ends a key: the next request with it is refused. Revoking it again changes nothing. A failure may be
// [ErrUnknownAccount] or [ErrUnknownAPIKey].
func (s *Service) RevokeAPIKey(ctx context.Context, account string, id uuid.UUID) error {
	merchant, err := s.Merchant(ctx, account)
	if err != nil {
		return err
	}
	rows, err := s.queries.APIKeyRevoke(ctx, db.APIKeyRevokeParams{MerchantID: merchant, ID: id})
	if err != nil {
		return fmt.Errorf("revoke key: %w", err)
	}
	if rows == 0 {
		return ErrUnknownAPIKey
	}
	return nil
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

// Authenticate returns the merchant whose key this is, and whether they are still connected. A key
// that is malformed, unknown or revoked is an [*Error] with CodeUnauthorized, the same for each.
// The database is asked every time, so that revoking works at once.
func (s *Service) Authenticate(ctx context.Context, key string) (merchantID uuid.UUID, connected bool, err error) {
	unauthorized := &Error{CodeUnauthorized, "The API key is missing, unknown or revoked. Send it as Authorization: Bearer phk_…", errors.New("no valid key")}
	secret, ok := strings.CutPrefix(key, apiKeyPrefix)
	if !ok || !isSecret(secret) {
		return uuid.Nil, false, unauthorized
	}
	found, err := s.queries.APIKeyFind(ctx, hash(key))
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, false, unauthorized
	}
	if err != nil {
		return uuid.Nil, false, databaseError("find key", err)
	}
	if found.Unnoted {
		// A database that takes no writes for now can still be read.
		if err := s.queries.APIKeyNoteUse(ctx, db.APIKeyNoteUseParams{MerchantID: found.MerchantID, ID: found.ID}); err != nil && !db.ReadOnly(err) {
			return uuid.Nil, false, databaseError("note use of key", err)
		}
	}
	return found.MerchantID, !found.Disconnected, nil
}
