package message

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Hasher is connect's keyed hash under a merchant's salt.
type Hasher func(subject, value string) []byte

// Email is the person behind an email address.
func (h Hasher) Email(address string) []byte { return h("email", strings.ToLower(address)) }

// Phone is the person behind a number.
func (h Hasher) Phone(number string) []byte { return h("phone", number) }

// locks are the keys of the advisory locks of these persons.
func locks(persons [][]byte) []int64 {
	keys := make([]int64, len(persons))
	for i, person := range persons {
		keys[i] = int64(binary.BigEndian.Uint64(person))
	}
	return keys
}

// A token to unsubscribe names its merchant and person, and proves itself: nothing is stored, so it
// holds for as long as the mail is kept, also over the purge.
const (
	tokenProof  = 16
	tokenLength = 16 + 32 + tokenProof
)

func unsubscribeToken(merchantID uuid.UUID, person []byte, hash Hasher) string {
	token := append(merchantID[:], person...)
	return base64.RawURLEncoding.EncodeToString(append(token, tokenOf(person, hash)...))
}

func tokenOf(person []byte, hash Hasher) []byte {
	return hash("unsubscribe", hex.EncodeToString(person))[:tokenProof]
}

// readToken fails with [ErrNotFound] for what is no token of ours.
func (s *Service) readToken(ctx context.Context, text string) (merchantID uuid.UUID, person []byte, err error) {
	token, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(token) != tokenLength || strings.ContainsAny(text, "\r\n") {
		// which the decoder passes over
		return uuid.Nil, nil, ErrNotFound
	}
	merchantID, person = uuid.UUID(token[:16]), token[16:48]
	hash, err := s.connect.Hasher(ctx, merchantID)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, nil, ErrNotFound
	}
	if err != nil {
		return uuid.Nil, nil, fmt.Errorf("read token: %w", err)
	}
	if subtle.ConstantTimeCompare(token[48:], tokenOf(person, hash)) != 1 {
		return uuid.Nil, nil, ErrNotFound
	}
	return merchantID, person, nil
}
