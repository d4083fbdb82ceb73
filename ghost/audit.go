package ghost

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
	"phantom/decline"
	"phantom/state"
	"phantom/task"
	"phantom/trail"
)

// KindAudit is the kind of the task that runs an audit. Its id is the audit's.
const KindAudit = "audit"

const (
	// windows that are read at a time: enough to keep 80 requests a second going at 200 ms each
	readers = 16
	// without progress, after which an audit with windows that cannot be read is a failed one
	auditTries = 3
	budgetDays = decline.NetworkDays
)

// StartAudit begins an audit of a merchant's account, or finds the one that runs, and returns its
// id. since, if not nil, leaves out what was created before; an audit that runs and leaves out more
// is widened.
func (s *Service) StartAudit(ctx context.Context, merchantID uuid.UUID, since *time.Time) (id uuid.UUID, err error) {
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		var changed bool
		if id, changed, err = startAudit(ctx, tx, merchantID, since); err != nil || !changed {
			return err
		}
		return trail.Record(ctx, tx, trail.Change{Merchant: merchantID, Action: "audit.start", Object: id.String(), After: struct {
			Since *time.Time `json:"since"`
		}{since}})
	})
	return id, err
}

// StartAuditIn is [Service.StartAudit] in the caller's transaction, as a part of another change.
func StartAuditIn(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, since *time.Time) (uuid.UUID, error) {
	id, _, err := startAudit(ctx, tx, merchantID, since)
	return id, err
}

// startAudit says, too, whether it has changed anything: an audit that runs may do as it is.
func startAudit(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, since *time.Time) (id uuid.UUID, changed bool, err error) {
	queries := db.New(tx)
	if since != nil {
		if since = ptr(since.Truncate(time.Second)); !since.After(epoch) {
			since = nil
		}
	}
	if err := queries.AuditAbandon(ctx, merchantID); err != nil {
		return uuid.Nil, false, fmt.Errorf("abandon audits: %w", err)
	}
	for range 3 { // the audit that runs may end in between
		id := newID()
		added, err := queries.AuditCreate(ctx, db.AuditCreateParams{MerchantID: merchantID, ID: id, Since: since})
		if err != nil {
			return uuid.Nil, false, fmt.Errorf("create audit: %w", err)
		}
		if added > 0 {
			return id, true, beginAudit(ctx, tx, merchantID, id)
		}
		running, err := queries.AuditLockRunning(ctx, merchantID)
		if err == nil {
			wider := running.Since != nil && (since == nil || since.Before(*running.Since))
			if wider {
				err = widenAudit(ctx, queries, merchantID, running, since)
			}
			return running.ID, wider, err
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return uuid.Nil, false, fmt.Errorf("find the audit that runs: %w", err)
		}
	}
	return uuid.Nil, false, connect.ErrDisconnected
}

// beginAudit gives a new audit its windows and its task.
func beginAudit(ctx context.Context, tx db.DBTX, merchantID, id uuid.UUID) error {
	queries := db.New(tx)
	row, err := queries.AuditGet(ctx, db.AuditGetParams{MerchantID: merchantID, ID: id})
	if err != nil {
		return fmt.Errorf("read audit: %w", err)
	}
	for _, list := range slices.Concat(rounds...) {
		w := window{id: newID(), list: list, from: epoch, to: row.Until}
		if row.Since != nil && list != "subscriptions" { // an old subscription may have new debts
			w.from = *row.Since
		}
		if err := queries.AuditCreateWindow(ctx, w.row(row)); err != nil {
			return fmt.Errorf("create window: %w", err)
		}
	}
	_, err = task.Enqueue(ctx, tx, task.New{MerchantID: merchantID, Kind: KindAudit, ID: id})
	return err
}

// widenAudit adds the windows that an audit that runs would leave out.
func widenAudit(ctx context.Context, queries *db.Queries, merchantID uuid.UUID, running db.AuditLockRunningRow, since *time.Time) error {
	from := epoch
	if since != nil {
		from = *since
	}
	row := db.Audit{MerchantID: merchantID, ID: running.ID}
	for _, list := range slices.Concat(rounds...) {
		w := window{id: newID(), list: list, from: from, to: *running.Since}
		if list == "subscriptions" { // it reads them all
			continue
		}
		if err := queries.AuditCreateWindow(ctx, w.row(row)); err != nil {
			return fmt.Errorf("create window: %w", err)
		}
	}
	if err := queries.AuditWiden(ctx, db.AuditWidenParams{MerchantID: merchantID, ID: running.ID, Since: since}); err != nil {
		return fmt.Errorf("widen audit: %w", err)
	}
	return nil
}

// audit is one try at an audit.
type audit struct {
	s          *Service
	row        db.Audit
	task       *task.Task
	progressed sync.Once
	reader     *connect.Reader
	budgetFrom int64

	strange sync.Map // statuses of disputes that PHANTOM does not know
}

// noteStatus remembers that disputes have a status that PHANTOM does not know, for phantom doctor.
func (a *audit) noteStatus(status string) {
	if _, known := a.strange.LoadOrStore(status, true); known {
		return
	}
	task.Log(context.Background(), a.s.log).Info("[WORKER] a dispute has a status that PHANTOM does not know: it counts as open, "+
		"and no card of its customer is charged meanwhile", "audit", a.row.ID, "status", status)
}

// HandleAudit runs an audit from wherever it was.
func (s *Service) HandleAudit(ctx context.Context, t *task.Task) error {
	ctx = connect.Patient(ctx)
	row, err := s.queries.AuditGet(ctx, db.AuditGetParams{MerchantID: t.MerchantID, ID: t.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return task.Cancel(errors.New("the audit is gone"))
	}
	if err != nil {
		return fmt.Errorf("read audit: %w", err)
	}
	a := &audit{s: s, row: row, task: t, budgetFrom: time.Now().AddDate(0, 0, -budgetDays-1).Unix()}
	if row.State != state.AuditRunning { // it was finished, and its facts were not all gone yet
		return a.dropFacts(ctx)
	}
	if a.reader, err = s.connect.Reader(ctx, t.MerchantID); err == nil {
		err = a.reader.CheckAccount(ctx)
	}
	if err == nil && a.reader.Merchant.Livemode != row.Livemode {
		return a.fail(ctx, errors.New("the account was connected in the other mode (live or test) meanwhile: start the audit again"))
	}
	if err != nil {
		return a.giveUp(ctx, t, err)
	}
	task.Log(ctx, s.log).Info("[WORKER] audit begins", "account", a.reader.Merchant.StripeUserID, "audit", row.ID, "try", t.Attempt)
	for {
		failed, err := a.readAll(ctx)
		if err != nil {
			return a.giveUp(ctx, t, err)
		}
		if len(failed) > 0 && asksToSlowDown(failed) {
			return task.Snooze(slowDown)
		}
		if len(failed) > 0 && t.Attempt < auditTries {
			return fmt.Errorf("%d windows could not be read: %w", len(failed), failed[0])
		}
		switch err := a.conclude(ctx, failed); {
		case err == nil:
			return a.dropFacts(ctx)
		case !errors.Is(err, errWidened):
			return fmt.Errorf("conclude: %w", err)
		}
	}
}

// slowDown is how long a task waits whose account Stripe will not let us read for now. That is no
// failed try.
const slowDown = 30 * time.Second

func asksToSlowDown(errs []error) bool {
	var read *connect.ReadError
	return slices.ContainsFunc(errs, func(err error) bool { return errors.As(err, &read) && read.SlowDown })
}

// giveUp ends the audit where Stripe says that no further try would help, or has said no too often;
// any other error is the try's. A merchant who has left finds their audit where it was when they
// come back.
func (a *audit) giveUp(ctx context.Context, t *task.Task, err error) error {
	var read *connect.ReadError
	switch {
	case ctx.Err() != nil:
		return err
	case errors.Is(err, connect.ErrRevoked):
		merchant, getErr := a.s.queries.MerchantGet(ctx, t.MerchantID)
		if getErr != nil {
			return errors.Join(err, getErr)
		}
		if merchant.DisconnectedAt != nil {
			return err // and the task is parked
		}
		if a.reader == nil || !merchant.ConnectedAt.Equal(a.reader.Merchant.ConnectedAt) {
			// with a token that we have not tried
			return errors.New("the merchant has connected again meanwhile")
		}
		return a.fail(ctx, err)
	case errors.As(err, &read) && read.SlowDown:
		return task.Snooze(slowDown)
	case errors.As(err, &read) && t.Attempt >= auditTries:
		return a.fail(ctx, err)
	}
	return err
}

// fail ends the audit with an error that its merchant may read.
func (a *audit) fail(ctx context.Context, why error) error {
	if err := a.finish(ctx, db.AuditFinishParams{
		State: state.AuditFailed, Error: ptr(why.Error()), Totals: []byte("{}"), Objects: a.row.Objects,
	}); err != nil {
		return errors.Join(why, err)
	}
	if err := a.dropFacts(ctx); err != nil {
		return errors.Join(why, err)
	}
	// and not ErrRevoked itself, for which a task is parked
	return task.Fail(errors.New(why.Error()))
}

// errWidened says that somebody has asked for more of the history than we have read: there are new
// windows.
var errWidened = errors.New("the audit is to read more")

// reload takes over what was asked for since the audit's row was read, and fails with errWidened if
// that is more, or with errTaken if the audit has ended.
func (a *audit) reload(ctx context.Context) error {
	row, err := a.s.queries.AuditGet(ctx, db.AuditGetParams{MerchantID: a.row.MerchantID, ID: a.row.ID})
	if err != nil {
		return fmt.Errorf("read audit: %w", err)
	}
	before := a.row.Since
	a.row = row
	switch {
	case row.State != state.AuditRunning:
		return errTaken
	case !sameTime(row.Since, before):
		return errWidened
	}
	return nil
}

// finish stores the audit's end. It fails with errWidened, or with errTaken where another process
// has gone on with it.
func (a *audit) finish(ctx context.Context, end db.AuditFinishParams) error {
	end.MerchantID, end.ID, end.Since, end.Fence = a.row.MerchantID, a.row.ID, a.row.Since, a.task.Fence
	var changed int64
	err := db.InTx(ctx, a.s.pool, func(tx pgx.Tx) (err error) {
		if changed, err = db.New(tx).AuditFinish(ctx, end); err != nil || changed == 0 || a.s.Emit == nil {
			return err
		}
		return a.s.Emit(ctx, tx, a.row.MerchantID, "audit.finished", struct {
			Audit uuid.UUID   `json:"audit"`
			State state.Audit `json:"state"`
		}{a.row.ID, end.State})
	})
	if err == nil && changed == 0 {
		if err = a.reload(ctx); err == nil {
			err = errTaken
		}
	}
	if err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	return nil
}

// readAll reads every window that is not done. failed are those that Stripe would not give.
func (a *audit) readAll(ctx context.Context) (failed []error, err error) {
	if err := a.s.queries.AuditReopenWindows(ctx, db.AuditReopenWindowsParams{MerchantID: a.row.MerchantID, AuditID: a.row.ID}); err != nil {
		return nil, fmt.Errorf("reopen windows: %w", err)
	}
	for _, round := range rounds {
		for { // windows may be added meanwhile
			rows, err := a.s.queries.AuditListWindows(ctx, db.AuditListWindowsParams{MerchantID: a.row.MerchantID, AuditID: a.row.ID})
			if err != nil {
				return nil, fmt.Errorf("list windows: %w", err)
			}
			open := newWindows(rows, round)
			if len(open.open) == 0 {
				break
			}
			some, err := a.readRound(ctx, open)
			if err != nil {
				return nil, err
			}
			failed = append(failed, some...)
		}
	}
	return failed, nil
}

func (a *audit) readRound(ctx context.Context, all *windows) (failed []error, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, all.stop)()
	var mutex sync.Mutex
	var group sync.WaitGroup
	for range readers {
		group.Go(func() {
			for w, ok := all.next(); ok; w, ok = all.next() {
				err := a.read(ctx, w, all)
				var failure *connect.ReadError
				switch {
				case err == nil:
				case errors.As(err, &failure) && !errors.Is(err, connect.ErrRevoked) && ctx.Err() == nil:
					mutex.Lock()
					failed = append(failed, a.failWindow(ctx, w, failure))
					mutex.Unlock()
				default:
					cancel(err)
				}
				all.done()
			}
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return failed, nil
}

// failWindow writes down which window could not be read. It stays where its last checkpoint is.
func (a *audit) failWindow(ctx context.Context, w window, cause error) error {
	err := fmt.Errorf("%s created from %s to %s: %w", w.list, w.from.Format(time.DateOnly), w.to.Format(time.DateOnly), cause)
	task.Log(ctx, a.s.log).Warn("[WORKER] a window of an audit could not be read", "audit", a.row.ID, "window", w.list,
		"from", w.from, "to", w.to, "cause", cause)
	if failErr := a.s.queries.AuditFailWindow(ctx, db.AuditFailWindowParams{
		MerchantID: a.row.MerchantID, AuditID: a.row.ID, ID: w.id, Error: ptr(cause.Error()),
	}); failErr != nil {
		return errors.Join(err, failErr)
	}
	return err
}

// dropFacts deletes what the audit has read. It comes after the audit's end is stored: without its
// facts an audit would judge everybody to be no ghost. Who has lost their lease drops nothing.
func (a *audit) dropFacts(ctx context.Context) error {
	q, m, id, fence := a.s.queries, a.row.MerchantID, a.row.ID, a.task.Fence
	for _, drop := range []func() error{
		func() error {
			return q.AuditDropSubscriptions(ctx, db.AuditDropSubscriptionsParams{MerchantID: m, AuditID: id, Fence: fence})
		},
		func() error {
			return q.AuditDropInvoices(ctx, db.AuditDropInvoicesParams{MerchantID: m, AuditID: id, Fence: fence})
		},
		func() error {
			return q.AuditDropIntents(ctx, db.AuditDropIntentsParams{MerchantID: m, AuditID: id, Fence: fence})
		},
		func() error {
			return q.AuditDropCharges(ctx, db.AuditDropChargesParams{MerchantID: m, AuditID: id, Fence: fence})
		},
		func() error {
			return q.AuditDropDisputes(ctx, db.AuditDropDisputesParams{MerchantID: m, AuditID: id, Fence: fence})
		},
		func() error {
			return q.AuditForgetCursors(ctx, db.AuditForgetCursorsParams{MerchantID: m, AuditID: id})
		},
	} {
		if err := drop(); err != nil {
			return fmt.Errorf("drop facts: %w", err)
		}
	}
	return nil
}

func ptr[T any](v T) *T { return &v }
