package forecast

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/gate"
	"phantom/message"
	"phantom/playbook"
)

// Letters are what the database knows of a merchant's messages and of who wants none, and what a
// simulation adds to it.
type Letters struct {
	letters map[string][]*db.MessageReadSentRow // by each of their persons, the oldest first
	stopped map[string]bool                     // channel and person
	// the person behind a customer's number; "" where they have none
	numbers map[string]string
}

func newLetters() *Letters {
	return &Letters{letters: map[string][]*db.MessageReadSentRow{}, stopped: map[string]bool{}, numbers: map[string]string{}}
}

// load reads all of a merchant's.
func (c *Letters) load(ctx context.Context, queries *db.Queries, merchantID uuid.UUID) error {
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
	numbers, err := queries.MessageReadNumbers(ctx, db.MessageReadNumbersParams{MerchantID: merchantID, Unreachable: message.Unreachable, Sentences: message.Sentences})
	if err != nil {
		return fmt.Errorf("list numbers: %w", err)
	}
	for _, n := range numbers {
		c.numbers[string(n.Customer)] = string(n.Person)
	}
	return nil
}

// LoadOne reads what it takes for one hunt alone: of a number nothing.
func (c *Letters) LoadOne(ctx context.Context, queries *db.Queries, merchantID uuid.UUID, h *Hunt) error {
	var persons [][]byte
	for _, person := range c.persons(h, playbook.Email) {
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
	c.stopped[playbook.Email+h.email], err = queries.SuppressionHolds(ctx, db.SuppressionHoldsParams{MerchantID: merchantID, Channel: playbook.Email, Person: []byte(h.email)})
	if err != nil {
		return fmt.Errorf("read suppressions: %w", err)
	}
	return nil
}

func (c *Letters) add(letter *db.MessageReadSentRow) {
	for _, person := range letter.Persons {
		c.letters[string(person)] = append(c.letters[string(person)], letter)
	}
}

// wrote adds a message of a hunt.
func (c *Letters) wrote(h *Hunt, channel string, at time.Time) {
	letter := &db.MessageReadSentRow{Channel: channel, SentAt: at}
	for _, person := range c.persons(h, channel) {
		letter.Persons = append(letter.Persons, []byte(person))
	}
	c.add(letter)
}

// persons are whom a message counts for, as far as is known.
func (c *Letters) persons(h *Hunt, channel string) []string {
	all := []string{h.customer}
	if h.email != "" {
		all = append(all, h.email)
	}
	if number := c.numbers[h.customer]; channel == playbook.SMS && number != "" {
		all = append(all, number)
	}
	return all
}

// allowed is the first moment, now or later, at which the caps let a message of a hunt through.
func (c *Letters) allowed(h *Hunt, channel string, now time.Time) time.Time {
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
	return gate.AllowedAt(rows, channel, now)
}

// skips says whether a message of a hunt on a channel would be skipped. What only Stripe knows, a
// number above all, is not asked for.
func (c *Letters) skips(h *Hunt, channel string) bool {
	if channel == playbook.Email {
		return h.email == "" || c.stopped[playbook.Email+h.email]
	}
	number := c.numbers[h.customer]
	return number != "" && c.stopped[playbook.SMS+number]
}

// Unwanted says of a hunt what [message.Unwanted] does.
func (c *Letters) Unwanted(h *Hunt) bool {
	stopped := false
	for _, step := range h.Playbook.Steps {
		person, known := h.email, true
		if step.Channel == playbook.SMS {
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
