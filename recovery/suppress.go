package recovery

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
)

// ErrSignature says that a request is not Twilio's, or is for no merchant who has an account there.
var ErrSignature = errors.New("the signature does not fit the request")

// suppress keeps a person from being written to on a channel, for ever or until he lifts it. Hunts that could write to nobody any more
// end with it, in one transaction: who wants to hear nothing is not charged either.
func (s *Service) suppress(ctx context.Context, merchantID uuid.UUID, channel string, person []byte, reason string) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		hunts, err := queries.HuntListActiveOfPerson(ctx, db.HuntListActiveOfPersonParams{MerchantID: merchantID, Person: person})
		if err != nil {
			return fmt.Errorf("list hunts: %w", err)
		}
		if _, err := queries.SuppressionAdd(ctx, db.SuppressionAddParams{MerchantID: merchantID, Channel: channel, Person: person, Reason: reason}); err != nil {
			return fmt.Errorf("suppress: %w", err)
		}
		for _, hunt := range hunts {
			row, err := queries.PlaybookGet(ctx, db.PlaybookGetParams{MerchantID: merchantID, Version: hunt.PlaybookVersion})
			if err != nil {
				return fmt.Errorf("read playbook: %w", err)
			}
			playbook, err := versioned(row)
			if err != nil {
				return err
			}
			everywhere, err := suppressedEverywhere(ctx, queries, merchantID, hunt.ID, playbook.Steps)
			if err != nil {
				return err
			}
			if everywhere {
				if err := s.endHunt(ctx, tx, hunt, "stopped", "the customer wants no message any more"); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// CheckUnsubscribe fails with [ErrNotFound] unless token is one that [Service.Unsubscribe] takes.
func (s *Service) CheckUnsubscribe(ctx context.Context, token string) error {
	_, _, err := s.readToken(ctx, token)
	return err
}

// Unsubscribe ends a merchant's emails to the person whom token names. Doing it again changes nothing.
func (s *Service) Unsubscribe(ctx context.Context, token string) error {
	merchantID, person, err := s.readToken(ctx, token)
	if err != nil {
		return err
	}
	return s.suppress(ctx, merchantID, Email, person, "unsubscribed")
}

// TwilioPath is where Twilio tells of a merchant's incoming SMS.
func TwilioPath(merchantID uuid.UUID) string { return "/api/webhooks/twilio/" + merchantID.String() }

// What ends messages to a number, and what lets them come again, as carriers in the United States understand it.
// https://help.twilio.com/articles/223134027
var (
	stopWords  = []string{"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"}
	startWords = []string{"START", "UNSTOP"}
)

// ReceiveSMS takes what a customer has answered. It fails with [ErrSignature] unless signature is the merchant's own account's over
// form; nothing of the request is looked at before.
func (s *Service) ReceiveSMS(ctx context.Context, merchantID uuid.UUID, form url.Values, signature string) error {
	account, err := s.open(ctx, merchantID, Twilio)
	known := err == nil
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	// An unknown merchant takes the same way to the same answer.
	want := twilioSignature(account.secret, s.config.PublicURL+TwilioPath(merchantID), form)
	if !hmac.Equal([]byte(want), []byte(signature)) || !known {
		return ErrSignature
	}
	if form.Get("AccountSid") != account.account {
		return ErrSignature
	}
	from := form.Get("From")
	if !e164Shape.MatchString(from) {
		return nil // a short code, or another channel of Twilio's
	}
	hash, err := s.connect.Hasher(ctx, merchantID)
	if err != nil {
		return err
	}
	person := hasher(hash).phone(from)
	switch word := strings.ToUpper(strings.TrimSpace(form.Get("Body"))); {
	case slices.Contains(stopWords, word):
		return s.suppress(ctx, merchantID, SMS, person, "stop")
	case slices.Contains(startWords, word):
		_, err := s.queries.SuppressionLift(ctx, db.SuppressionLiftParams{MerchantID: merchantID, Channel: SMS, Person: person})
		if err != nil {
			return fmt.Errorf("lift suppression: %w", err)
		}
	}
	return nil
}

// suppressedEverywhere says whether a hunt can write to nobody any more: the person has said stop on every channel of its steps.
func suppressedEverywhere(ctx context.Context, queries *db.Queries, merchantID, huntID uuid.UUID, steps []Step) (bool, error) {
	var names []string
	for _, step := range steps {
		if !slices.Contains(names, step.Channel) {
			names = append(names, step.Channel)
		}
	}
	open, err := queries.MessageOpenChannels(ctx, db.MessageOpenChannelsParams{Channels: names, MerchantID: merchantID, HuntID: huntID})
	if err != nil {
		return false, fmt.Errorf("read suppressions: %w", err)
	}
	return len(names) > 0 && open == 0, nil
}
