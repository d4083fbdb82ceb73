package recovery

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"phantom/db"
)

// correspondence is what the database knows of a merchant's messages and of who wants none, and what a simulation adds to it.
type correspondence struct {
	letters map[string][]*db.MessageReadSentRow // by each of their persons, the oldest first
	stopped map[string]bool                     // channel and person
	numbers map[string]string                   // the person behind a customer's number; "" where he has none
}

func newCorrespondence() *correspondence {
	return &correspondence{letters: map[string][]*db.MessageReadSentRow{}, stopped: map[string]bool{}, numbers: map[string]string{}}
}

// load reads all of a merchant's.
func (c *correspondence) load(ctx context.Context, queries *db.Queries, merchantID uuid.UUID) error {
	sent, err := queries.MessageReadSent(ctx, merchantID)
	if err != nil {
		return fmt.Errorf("list messages: %w", err)
	}
	for i := range sent {
		c.add(&sent[i])
	}
	suppressions, err := queries.SuppressionReadAll(ctx, merchantID)
	if err != nil {
		return fmt.Errorf("list suppressions: %w", err)
	}
	for _, s := range suppressions {
		c.stopped[s.Channel+string(s.Person)] = true
	}
	numbers, err := queries.MessageReadNumbers(ctx, db.MessageReadNumbersParams{MerchantID: merchantID, Unreachable: unreachable})
	if err != nil {
		return fmt.Errorf("list numbers: %w", err)
	}
	for _, n := range numbers {
		c.numbers[string(n.Customer)] = string(n.Person)
	}
	return nil
}

// loadOne reads what it takes for one hunt alone: of a number nothing.
func (c *correspondence) loadOne(ctx context.Context, queries *db.Queries, merchantID uuid.UUID, h *imagined) error {
	var persons [][]byte
	for _, person := range c.persons(h, Email) {
		persons = append(persons, []byte(person))
	}
	sent, err := queries.MessageListSent(ctx, db.MessageListSentParams{MerchantID: merchantID, Persons: persons})
	if err != nil {
		return fmt.Errorf("list messages: %w", err)
	}
	for _, row := range slices.Backward(sent) {
		c.add(&db.MessageReadSentRow{Channel: row.Channel, SentAt: *row.SentAt, Persons: persons[:1]})
	}
	if h.email == "" {
		return nil
	}
	c.stopped[Email+h.email], err = queries.SuppressionHolds(ctx, db.SuppressionHoldsParams{MerchantID: merchantID, Channel: Email, Person: []byte(h.email)})
	if err != nil {
		return fmt.Errorf("read suppressions: %w", err)
	}
	return nil
}

func (c *correspondence) add(letter *db.MessageReadSentRow) {
	for _, person := range letter.Persons {
		c.letters[string(person)] = append(c.letters[string(person)], letter)
	}
}

// wrote adds a message of a hunt.
func (c *correspondence) wrote(h *imagined, channel string, at time.Time) {
	letter := &db.MessageReadSentRow{Channel: channel, SentAt: at}
	for _, person := range c.persons(h, channel) {
		letter.Persons = append(letter.Persons, []byte(person))
	}
	c.add(letter)
}

// persons are whom a message counts for, as far as is known.
func (c *correspondence) persons(h *imagined, channel string) []string {
	all := []string{h.customer}
	if h.email != "" {
		all = append(all, h.email)
	}
	if number := c.numbers[h.customer]; channel == SMS && number != "" {
		all = append(all, number)
	}
	return all
}

// allowed is the first moment, now or later, at which the caps let a message of a hunt through.
func (c *correspondence) allowed(h *imagined, channel string, now time.Time) time.Time {
	var sent []*db.MessageReadSentRow
	for _, person := range c.persons(h, channel) {
		for _, letter := range c.letters[person] {
			if !slices.Contains(sent, letter) {
				sent = append(sent, letter)
			}
		}
	}
	slices.SortStableFunc(sent, func(a, b *db.MessageReadSentRow) int { return b.SentAt.Compare(a.SentAt) })
	rows := make([]db.MessageListSentRow, len(sent))
	for i, letter := range sent {
		rows[i] = db.MessageListSentRow{Channel: letter.Channel, SentAt: &letter.SentAt}
	}
	return allowed(rows, channel, now)
}

// skips says whether a message of a hunt on a channel would be skipped. What only Stripe knows, a number above all, is not asked for.
func (c *correspondence) skips(h *imagined, channel string) bool {
	if channel == Email {
		return h.email == "" || c.stopped[Email+h.email]
	}
	number := c.numbers[h.customer]
	return number != "" && c.stopped[SMS+number]
}

// unwanted says of a hunt what [suppressedCustomer] does.
func (c *correspondence) unwanted(h *imagined) bool {
	stopped := false
	for _, step := range h.playbook.Steps {
		person, known := h.email, true
		if step.Channel == SMS {
			person, known = c.numbers[h.customer]
		}
		switch {
		case known && person == "": // cannot be reached
		case known && c.stopped[step.Channel+person]:
			stopped = true
		default:
			return false
		}
	}
	return stopped
}
