package ghost

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/sandbox"
)

// toldHunts notes of which ghosts it is told.
type toldHunts struct {
	methods []uuid.UUID
	err     error
}

func (h *toldHunts) GhostsChanged(context.Context, db.DBTX, uuid.UUID, []uuid.UUID) error { return nil }
func (h *toldHunts) MethodsChanged(_ context.Context, _ db.DBTX, _ uuid.UUID, ghosts []uuid.UUID) error {
	h.methods = append(h.methods, ghosts...)
	return h.err
}

var customersTypes = []string{
	"payment_method.attached", "payment_method.updated", "payment_method.automatically_updated", "payment_method.detached",
	"customer.updated", "customer.deleted",
	"customer.source.created", "customer.source.updated", "customer.source.deleted", "customer.source.expiring",
}

// customersEvent is one of a type about a customer.
func (b *bench) customersEvent(kind, customer string) Event {
	e := b.event(kind, "pm_1")
	if kind == "customer.updated" || kind == "customer.deleted" {
		e.ObjectID = customer
	} else {
		e.Customer = customer
	}
	return e
}

// What changes how customers pay has their ghosts read anew and their hunts told; of a customer who
// is no ghost nothing is read.
func TestEventsOfACustomer(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 1})
	hunts := &toldHunts{}
	b.s.Hunts = hunts
	other := b.otherMerchant("acct_other")
	open := dbtest.AddGhost(t, b.pool, b.merchant, "cus_known", "open", 24*time.Hour)
	second := dbtest.AddGhost(t, b.pool, b.merchant, "cus_known", "second", 24*time.Hour)
	waiting := dbtest.AddGhost(t, b.pool, b.merchant, "cus_known", "waiting", 24*time.Hour)
	dbtest.AddGhost(t, b.pool, b.merchant, "cus_known", "paid", 24*time.Hour)
	dbtest.AddGhost(t, b.pool, b.merchant, "cus_paid", "alone", 24*time.Hour)
	dbtest.AddGhost(t, b.pool, other, "cus_theirs", "theirs", 24*time.Hour)
	dbtest.Exec(t, b.pool, "UPDATE ghost_targets SET currency = 'eur', stripe_subscription_id = 'sub_open' WHERE id = $1", second)
	dbtest.Exec(t, b.pool, `UPDATE ghost_targets SET status = 'closed', closed_at = now(),
		closed_reason = CASE WHEN id = $1 THEN 'payment_under_way' ELSE 'paid' END
		WHERE id = $1 OR stripe_subscription_id IN ('sub_paid', 'sub_alone')`, waiting)
	before := len(b.world.Requests())
	for _, kind := range customersTypes {
		hunts.methods = nil
		dbtest.Exec(t, b.pool, "DELETE FROM scheduled_tasks")
		for range 3 {
			if !b.receive(b.customersEvent(kind, "cus_known")) {
				t.Errorf("%s is ignored", kind)
			}
		}
		var subscriptions string
		var first bool
		if err := b.pool.QueryRow(t.Context(), `SELECT string_agg(params ->> 'subscription', ' ' ORDER BY params ->> 'subscription'), bool_and(first)
			FROM scheduled_tasks WHERE kind = 'refresh'`).Scan(&subscriptions, &first); err != nil {
			t.Fatal(err)
		}
		if subscriptions != "sub_open sub_waiting" || first != (kind == "customer.deleted") {
			t.Errorf("%s: %s are read anew, first %t", kind, subscriptions, first)
		}
		want := []uuid.UUID{open, second, waiting}
		if kind == "customer.deleted" {
			want = nil
		}
		slices.SortFunc(hunts.methods, func(x, y uuid.UUID) int { return strings.Compare(x.String(), y.String()) })
		slices.SortFunc(want, func(x, y uuid.UUID) int { return strings.Compare(x.String(), y.String()) })
		if told := slices.Compact(hunts.methods); !slices.Equal(told, want) {
			t.Errorf("%s: the hunts of %v are told, want %v", kind, told, want)
		}
	}
	hunts.methods = nil
	dbtest.Exec(t, b.pool, "DELETE FROM scheduled_tasks")
	events := b.Count("SELECT count(*) FROM webhook_events")
	for _, kind := range customersTypes {
		for _, customer := range []string{"cus_unknown", "cus_paid", "cus_theirs", "cus_know", "CUS_KNOWN"} {
			if !b.receive(b.customersEvent(kind, customer)) {
				t.Errorf("%s about %s is ignored", kind, customer)
			}
			events++
		}
		if kind == "customer.updated" || kind == "customer.deleted" {
			continue
		}
		for _, customer := range []string{"", "../cus_known", "cus_known/", "a@example.com", "cus_\x00", strings.Repeat("x", 256)} {
			if !b.receive(b.customersEvent(kind, customer)) {
				t.Errorf("%s about %q is ignored", kind, customer)
			}
			events++
		}
	}
	if n := b.Count("SELECT count(*) FROM scheduled_tasks"); n != 0 || len(hunts.methods) != 0 || len(b.world.Requests()) != before {
		t.Errorf("%d tasks, %d ghosts told, %d reads for a customer who is no ghost", n, len(hunts.methods), len(b.world.Requests())-before)
	}
	if n := b.Count("SELECT count(*) FROM webhook_events"); n != events {
		t.Errorf("%d events are stored, want %d", n, events)
	}
	for _, customer := range []string{"", "../cus_known", "a@example.com"} {
		if received, err := b.s.Receive(t.Context(), b.customersEvent("customer.updated", customer)); received || !errors.Is(err, ErrInvalidEvent) {
			t.Errorf("a customer %q: %t, %v", customer, received, err)
		}
	}
	// An event whose hunts cannot be told is no event: it comes again.
	hunts.err = errors.New("no")
	e := b.customersEvent("payment_method.attached", "cus_known")
	if received, err := b.s.Receive(t.Context(), e); received || err == nil {
		t.Errorf("%t, %v", received, err)
	}
	hunts.err = nil
	if b.receive(e); b.Count("SELECT count(*) FROM webhook_events WHERE id = $1", e.ID) != 1 || b.Count("SELECT count(*) FROM scheduled_tasks") != 2 {
		t.Error("it was lost")
	}
}
