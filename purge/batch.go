package purge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"phantom/db"
)

// batch is the ghosts that one transaction purges.
type batch struct {
	merchant uuid.UUID
	ghosts   []db.PurgeListGhostsRow
	found    *mentions
	hash     func(subject, value string) []byte
	purged   Purged
}

// purge deletes the ghosts, the tasks and events that name them, and writes their budgets, in the
// caller's transaction. It returns the ghosts that are gone.
func (b *batch) purge(ctx context.Context, q *db.Queries, cutoff time.Time, wait bool) ([]uuid.UUID, error) {
	if err := b.lock(ctx, q, wait); err != nil {
		return nil, err
	}
	ghosts, err := b.lockGhosts(ctx, q, cutoff)
	if err != nil || len(ghosts) == 0 {
		return nil, err
	}
	// An id goes with the last ghost that bears it: a customer may have a younger one.
	borne, err := b.borne(ctx, q, ghosts)
	if err != nil {
		return nil, fmt.Errorf("list ids of other ghosts: %w", err)
	}
	blocked, events, err := b.purgeTasks(ctx, q, ghosts, borne)
	if err != nil {
		return nil, err
	}
	gone := db.PurgeDeleteGhostsParams{MerchantID: b.merchant}
	var objects, subscriptions []string
	for _, g := range ghosts {
		if slices.ContainsFunc(idsOf(g), func(id string) bool { return blocked[id] }) {
			for _, id := range stripeIDs(g) {
				borne[id] = true
			}
			continue
		}
		gone.Ids, subscriptions = append(gone.Ids, g.ID), append(subscriptions, g.StripeSubscriptionID)
		gone.Customers = append(gone.Customers, b.hash("customer", g.StripeCustomerID))
		gone.Invoices = append(gone.Invoices, b.hash("invoice", g.StripeInvoiceID))
		objects = append(objects, stripeIDs(g)...)
	}
	objects = slices.DeleteFunc(objects, func(id string) bool { return borne[id] })
	if b.purged.Events, err = q.PurgeDeleteEvents(ctx, db.PurgeDeleteEventsParams{MerchantID: b.merchant, Objects: objects, Ids: events}); err != nil {
		return nil, fmt.Errorf("delete events: %w", err)
	}
	if len(gone.Ids) == 0 {
		return nil, nil
	}
	if b.purged.Ghosts, err = q.PurgeDeleteGhosts(ctx, gone); err != nil {
		return nil, fmt.Errorf("delete ghosts: %w", err)
	}
	// The level stays: that a ghost is purged does not mean that it has paid.
	if _, err := q.ShieldPurgeAmounts(ctx, db.ShieldPurgeAmountsParams{MerchantID: b.merchant, Subscriptions: subscriptions}); err != nil {
		return nil, fmt.Errorf("forget amounts of debts: %w", err)
	}
	return gone.Ids, nil
}

func (b *batch) lock(ctx context.Context, q *db.Queries, wait bool) error {
	if wait {
		return q.PurgeLock(ctx, b.merchant)
	}
	locked, err := q.PurgeTryLock(ctx, b.merchant)
	if err == nil && !locked {
		err = errBusy
	}
	return err
}

// lockGhosts returns the batch's ghosts that are still what they were when the tasks were looked
// through.
func (b *batch) lockGhosts(ctx context.Context, q *db.Queries, cutoff time.Time) ([]db.PurgeListGhostsRow, error) {
	params := db.PurgeLockGhostsParams{MerchantID: b.merchant, Cutoff: cutoff}
	listed := make(map[uuid.UUID]db.PurgeListGhostsRow, len(b.ghosts))
	for _, g := range b.ghosts {
		params.Ids = append(params.Ids, g.ID)
		listed[g.ID] = g
	}
	rows, err := q.PurgeLockGhosts(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("lock ghosts: %w", err)
	}
	var ghosts []db.PurgeListGhostsRow
	for _, row := range rows {
		g := db.PurgeListGhostsRow(row)
		if slices.Equal(stripeIDs(g), stripeIDs(listed[g.ID])) {
			ghosts = append(ghosts, g)
		}
	}
	return ghosts, nil
}

// borne returns the Stripe ids that the customers' other ghosts bear. A subscription or an invoice
// has one customer.
func (b *batch) borne(ctx context.Context, q *db.Queries, ghosts []db.PurgeListGhostsRow) (map[string]bool, error) {
	params := db.PurgeListBorneIDsParams{MerchantID: b.merchant}
	for _, g := range ghosts {
		params.Ids = append(params.Ids, g.ID)
		params.Customers = append(params.Customers, g.StripeCustomerID)
	}
	ids, err := q.PurgeListBorneIDs(ctx, params)
	borne := make(map[string]bool, len(ids))
	for _, id := range ids {
		borne[id] = true
	}
	return borne, err
}

// purgeTasks deletes the tasks that name one of the ghosts. It returns the ids named by tasks that
// must stay, and the events that deleted ones were about.
func (b *batch) purgeTasks(ctx context.Context, q *db.Queries, ghosts []db.PurgeListGhostsRow, borne map[string]bool) (
	blocked map[string]bool, events []string, err error) {
	// What has been enqueued since the look through all tasks.
	fresh := mentions{wanted: b.found.wanted, tasks: make(map[string][]uuid.UUID)}
	if err := fresh.look(ctx, q, b.merchant, b.found.since); err != nil {
		return nil, nil, fmt.Errorf("look through new tasks: %w", err)
	}
	named := make(map[uuid.UUID][]string)
	for _, g := range ghosts {
		for _, id := range idsOf(g) {
			if borne[id] {
				continue
			}
			for _, task := range slices.Concat(b.found.tasks[id], fresh.tasks[id]) {
				named[task] = append(named[task], id)
			}
		}
	}
	if len(named) == 0 {
		return nil, nil, nil
	}
	ids := make([]uuid.UUID, 0, len(named))
	for task := range named {
		ids = append(ids, task)
	}
	deleted, err := q.PurgeDeleteTasks(ctx, db.PurgeDeleteTasksParams{MerchantID: b.merchant, Ids: ids})
	if err != nil {
		return nil, nil, fmt.Errorf("delete tasks: %w", err)
	}
	b.purged.Tasks = int64(len(deleted))
	gone := make([]uuid.UUID, 0, len(deleted))
	for _, task := range deleted {
		gone = append(gone, task.ID)
		if task.Event != "" {
			events = append(events, task.Event)
		}
	}
	if err := closeRecords(ctx, q, b.merchant, gone); err != nil {
		return nil, nil, err
	}
	left, err := q.PurgeListTasksLeft(ctx, db.PurgeListTasksLeftParams{MerchantID: b.merchant, Ids: ids})
	if err != nil {
		return nil, nil, fmt.Errorf("list tasks left: %w", err)
	}
	blocked = make(map[string]bool)
	for _, task := range left {
		for _, id := range named[task] {
			blocked[id] = true
		}
	}
	return blocked, events, nil
}

// closeRecords ends what waits for the outcome of tasks that are gone. It will not be known any
// more, and anyone who waited for it, a later hunt of the same invoice among them, would do so for
// ever.
func closeRecords(ctx context.Context, q *db.Queries, merchant uuid.UUID, tasks []uuid.UUID) error {
	if err := q.PurgeCloseAttempts(ctx, db.PurgeCloseAttemptsParams{MerchantID: merchant, Tasks: tasks}); err != nil {
		return fmt.Errorf("close attempts: %w", err)
	}
	if err := q.PurgeCloseMessages(ctx, db.PurgeCloseMessagesParams{MerchantID: merchant, Tasks: tasks}); err != nil {
		return fmt.Errorf("close messages: %w", err)
	}
	return nil
}

func stripeIDs(g db.PurgeListGhostsRow) []string {
	return []string{g.StripeCustomerID, g.StripeSubscriptionID, g.StripeInvoiceID}
}

// idsOf are all that a task may name a ghost by: that of a message holds no id of Stripe's, and
// sealed an address and a name.
func idsOf(g db.PurgeListGhostsRow) []string { return append(stripeIDs(g), g.ID.String()) }

// mentions says which tasks name which of the wanted ids. No index could: a task's params are its
// kind's own, and an index over them would cost each of a task's changes of state. One look serves
// many ghosts instead.
type mentions struct {
	wanted map[string]struct{}
	tasks  map[string][]uuid.UUID
	since  uuid.UUID // tasks made after the look have a greater id
}

// clockSkew is how far the clocks of the machines that make ids may differ, and how long a task may
// take from there to its commit.
const clockSkew = 10 * time.Minute

// lookThroughTasks finds the tasks of a merchant that name one of the ghosts.
func (s *Service) lookThroughTasks(ctx context.Context, merchant uuid.UUID, ghosts []db.PurgeListGhostsRow) (*mentions, error) {
	m := &mentions{
		wanted: make(map[string]struct{}, 4*len(ghosts)), tasks: make(map[string][]uuid.UUID), since: firstID(time.Now().Add(-clockSkew)),
	}
	for _, g := range ghosts {
		for _, id := range idsOf(g) {
			m.wanted[id] = struct{}{}
		}
	}
	return m, m.look(ctx, s.queries, merchant, uuid.Nil)
}

// look reads all that the merchant's tasks behind an id say.
func (m *mentions) look(ctx context.Context, q *db.Queries, merchant, after uuid.UUID) error {
	for {
		page, err := q.PurgeListTaskTexts(ctx, db.PurgeListTaskTextsParams{MerchantID: merchant, After: after, Page: mostRows})
		if err != nil {
			return err
		}
		for _, task := range page {
			for word := range words(task.Said) {
				if _, ok := m.wanted[word]; ok {
					m.tasks[word] = append(m.tasks[word], task.ID)
				}
			}
		}
		if len(page) < mostRows {
			return nil
		}
		after = page[len(page)-1].ID
	}
}

// words yields what stands between quotation marks, no matter what it is, and every run of the
// characters that Stripe's ids consist of.
func words(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for quoted := range strings.SplitSeq(text, `"`) {
			if !yield(quoted) {
				return
			}
		}
		for run := range strings.FieldsFuncSeq(text, func(r rune) bool {
			return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '_' && r != '-'
		}) {
			if !yield(run) {
				return
			}
		}
	}
}

// firstID is the least UUIDv7 of a time.
func firstID(t time.Time) (id uuid.UUID) {
	milliseconds := uint64(t.UnixMilli())
	for i := range 6 {
		id[i] = byte(milliseconds >> (40 - 8*i))
	}
	id[6], id[8] = 0x70, 0x80
	return id
}
