package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/state"
	"phantom/vault"
)

// Task is a claimed row, handed to its kind's [Handler].
type Task struct {
	MerchantID   uuid.UUID
	ID           uuid.UUID
	Kind         string
	Params       json.RawMessage // the frozen request: ids and amounts
	SealedParams *vault.StoredToken
	Attempt      int32 // 1 for the first try
	Fence        int64
	FirstSentAt  *time.Time
	RunAt        time.Time // when it fell due, by PHANTOM's clock
	First        bool      // what it learns may end a hunt: it goes before all others

	finished state.Task // what its handler has made of it by [Finish]
}

// Handler does a task. Nil means done; the errors of this package say what else is to become of it;
// any other error is a failed try, which is repeated later. Its ctx ends when the task is no longer
// the caller's or the process must stop. It must not keep an address, a text or a secret in its
// error: the error is stored.
type Handler func(ctx context.Context, t *Task) error

// verdict is what a handler's error asks for, other than another try.
type verdict struct {
	status state.Task
	delay  time.Duration
	err    error
}

func (v *verdict) Error() string {
	if v.err == nil {
		return "task is to be " + string(v.status)
	}
	return v.err.Error()
}

func (v *verdict) Unwrap() error { return v.err }

// Snooze asks for the same try again after a delay. It is no failed attempt: a 429 is one of these.
func Snooze(delay time.Duration) error { return &verdict{status: state.TaskPending, delay: delay} }

// Snoozed says whether err asks for the same try again, and after which delay.
func Snoozed(err error) (delay time.Duration, is bool) {
	var v *verdict
	if !errors.As(err, &v) || v.status != state.TaskPending {
		return 0, false
	}
	return v.delay, true
}

// Cancel ends a task that is not wanted any more.
func Cancel(why error) error { return &verdict{status: state.TaskCanceled, err: why} }

// Fail ends a task that no repetition would help.
func Fail(why error) error { return &verdict{status: state.TaskFailed, err: why} }

// Park sets a task aside until its merchant is unparked.
func Park(why error) error { return &verdict{status: state.TaskParked, err: why} }

// Review leaves a task to a person.
func Review(why error) error { return &verdict{status: state.TaskNeedsReview, err: why} }

// New is a task to be enqueued.
type New struct {
	MerchantID   uuid.UUID
	Kind         string
	Params       any // marshalled to a JSON object; nil is {}
	SealedParams *vault.EncryptedToken
	RunAt        time.Time // by the database's clock; zero is now
	// "" for none: of the live tasks of one kind and merchant at most one holds a key
	UniqueKey string

	ID uuid.UUID // made if zero; the context of SealedParams needs it beforehand

	// Of [Join] alone.
	First bool          // it goes before all others
	Wait  time.Duration // how long it waits where none waits already
	Pause time.Duration // how long it waits where one runs
}

// Enqueue adds a task in the caller's transaction and wakes the workers when that commits. It
// returns the task's id, or uuid.Nil if a live task holds the unique key already.
func Enqueue(ctx context.Context, tx db.DBTX, t New) (uuid.UUID, error) {
	params, err := marshalParams(t.Params)
	if err != nil {
		return uuid.Nil, err
	}
	if t.ID == uuid.Nil {
		if t.ID, err = uuid.NewV7(); err != nil {
			return uuid.Nil, fmt.Errorf("make id: %w", err)
		}
	}
	row := db.TaskEnqueueParams{MerchantID: t.MerchantID, ID: t.ID, Kind: t.Kind, Params: params, SealedParams: t.SealedParams}
	if !t.RunAt.IsZero() {
		row.RunAt = &t.RunAt
	}
	if t.UniqueKey != "" {
		row.UniqueKey = &t.UniqueKey
	}
	queries := db.New(tx)
	added, err := queries.TaskEnqueue(ctx, row)
	if err != nil {
		return uuid.Nil, fmt.Errorf("enqueue %s: %w", t.Kind, err)
	}
	if added == 0 {
		return uuid.Nil, nil
	}
	return t.ID, Rouse(ctx, tx)
}

// Join is [Enqueue] for what any number of callers may ask for at once: t has a unique key, and
// where a live task holds it, none is added. If that one waits, for any reason, it is due soon; if
// it runs, and so may have looked already, it runs once more after this try, however that ends. So
// a look that begins after the caller's commit follows each Join, and a thousand calls make two.
// What goes first does not wait for one that runs and does not: it takes the key over. The handler
// of such a kind must not end its task by [Finish], which forgets who has joined.
func Join(ctx context.Context, tx db.DBTX, t New) error {
	if t.UniqueKey == "" || t.SealedParams != nil || !t.RunAt.IsZero() {
		return fmt.Errorf("join %s: the task lacks a key, or has a time or sealed params", t.Kind)
	}
	params, err := marshalParams(t.Params)
	if err != nil {
		return err
	}
	if t.ID == uuid.Nil {
		if t.ID, err = uuid.NewV7(); err != nil {
			return fmt.Errorf("make id: %w", err)
		}
	}
	queries := db.New(tx)
	if t.First {
		if err := queries.TaskYield(ctx, db.TaskYieldParams{
			MerchantID: t.MerchantID, Kind: t.Kind, UniqueKey: t.UniqueKey,
		}); err != nil {
			return fmt.Errorf("take the key of %s over: %w", t.Kind, err)
		}
	}
	if err := queries.TaskJoin(ctx, db.TaskJoinParams{
		MerchantID: t.MerchantID, ID: t.ID, Kind: t.Kind, Params: params, UniqueKey: t.UniqueKey, First: t.First,
		Wait: t.Wait.Seconds(), Pause: t.Pause.Seconds(),
	}); err != nil {
		return fmt.Errorf("join %s: %w", t.Kind, err)
	}
	return Rouse(ctx, tx)
}

// EnqueueKeyed is [Enqueue] for many tasks of one merchant and kind in one statement. Each has a
// time, a unique key and an id of its own making. It returns how many were added.
func EnqueueKeyed(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, kind string, tasks []New) (added int64, err error) {
	if len(tasks) == 0 {
		return 0, nil
	}
	rows := db.TaskEnqueueKeyedParams{MerchantID: merchantID, Kind: kind}
	for _, t := range tasks {
		if t.RunAt.IsZero() || t.UniqueKey == "" || t.ID == uuid.Nil || t.SealedParams != nil {
			return 0, fmt.Errorf("enqueue %s: a task lacks a time, a key or an id, or has sealed params", kind)
		}
		params, err := marshalParams(t.Params)
		if err != nil {
			return 0, err
		}
		rows.Ids, rows.Params = append(rows.Ids, t.ID), append(rows.Params, params)
		rows.RunAts, rows.UniqueKeys = append(rows.RunAts, t.RunAt), append(rows.UniqueKeys, t.UniqueKey)
	}
	queries := db.New(tx)
	if added, err = queries.TaskEnqueueKeyed(ctx, rows); err != nil {
		return 0, fmt.Errorf("enqueue %s: %w", kind, err)
	}
	if added > 0 {
		return added, Rouse(ctx, tx)
	}
	return added, nil
}

// channel is where idle processes listen.
const channel = "phantom_task"

// Rouse wakes idle processes once the caller's transaction has committed.
func Rouse(ctx context.Context, tx db.DBTX) error { return db.Notify(ctx, tx, channel, "") }

func marshalParams(params any) ([]byte, error) {
	if params == nil {
		return []byte("{}"), nil
	}
	text, err := json.Marshal(params)
	if err != nil {
		return nil, fmt.Errorf("marshal params: %w", err)
	}
	if len(text) == 0 || text[0] != '{' {
		return nil, errors.New("marshal params: they are not a JSON object")
	}
	return text, nil
}
