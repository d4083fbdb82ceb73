package message

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/playbook"
)

// ErrSignature says that a request is not Twilio's, or is for no merchant who has an account there.
var ErrSignature = errors.New("the signature does not fit the request")

// Suppress keeps a person from being written to on a channel, for ever or until they lift it. Hunts
// of theirs that could write to nobody any more end with it, in one transaction: who wants to hear
// nothing is not charged either.
func (s *Service) Suppress(ctx context.Context, merchantID uuid.UUID, channel string, person []byte, reason string) error {
	return db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		hunts, err := queries.HuntListActiveOfPerson(ctx, db.HuntListActiveOfPersonParams{MerchantID: merchantID, Person: person})
		if err != nil {
			return fmt.Errorf("list hunts: %w", err)
		}
		if _, err := queries.SuppressionAdd(ctx, db.SuppressionAddParams{MerchantID: merchantID, Channel: channel, Person: person, Reason: reason}); err != nil {
			return fmt.Errorf("suppress: %w", err)
		}
		for _, hunt := range hunts {
			if _, err := s.Hunts.EndUnwanted(ctx, tx, hunt); err != nil {
				return err
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

// Unsubscribe ends a merchant's emails to the person whom token names. Doing it again changes
// nothing.
func (s *Service) Unsubscribe(ctx context.Context, token string) error {
	merchantID, person, err := s.readToken(ctx, token)
	if err != nil {
		return err
	}
	return s.Suppress(ctx, merchantID, playbook.Email, person, "unsubscribed")
}

// TwilioPath is where Twilio tells of a merchant's incoming SMS.
func TwilioPath(merchantID uuid.UUID) string { return "/api/webhooks/twilio/" + merchantID.String() }

func (s *Service) twilioURL(merchantID uuid.UUID) string {
	return s.config.PublicURL + TwilioPath(merchantID)
}

// ReceiveSMS takes what a customer has answered. It fails with [ErrSignature] unless signature is
// the merchant's own account's over form; nothing of the request is looked at before.
func (s *Service) ReceiveSMS(ctx context.Context, merchantID uuid.UUID, form url.Values, signature string) error {
	account, err := s.open(ctx, merchantID, Twilio)
	known := err == nil
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	// An unknown merchant takes the same way to the same answer.
	want := twilioSignature(account.secret, s.twilioURL(merchantID), form)
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
	person := Hasher(hash).Phone(from)
	// Advanced Opt-Out: Twilio has read the words that the account has set, in any language
	word := form.Get("OptOutType")
	if word == "" {
		word = form.Get("Body")
	}
	switch readAnswer(word) {
	case wishStop:
		return s.Suppress(ctx, merchantID, playbook.SMS, person, "stop")
	case wishStopSaid: // noted as what it was: a person may look at whom it was
		return s.Suppress(ctx, merchantID, playbook.SMS, person, "stop_in_a_sentence")
	case wishNothing:
	case wishStart:
		_, err := s.queries.SuppressionLift(ctx, db.SuppressionLiftParams{MerchantID: merchantID, Channel: playbook.SMS, Person: person})
		if err != nil {
			return fmt.Errorf("lift suppression: %w", err)
		}
	}
	return nil
}

// Unwanted says whether a ghost's customer has unsubscribed from everything: they have said stop on
// a channel of these steps, and on all the others they have said so too or cannot be reached. What
// was written to them in any of their hunts counts. Of a number nothing is known before the first
// SMS: until then that channel is open.
func Unwanted(ctx context.Context, queries *db.Queries, ghost db.GhostTarget, hash Hasher, steps []playbook.Step) (bool, error) {
	var names []string
	for _, step := range steps {
		if !slices.Contains(names, step.Channel) {
			names = append(names, step.Channel)
		}
	}
	if len(names) == 0 {
		return false, nil
	}
	address, _ := EmailOf(ghost.ID, ghost.Email)
	email := []byte{}
	if address != "" {
		email = hash.Email(address)
	}
	channels, err := queries.MessageCountChannels(ctx, db.MessageCountChannelsParams{
		Channels: names, MerchantID: ghost.MerchantID, Email: email, Customer: hash("customer", ghost.StripeCustomerID), Unreachable: Unreachable, Sentences: Sentences,
	})
	if err != nil {
		return false, fmt.Errorf("read suppressions: %w", err)
	}
	return channels.Open == 0 && channels.Stopped > 0, nil
}
