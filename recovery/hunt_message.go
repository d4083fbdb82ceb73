package recovery

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
	"phantom/gate"
	"phantom/message"
	"phantom/playbook"
	"phantom/state"
)

// MayWrite implements [message.Hunts].
func (s *Service) MayWrite(ctx context.Context, queries *db.Queries, q message.Question) (a message.Permission, err error) {
	if len(q.Persons) > 0 {
		if err := queries.MessageShareHunt(ctx, db.MessageShareHuntParams{MerchantID: q.MerchantID, ID: q.HuntID}); err != nil {
			return a, fmt.Errorf("lock the hunt: %w", err)
		}
	}
	// a statement of its own, after the wait for the hunt's row
	row, err := queries.MessageGuard(ctx, db.MessageGuardParams{MerchantID: q.MerchantID, HuntID: q.HuntID, Channel: q.Channel, Person: q.Person, ChargeKey: chargeKey(q.HuntID)})
	if err != nil {
		return a, fmt.Errorf("read what decides about the message: %w", err)
	}
	ghost, err := ghostOf(ctx, queries, row.Hunt)
	if err != nil {
		return a, err
	}
	if a.Playbook, _, err = playbook.Of(row.Playbook, row.Newest, ghost); err != nil {
		return a, fmt.Errorf("read playbook %d: %w", row.Hunt.PlaybookVersion, err)
	}
	a.Now, a.ByHand, a.NextCharge = row.Now, row.Hunt.ByHand, row.NextCharge
	if hunted := a.Playbook.Chosen(ghost, row.Hunt.ByHand, row.Now); len(hunted) > 0 {
		a.Invoice = hunted[0].ID
	}
	// of a message the minimum and what a payment does are not asked
	ghost.Status, ghost.ClosedReason, ghost.Currency = state.Ghost(row.Ghost), nil, ""
	person := &gate.PersonFacts{Channel: q.Channel, Zones: q.Zones, Stopped: row.Suppressed}
	if q.Counted {
		if person.Sent, err = queries.MessageListSent(ctx, db.MessageListSentParams{MerchantID: q.MerchantID, Persons: q.Persons}); err != nil {
			return a, fmt.Errorf("count messages: %w", err)
		}
	}
	a.Ruling = gate.MayLeave(q.Channel, gate.Request{}, gate.Facts{Person: person, Hunt: gate.HuntFacts{
		Hunt: row.Hunt, Ghost: ghost, Playbook: a.Playbook, Halted: row.Halted, Disconnected: row.Disconnected,
	}}, row.Now)
	return a, nil
}

// MessageEnded implements [message.Hunts].
func (s *Service) MessageEnded(ctx context.Context, tx pgx.Tx, e message.Ended) error {
	queries := db.New(tx)
	if err := note(ctx, queries, e.MerchantID, e.HuntID, e.TaskID, e.Words); err != nil {
		return err
	}
	if e.Unwanted {
		hunt, err := queries.HuntGet(ctx, db.HuntGetParams{MerchantID: e.MerchantID, ID: e.HuntID})
		if err != nil {
			return err
		}
		if ended, err := s.EndUnwanted(ctx, tx, hunt); ended || err != nil {
			return err
		}
	}
	return s.planNext(ctx, tx, e.MerchantID, e.HuntID)
}

// EndUnwanted implements [message.Hunts].
func (s *Service) EndUnwanted(ctx context.Context, tx db.DBTX, hunt db.Hunt) (ended bool, err error) {
	queries := db.New(tx)
	ghost, err := queries.HuntGhostGet(ctx, db.HuntGhostGetParams{MerchantID: hunt.MerchantID, ID: hunt.GhostID})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil // what purged it has ended the hunt, or will
	}
	if err != nil {
		return false, fmt.Errorf("read ghost: %w", err)
	}
	row, err := queries.PlaybookGet(ctx, db.PlaybookGetParams{MerchantID: hunt.MerchantID, Version: hunt.PlaybookVersion})
	if err != nil {
		return false, fmt.Errorf("read playbook: %w", err)
	}
	playbook, err := playbook.Read(row)
	if err != nil {
		return false, err
	}
	hash, err := connect.HasherIn(ctx, tx, hunt.MerchantID)
	if err != nil {
		return false, err
	}
	merged, _ := playbook.For(ghost)
	unwanted, err := message.Unwanted(ctx, queries, ghost, hash, merged.Steps)
	if err != nil || !unwanted {
		return false, err
	}
	return true, s.endHunt(ctx, tx, hunt, state.HuntStopped, whyUnwanted)
}

// whyUnwanted is why a hunt ends, or is not begun, whose customer has said stop on every channel.
const whyUnwanted = "the customer wants no message any more"

// noteCanceled ends the message of a task that a person has canceled in the same transaction, and
// says so in its hunt's history. The hunt goes on with the next step by the task of [planAgain].
func noteCanceled(ctx context.Context, tx db.DBTX, merchantID, taskID uuid.UUID) error {
	hunt, words, err := message.Cancel(ctx, tx, merchantID, taskID)
	if err != nil || hunt == uuid.Nil {
		return err
	}
	return note(ctx, db.New(tx), merchantID, hunt, taskID, words)
}
