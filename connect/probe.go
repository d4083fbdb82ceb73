package connect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/state"
	"phantom/task"
)

// KindProbe is the kind of the task that asks Stripe, as long as tasks of a connected merchant are
// parked, whether it accepts the merchant's token again, and wakes them then.
const KindProbe = "probe"

const (
	probeKey   = "probe" // one probe a merchant
	probeFirst = time.Minute
	probeMost  = 30 * time.Minute // between two questions

	// wakeGap is between two wakings by the success of other requests: what parks itself again at
	// once is left to the probe.
	wakeGap = time.Minute
)

// memory is what a process knows of a merchant's parked tasks: it spares every request a question
// to the database.
type memory struct {
	parked bool
	woken  time.Time
}

// park sets a running task aside and plans the probe that will wake it, in one transaction. It
// reports false where the merchant has connected again, or the task is another worker's.
func (s *Service) park(
	ctx context.Context, t *task.Task, connectedAt time.Time, why error,
) (parked bool, err error) {
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		connected, err := db.New(tx).TaskParkHeld(ctx, db.TaskParkHeldParams{
			MerchantID: t.MerchantID, ID: t.ID, Fence: t.Fence, ConnectedAt: connectedAt,
			Error: why.Error(),
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		parked = err == nil
		if err != nil || !connected { // who has left wakes the tasks by coming back
			return err
		}
		return planProbe(ctx, tx, t.MerchantID)
	})
	if err != nil {
		return false, err
	}
	if parked {
		s.memoryMutex.Lock()
		defer s.memoryMutex.Unlock()
		s.memories[t.MerchantID] = memory{parked: true, woken: s.memories[t.MerchantID].woken}
	}
	return parked, nil
}

func planProbe(ctx context.Context, tx db.DBTX, merchantID uuid.UUID) error {
	now, err := db.New(tx).Now(ctx)
	if err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	_, err = task.Enqueue(ctx, tx, task.New{
		MerchantID: merchantID, Kind: KindProbe, RunAt: now.Add(probeFirst), UniqueKey: probeKey,
	})
	return err
}

// EnsureProbes plans a probe for every connected merchant who has parked tasks and none: from
// before there were any, or because one came to rest otherwise.
func (s *Service) EnsureProbes(ctx context.Context) error {
	if _, err := s.queries.ProbeRevive(ctx); err != nil {
		return fmt.Errorf("revive probes: %w", err)
	}
	merchants, err := s.queries.ProbeListMissing(ctx)
	if err != nil {
		return fmt.Errorf("list merchants without a probe: %w", err)
	}
	for _, id := range merchants {
		if err := planProbe(ctx, s.pool, id); err != nil {
			return err
		}
	}
	return nil
}

// accepted is called after each request of a merchant's that has succeeded: what this process has
// parked is woken.
func (s *Service) accepted(ctx context.Context, merchant db.Merchant) {
	s.memoryMutex.Lock()
	m := s.memories[merchant.ID]
	now := s.config.Now()
	due := m.parked && now.Sub(m.woken) >= wakeGap
	if due {
		s.memories[merchant.ID] = memory{woken: now}
	}
	s.memoryMutex.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.databaseTimeout())
	defer cancel()
	var count int64
	if err := db.InTx(ctx, s.pool, func(tx pgx.Tx) (err error) {
		count, err = wake(ctx, tx, merchant.ID)
		return err
	}); err != nil {
		log := task.Log(ctx, s.config.Log)
		log.Warn("[STRIPE] parked tasks cannot be woken now: the probe does it",
			"account", merchant.StripeUserID, "cause", db.Describe(err))
		return
	}
	s.logWoken(ctx, merchant, count)
}

func (s *Service) logWoken(ctx context.Context, merchant db.Merchant, count int64) {
	if count > 0 {
		log := task.Log(ctx, s.config.Log)
		log.Info("[STRIPE] the merchant's token is accepted again: parked tasks are woken",
			"account", merchant.StripeUserID, "tasks", count)
	}
}

// HandleProbe is the handler of [KindProbe]. It fails for nothing: a probe that were left to a
// person would leave the tasks parked.
func (s *Service) HandleProbe(ctx context.Context, t *task.Task) error {
	state, err := s.queries.ProbeLoad(ctx, db.ProbeLoadParams{MerchantID: t.MerchantID, ID: t.ID})
	if err == nil && state.Connected && state.Parked {
		var reader *Reader
		if reader, err = s.Reader(ctx, t.MerchantID); err == nil {
			err = reader.prove(ctx)
		}
	}
	if err == nil {
		err = s.endProbe(ctx, t)
	}
	if err == nil || errors.Is(err, task.ErrLost) {
		return nil // the queue finds it done, or another worker's
	}
	var read *ReadError
	if ctx.Err() == nil && !errors.As(err, &read) && !errors.Is(err, ErrRevoked) {
		log := task.Log(ctx, s.config.Log)
		log.Warn("[STRIPE] cannot ask whether a token is accepted again: it is asked later",
			"cause", db.Describe(err))
	}
	// The longer it has lasted, the less often it is asked: each wait doubles the whole.
	age := time.Duration(state.Age * float64(time.Second))
	return task.Snooze(min(max(age, probeFirst), probeMost))
}

// endProbe wakes what is parked and ends the probe, under the lock of the merchant's row: anyone
// who parks a task comes before that and is seen, or comes after it and plans another probe.
func (s *Service) endProbe(ctx context.Context, t *task.Task) error {
	var merchant db.Merchant
	var count int64
	err := db.InTx(ctx, s.pool, func(tx pgx.Tx) (err error) {
		queries := db.New(tx)
		if err := queries.MerchantLock(ctx, t.MerchantID); err != nil {
			return fmt.Errorf("lock merchant: %w", err)
		}
		if merchant, err = queries.MerchantGet(ctx, t.MerchantID); err != nil {
			return fmt.Errorf("read merchant: %w", err)
		}
		if count, err = wake(ctx, tx, t.MerchantID); err != nil {
			return err
		}
		return task.Finish(ctx, tx, t, state.TaskSucceeded, nil, "")
	})
	if err == nil {
		s.logWoken(ctx, merchant, count)
	}
	return err
}
