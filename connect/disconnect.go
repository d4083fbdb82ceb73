package connect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/task"
	"phantom/trail"
)

// KindUnpark is the kind of the task that wakes a returned merchant's parked tasks, where there are
// many.
const KindUnpark = "unpark"

// atOnce is how many tasks are parked or woken in one transaction. A handshake has four seconds for
// all that it stores, and 100,000 tasks would take as long.
const atOnce = 1000

// Handlers are the kinds of tasks that this package does.
func (s *Service) Handlers() map[string]task.Handler {
	return map[string]task.Handler{KindUnpark: s.HandleUnpark, KindProbe: s.HandleProbe}
}

// Disconnect forgets an account's tokens and parks its tasks, in the caller's transaction. It
// reports false, and changes nothing, where the account is not connected, or was connected after
// at, the second in which Stripe says that it was deauthorized.
//
// What runs at the moment fails at its next read, for Stripe knows of it first, and parks itself,
// as does what is too much to be parked here.
func (s *Service) Disconnect(ctx context.Context, tx pgx.Tx, account string, at time.Time) (bool, error) {
	queries := db.New(tx)
	id, err := queries.MerchantDisconnect(ctx, db.MerchantDisconnectParams{Account: account, DeauthorizedAt: at})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("forget tokens: %w", err)
	}
	// first: a charge that is settled has locked its advice before the cell where it counts
	if err := queries.OracleForgetAdvice(ctx, id); err != nil {
		return false, fmt.Errorf("forget what the oracle has said: %w", err)
	}
	if err := queries.OracleForgetCells(ctx, id); err != nil { // and with them all models
		return false, fmt.Errorf("forget what the oracle learned: %w", err)
	}
	if err := queries.OracleForgetPaydays(ctx, id); err != nil {
		return false, fmt.Errorf("forget what the oracle learned: %w", err)
	}
	if err := queries.OracleForgetModels(ctx); err != nil {
		return false, fmt.Errorf("forget what the oracle learned: %w", err)
	}
	if _, err := queries.TaskPark(ctx, db.TaskParkParams{MerchantID: id, Most: atOnce}); err != nil {
		return false, fmt.Errorf("park tasks: %w", err)
	}
	if err := trail.Record(ctx, tx, trail.Change{
		Merchant: id, Action: "merchant.disconnect", Before: connection{true}, After: connection{false},
	}); err != nil {
		return false, err
	}
	return true, touch(ctx, tx, id)
}

// DisconnectNow is [Service.Disconnect] by an operator's word. It fails with [ErrUnknownAccount]
// where the account is not connected.
func (s *Service) DisconnectNow(ctx context.Context, account string) error {
	return db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		now, err := db.New(tx).Now(ctx)
		if err != nil {
			return fmt.Errorf("read clock: %w", err)
		}
		// a second on: one in which it was connected counts as before
		done, err := s.Disconnect(ctx, tx, account, now.Add(time.Second))
		if err == nil && !done {
			err = ErrUnknownAccount
		}
		return err
	})
}

// connection is what the log says of a merchant's.
type connection struct {
	Connected bool `json:"connected"`
}

// reconnect stores a merchant's tokens and wakes the tasks that were parked without them.
func (s *Service) reconnect(ctx context.Context, params db.MerchantCreateParams) (id uuid.UUID, err error) {
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		before, err := queries.MerchantConnected(ctx, params.StripeUserID)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if params.OwnKey && before.Connected && !before.OwnKey {
			return ErrConnectedOtherway
		}
		if id, err = queries.MerchantCreate(ctx, params); err != nil {
			return err
		}
		if err := trail.Record(ctx, tx, trail.Change{
			Merchant: id, Action: "merchant.connect", Before: connection{before.Connected}, After: connection{true},
		}); err != nil {
			return err
		}
		// A statement of its own, after the lock on the merchant's row: it sees what was parked
		// while we waited for that.
		_, err = wake(ctx, tx, id)
		if err == nil && s.config.Connected != nil {
			err = s.config.Connected(ctx, tx, id)
		}
		if err == nil {
			err = touch(ctx, tx, id)
		}
		return err
	})
	return id, err
}

// wake makes a connected merchant's parked tasks pending, in the caller's transaction, and leaves
// those that are too many to a task.
func wake(ctx context.Context, tx db.DBTX, merchantID uuid.UUID) (count int64, err error) {
	queries := db.New(tx)
	count, err = queries.TaskUnpark(ctx, db.TaskUnparkParams{MerchantID: merchantID, Most: atOnce})
	switch {
	case err != nil:
		return 0, fmt.Errorf("wake tasks: %w", err)
	case count == atOnce:
		_, err = task.Enqueue(ctx, tx, task.New{MerchantID: merchantID, Kind: KindUnpark})
	case count > 0:
		err = task.Rouse(ctx, tx)
	}
	return count, err
}

// HandleUnpark is the handler of [KindUnpark]. It stops early where the merchant has left again.
func (s *Service) HandleUnpark(ctx context.Context, t *task.Task) error {
	for {
		count, err := s.queries.TaskUnpark(ctx, db.TaskUnparkParams{MerchantID: t.MerchantID, Most: atOnce})
		if err != nil {
			return fmt.Errorf("wake tasks: %w", err)
		}
		if count < atOnce {
			return task.Rouse(ctx, s.pool)
		}
	}
}

// Parking makes a handler that fails with [ErrRevoked] park its task until the merchant connects
// again or Stripe accepts the token after all, which a task of [KindProbe] finds out. A plain
// [task.Park] could come just after a reconnection has woken what was parked, and leave the task
// behind for ever; here the task is tried again instead.
func (s *Service) Parking(handler task.Handler) task.Handler {
	return func(ctx context.Context, t *task.Task) error {
		connectedAt, err := s.queries.MerchantGetConnectedAt(ctx, t.MerchantID)
		if err != nil {
			return fmt.Errorf("read merchant: %w", err)
		}
		revoked := handler(hurried(ctx), t)
		if !errors.Is(revoked, ErrRevoked) {
			return revoked
		}
		parked, err := s.park(ctx, t, connectedAt, revoked)
		switch {
		case err != nil:
			return fmt.Errorf("park: %w", err)
		case !parked:
			return task.Snooze(0)
		}
		return task.Park(revoked) // the queue finds it done
	}
}
