package ghost

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/sandbox"
)

// turn changes the world and returns the id of what it made or changed.
func (b *bench) turn(do, id string) string {
	b.t.Helper()
	id, err := b.world.Change(sandbox.Change{Account: b.account, Do: do, ID: id})
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// Five events about one invoice come in every order, the last of them twice: the end is one,
// no matter what the world did meanwhile.
func TestEveryOrderOfEventsEndsTheSame(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 40})
	b.audit()
	b.assertTruth()
	invoice := b.turn("fail_renewal", "")
	subscription := b.read("/v1/invoices/" + invoice)["subscription"].(string)
	events := []Event{
		b.event("invoice.payment_failed", invoice), b.event("customer.subscription.updated", subscription), b.event("invoice.updated", invoice),
		b.event("invoice.paid", invoice), b.event("customer.subscription.updated", subscription),
	}
	ghost := func() string {
		b.t.Helper()
		rows, err := b.queries.GhostListOfSubscriptions(t.Context(), listOf(b.merchant, subscription))
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, g := range rows {
			text += fmt.Sprintf("%s %d %s %s %v; ", g.Status, g.Amount, g.StripeInvoiceID, g.ID, text0(g.ClosedReason))
		}
		return text
	}
	deliver := func(order []int) {
		for n, i := range append(order, order[len(order)-1]) {
			e := events[i]
			e.ID = "evt_" + newID().String()[24:] + fmt.Sprint(i)
			if !b.receive(e) {
				t.Fatalf("event %d is ignored", n)
			}
			b.runTasks()
		}
	}
	orders := permutations([]int{0, 1, 2, 3, 4})
	if len(orders) != 120 {
		t.Fatalf("%d orders", len(orders))
	}
	deliver(orders[0])
	open := ghost()
	b.assertTruth()
	for _, order := range orders[1:60] {
		if deliver(order); ghost() != open {
			t.Fatalf("order %v: %s, before %s", order, ghost(), open)
		}
	}
	b.turn("pay", invoice)
	deliver(orders[60])
	closed := ghost()
	b.assertTruth()
	for _, order := range orders[61:] {
		if deliver(order); ghost() != closed {
			t.Fatalf("order %v: %s, before %s", order, ghost(), closed)
		}
	}
	if open == closed {
		t.Errorf("paying changed nothing: %s", open)
	}
}

func permutations(items []int) (all [][]int) {
	if len(items) == 0 {
		return [][]int{nil}
	}
	for i, first := range items {
		for _, rest := range permutations(append(slices.Clone(items[:i]), items[i+1:]...)) {
			all = append(all, append([]int{first}, rest...))
		}
	}
	return all
}

// Of two who read the same subscription the one who began later is right, even if the other writes
// last.
func TestLateWriterOfOldNewsIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 40})
	b.audit()
	invoice := b.turn("fail_renewal", "")
	subscription := b.read("/v1/invoices/" + invoice)["subscription"].(string)
	read, paid := make(chan struct{}), make(chan struct{})
	b.world.Fail(sandbox.Fault{Path: "/v1/charges", After: true, Hold: func() { close(read); <-paid }})
	slow := make(chan error, 1)
	go func() { slow <- b.s.Refresh(t.Context(), b.merchant, subscription) }() // sees the debt
	<-read
	b.turn("pay", invoice)
	if err := b.s.Refresh(t.Context(), b.merchant, subscription); err != nil { // sees it paid
		t.Fatal(err)
	}
	close(paid)
	if err := <-slow; err != nil {
		t.Fatal(err)
	}
	b.assertTruth()
}

// An audit that has read a debt does not bring it back when a webhook has said meanwhile that it is
// paid; nor does a webhook that was read before the audit undo what the audit saw.
func TestAuditsAndWebhooksAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 40})
	b.audit()
	invoice := b.turn("fail_renewal", "")
	subscription := b.read("/v1/invoices/" + invoice)["subscription"].(string)
	if err := b.s.Refresh(t.Context(), b.merchant, subscription); err != nil {
		t.Fatal(err)
	}
	// The audit's last round waits until the money has come and its event is done with.
	read, paid := make(chan struct{}), make(chan struct{})
	b.world.Fail(sandbox.Fault{Path: "/v1/invoices", Query: "status=open", After: true, Hold: func() { close(read); <-paid }})
	go func() {
		<-read
		b.turn("pay", invoice)
		if err := b.s.Refresh(t.Context(), b.merchant, subscription); err != nil {
			t.Error(err)
		}
		close(paid)
	}()
	b.audit()
	b.assertTruth()

	// And the other way round: a slow reader that began before an audit reads anew.
	invoice = b.turn("fail_renewal", "")
	subscription = b.read("/v1/invoices/" + invoice)["subscription"].(string)
	held, audited := make(chan struct{}), make(chan struct{})
	b.world.Fail(sandbox.Fault{Path: "/v1/charges", Query: "customer=", After: true, Hold: func() { close(held); <-audited }})
	slow := make(chan error, 1)
	go func() { slow <- b.s.Refresh(t.Context(), b.merchant, subscription) }()
	<-held
	b.turn("pay", invoice)
	b.audit()
	close(audited)
	if err := <-slow; err != nil {
		t.Fatal(err)
	}
	b.assertTruth()
}

// From the event to the ghost, and from the payment to its end, with workers that listen: the
// figures are in docs/proof.md.
func TestNewsArrivesQuickly(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 40})
	b.audit()
	working := b.work()
	defer working()
	status := func(subscription string) string {
		rows, err := b.queries.GhostListOfSubscriptions(t.Context(), listOf(b.merchant, subscription))
		if err != nil || len(rows) == 0 {
			return "none"
		}
		return string(rows[0].Status)
	}
	wait := func(subscription, want string, since time.Time) time.Duration {
		t.Helper()
		for status(subscription) != want {
			if time.Since(since) > 20*time.Second {
				t.Fatalf("no ghost is %s after 20 s\n%s", want, b.log)
			}
			time.Sleep(2 * time.Millisecond) // the row itself is what is waited for
		}
		return time.Since(since)
	}
	var slowest time.Duration
	for range 5 {
		invoice := b.turn("fail_renewal", "")
		subscription := b.read("/v1/invoices/" + invoice)["subscription"].(string)
		begin := time.Now()
		b.receive(b.event("invoice.payment_failed", invoice))
		slowest = max(slowest, wait(subscription, "open", begin))
		b.turn("pay", invoice)
		begin = time.Now()
		b.receive(b.event("invoice.paid", invoice))
		slowest = max(slowest, wait(subscription, "closed", begin))
	}
	t.Logf("at most %v from an event to its effect", slowest)
}

func listOf(merchant uuid.UUID, subscription string) db.GhostListOfSubscriptionsParams {
	return db.GhostListOfSubscriptionsParams{MerchantID: merchant, Subscriptions: []string{subscription}}
}

// work runs workers until stop is called.
func (b *bench) work() (stop func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	var running sync.WaitGroup
	queue := b.queue()
	running.Go(func() { queue.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}
