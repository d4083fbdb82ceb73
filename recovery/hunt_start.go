package recovery

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
	"phantom/playbook"
	"phantom/state"
	"phantom/task"
	"phantom/trail"
)

// Hunts of all ghosts begin by a task, in batches of a transaction each. How far it has come stands
// in hunt_starts and moves with each batch, so that the next process that takes the task goes on
// from there.
// docs/adr/0019 has the reasons.

// What such a task does, in its params.
const (
	doAll  = "all"  // what the merchant has asked for
	doAuto = "auto" // what a playbook that says auto begins
)

const (
	// startBatch is how many ghosts are looked at in one transaction.
	startBatch = 500
	// startTime is how long one try begins hunts, before others may have its hand.
	startTime = time.Second
	// startHalted is how long a task waits that a halt holds.
	startHalted = time.Minute
)

// AllStarted says how far [Service.StartAll] has come. Its JSON is part of the HTTP API.
type AllStarted struct {
	ID       uuid.UUID   `json:"id"`
	State    state.Start `json:"state"`     // running: queued too
	Ghosts   int64       `json:"ghosts"`    // open when it was asked for
	LookedAt int64       `json:"looked_at"` // open ghosts that it has come past; some may be newer
	Started
	Error *string `json:"error"` // why it was stopped or has failed
}

// StartAll begins a hunt for each open ghost that the playbook hunts and that is not hunted yet, by
// a task: [Service.ReadStart] says how far it has come. While one runs, it is that one. It fails
// with [ErrOff].
func (s *Service) StartAll(ctx context.Context, merchantID uuid.UUID) (AllStarted, error) {
	newest, err := s.stored(ctx, merchantID)
	if err != nil {
		return AllStarted{}, err
	}
	if newest.Mode == state.ModeOff {
		return AllStarted{}, ErrOff
	}
	id, err := s.startOrJoin(ctx, merchantID, newest)
	if errors.Is(err, pgx.ErrNoRows) { // the one that ran has ended in between
		id, err = s.startOrJoin(ctx, merchantID, newest)
	}
	if err != nil {
		return AllStarted{}, fmt.Errorf("start all: %w", err)
	}
	return s.ReadStart(ctx, merchantID, id)
}

// startOrJoin begins a start, or finds the one that runs. It fails with [pgx.ErrNoRows] where that
// one has ended since.
func (s *Service) startOrJoin(ctx context.Context, merchantID uuid.UUID, playbook playbook.Versioned) (uuid.UUID, error) {
	id := newID()
	err := db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		if err := queries.HuntStartEndLost(ctx, merchantID); err != nil {
			return fmt.Errorf("end what is lost: %w", err)
		}
		created, err := createStart(ctx, queries, merchantID, id, playbook.Version)
		if err != nil {
			return err
		}
		if !created {
			id, err = queries.HuntStartRunning(ctx, merchantID)
			return err
		}
		if _, err := task.Enqueue(ctx, tx, task.New{MerchantID: merchantID, ID: id, Kind: KindHunt, Params: huntParams{Do: doAll}}); err != nil {
			return err
		}
		return trail.Record(ctx, tx, startOf(merchantID, playbook, nil, Started{}))
	})
	return id, err
}

// createStart stores where a task begins. It reports false where there is one already. Version 0
// of the playbook is for one that begins by itself.
func createStart(ctx context.Context, queries *db.Queries, merchantID, id uuid.UUID, version int32) (bool, error) {
	ghosts, err := queries.HuntCountOpen(ctx, merchantID)
	if err != nil {
		return false, fmt.Errorf("count ghosts: %w", err)
	}
	_, err = queries.HuntStartCreate(ctx, db.HuntStartCreateParams{
		MerchantID: merchantID, ID: id, Auto: version == 0, PlaybookVersion: version, Ghosts: ghosts,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// ReadStart says how far a start of all hunts has come. It fails with [ErrNotFound].
func (s *Service) ReadStart(ctx context.Context, merchantID, id uuid.UUID) (AllStarted, error) {
	row, err := s.queries.HuntStartRead(ctx, db.HuntStartReadParams{MerchantID: merchantID, ID: id})
	if errors.Is(err, pgx.ErrNoRows) {
		return AllStarted{}, ErrNotFound
	}
	if err != nil {
		return AllStarted{}, fmt.Errorf("read start: %w", err)
	}
	start := row.HuntStart
	all := AllStarted{
		ID: start.ID, State: start.State, Ghosts: start.Ghosts, LookedAt: start.LookedAt, Error: start.Error,
		Started: Started{Hunts: int(start.Hunts), HeldOut: int(start.HeldOut), Skipped: int(start.Skipped)},
	}
	alive := slices.Contains([]state.Task{state.TaskPending, state.TaskRunning, state.TaskParked}, state.Task(row.Task))
	if start.State == state.StartRunning && !alive { // a person looks at it, or has ended it
		why := "its task did not succeed: ask again"
		all.State, all.Error = state.StartFailed, &why
	}
	return all, nil
}

// goOnStarting begins hunts for a while, and gives its hand back. The tasks of the hunts that it
// has begun fall due before its next try: they do not pile up.
func (s *Service) goOnStarting(ctx context.Context, t *task.Task, auto bool) error {
	if auto {
		if _, err := createStart(ctx, s.queries, t.MerchantID, t.ID, 0); err != nil {
			return err
		}
	}
	for began := time.Now(); time.Since(began) < startTime; {
		more, wait, err := s.startNext(ctx, t)
		switch {
		case err != nil || !more:
			return err
		case wait > 0:
			return task.Snooze(wait)
		}
		failpoint("started")
	}
	return task.Snooze(0)
}

// startNext begins hunts for the next batch of ghosts, or ends the start. wait says for how long it
// is held.
func (s *Service) startNext(ctx context.Context, t *task.Task) (more bool, wait time.Duration, err error) {
	m := t.MerchantID
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		row, err := queries.HuntStartLock(ctx, db.HuntStartLockParams{MerchantID: m, ID: t.ID})
		if err != nil {
			return fmt.Errorf("lock start: %w", err)
		}
		start := row.HuntStart
		if start.State != state.StartRunning {
			return nil
		}
		playbook, err := playbook.Newest(ctx, queries, m)
		if err != nil {
			return err
		}
		why := whyNoMore(row, playbook)
		switch {
		case why != "":
			return finishStart(ctx, queries, start, state.StartStopped, why)
		case row.Disconnected: // auto: it goes on where they come back
			return connect.ErrRevoked
		case row.Halted:
			more, wait = true, startHalted
			return nil
		}
		var result Started
		page, err := nextTargets(ctx, queries, m, playbook.Mode, start.After)
		if err != nil {
			return err
		}
		if err := s.beginPage(ctx, tx, start, playbook, page.ghosts, &result); err != nil {
			return err
		}
		if err := queries.HuntStartAdvance(ctx, db.HuntStartAdvanceParams{
			MerchantID: m, ID: t.ID, After: page.after, LookedAt: int64(page.open), Hunts: int64(result.Hunts),
			HeldOut: int64(result.HeldOut), Skipped: int64(result.Skipped),
		}); err != nil {
			return fmt.Errorf("note how far it has come: %w", err)
		}
		if page.last {
			return finishStart(ctx, queries, start, state.StartSucceeded, "")
		}
		more = true
		return queries.TaskProgressed(ctx, db.TaskProgressedParams{MerchantID: m, ID: t.ID, Fence: t.Fence})
	})
	return more && err == nil, wait, err
}

// whyNoMore is why no further hunt begins by a start, "" if they go on. What a merchant has asked
// for ends with what they have asked it of: their connection, their mode, their playbook.
func whyNoMore(row db.HuntStartLockRow, newest playbook.Versioned) string {
	start := row.HuntStart
	switch {
	case row.LivemodeNow != start.Livemode:
		return "the account was connected in the other mode (live or test) meanwhile"
	case start.Auto && !newest.Begins():
		return "the playbook does not begin hunts by itself any more"
	case start.Auto:
		return ""
	case row.Disconnected || row.ConnectedAnew:
		return "the account was disconnected, or connected anew, meanwhile: ask again"
	case newest.Version != start.PlaybookVersion:
		return "another playbook was stored meanwhile: ask again"
	}
	return ""
}

func finishStart(ctx context.Context, queries *db.Queries, start db.HuntStart, end state.Start, why string) error {
	if err := queries.HuntStartFinish(ctx, db.HuntStartFinishParams{
		MerchantID: start.MerchantID, ID: start.ID, State: end, Error: why,
	}); err != nil {
		return fmt.Errorf("end the start: %w", err)
	}
	return nil
}

func (s *Service) beginPage(ctx context.Context, tx db.DBTX, start db.HuntStart, playbook playbook.Versioned, ghosts []db.GhostTarget,
	result *Started) error {
	if len(ghosts) == 0 {
		return nil
	}
	if start.Auto {
		return s.beginUntried(ctx, tx, start.MerchantID, playbook, ghosts, result)
	}
	hash, err := connect.HasherIn(ctx, tx, start.MerchantID)
	if err != nil {
		return err
	}
	o := opening{s: s, tx: tx, merchant: start.MerchantID, playbook: playbook, hash: hash, started: result}
	return o.begin(ctx, ghosts)
}

// targetPage is the next part of a merchant's ghosts.
type targetPage struct {
	ghosts []db.GhostTarget // as [db.Queries.HuntPageTargets] names targets
	rows   int              // all that it has passed
	open   int
	after  uuid.UUID // the last of them
	last   bool      // there is no other behind them
}

// nextTargets reads the ghosts behind one: startBatch rows at most, open or not.
func nextTargets(ctx context.Context, queries *db.Queries, merchantID uuid.UUID, mode state.Mode, after uuid.UUID) (targetPage, error) {
	rows, err := queries.HuntPageTargets(ctx, db.HuntPageTargetsParams{MerchantID: merchantID, Mode: string(mode), After: after, Most: startBatch})
	if err != nil {
		return targetPage{}, fmt.Errorf("list ghosts: %w", err)
	}
	page := targetPage{rows: len(rows), after: after, last: len(rows) < startBatch}
	for _, row := range rows {
		page.after = row.GhostTarget.ID
		if row.GhostTarget.Status == state.GhostOpen {
			page.open++
		}
		if row.IsTarget {
			page.ghosts = append(page.ghosts, row.GhostTarget)
		}
	}
	return page, nil
}

// targets are all pages.
func targets(ctx context.Context, queries *db.Queries, merchantID uuid.UUID, mode state.Mode) iter.Seq2[targetPage, error] {
	return func(yield func(targetPage, error) bool) {
		for page := (targetPage{}); !page.last; {
			var err error
			if page, err = nextTargets(ctx, queries, merchantID, mode, page.after); !yield(page, err) || err != nil {
				return
			}
		}
	}
}
