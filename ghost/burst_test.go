package ghost

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/connect"
	"phantom/db"
	"phantom/db/dbtest"
	"phantom/internal/stage"
	"phantom/sandbox"
	"phantom/task"
)

// workers are those of a process: of all kinds, of the urgent ones, and of what goes first.
func (b *bench) workers() (stop func()) { return b.workersWith(nil) }

// workersWith has handlers of the test's own too.
func (b *bench) workersWith(own map[string]task.Handler) (stop func()) {
	b.t.Helper()
	handlers := b.s.Handlers()
	maps.Copy(handlers, own)
	ctx, cancel := context.WithCancel(b.t.Context())
	var running sync.WaitGroup
	for _, part := range []task.Config{{}, {Urgent: true, Workers: 4}, {First: true, Workers: 4}} {
		part.ListenURL, part.Handlers, part.Log = b.pool.Config().ConnString(), handlers, b.s.log
		queue, err := task.NewQueue(b.pool, part)
		if err != nil {
			b.t.Fatal(err)
		}
		running.Go(func() { queue.Run(ctx) })
	}
	return func() {
		cancel()
		running.Wait()
	}
}

func (b *bench) await(what string, ask func() bool) {
	b.t.Helper()
	stage.Await(b.t, what, b.log, ask)
}

// waiting are the merchant's refreshes and events that have not ended, but the looks that are
// planned ahead.
func (b *bench) waiting() int {
	return b.Count(`SELECT count(*) FROM scheduled_tasks WHERE kind IN ('webhook', 'refresh') AND unique_key NOT LIKE '%:%'
		AND status NOT IN ('succeeded', 'failed', 'canceled')`)
}

func (b *bench) statusOf(subscription string) string {
	b.t.Helper()
	rows, err := b.queries.GhostListOfSubscriptions(b.t.Context(), listOf(b.merchant, subscription))
	if err != nil {
		b.t.Fatal(err)
	}
	if len(rows) == 0 {
		return "none"
	}
	return string(rows[0].Status)
}

// A hundred and twenty events about one subscription are some readings, and the last of them sees
// the end.
func TestABurstIsReadFewTimes(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 40})
	b.s.spacing = defaultSpacing
	b.audit()
	invoice := b.turn("fail_renewal", "")
	read := b.read("/v1/invoices/" + invoice)
	subscription, charge := read["subscription"].(string), read["charge"].(string)
	before := len(b.world.Requests())
	defer b.workers()()
	began := time.Now()
	kinds := []string{"invoice.updated", "customer.subscription.updated", "invoice.payment_failed", "charge.failed", "invoice.payment_action_required"}
	for i := range 120 {
		if i == 60 {
			b.await("the ghost is open", func() bool { return b.statusOf(subscription) == "open" })
			b.turn("pay", invoice)
			kinds[2] = "invoice.paid"
		}
		e := b.event(kinds[i%len(kinds)], invoice)
		switch {
		case e.Type == "charge.failed":
			e.ObjectID = charge
		case strings.HasPrefix(e.Type, "customer."):
			e.ObjectID = subscription
		default:
			e.Subscription = subscription
		}
		b.receive(e)
	}
	took := time.Since(began)
	b.await("all is read", func() bool { return b.waiting() == 0 })
	if got := b.statusOf(subscription); got != "closed" {
		t.Errorf("a paid ghost is %s", got)
	}
	b.assertTruth()
	reads := len(b.world.Requests()) - before
	t.Logf("%d reads for 120 events within %s", reads, took)
	if most := max(30, int(12*took.Seconds())); reads > most {
		// where a busy machine takes long for them
		t.Errorf("%d reads for 120 events within %s, %d are enough", reads, took, most)
	}
	if n := b.Count("SELECT count(*) FROM webhook_events"); n != 120 {
		t.Errorf("%d events are stored", n)
	}
}

// An event that comes while the subscription is being read may be about what has just been read: it
// is read once more.
func TestEventWhileItIsRead(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"invoice.updated", "invoice.voided"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Customers: 40})
			b.s.spacing = defaultSpacing
			b.audit()
			invoice := b.turn("fail_renewal", "")
			subscription := b.read("/v1/invoices/" + invoice)["subscription"].(string)
			if err := b.s.Refresh(t.Context(), b.merchant, subscription); err != nil {
				t.Fatal(err)
			}
			held, release := make(chan struct{}), make(chan struct{})
			open := sync.OnceFunc(func() { close(release) })
			b.world.Fail(sandbox.Fault{Path: "/v1/invoices", Query: "subscription=", After: true, Hold: func() { close(held); <-release }})
			defer b.workers()()
			defer open()
			e := b.event("customer.subscription.updated", subscription)
			b.receive(e)
			<-held
			b.turn("void", invoice)
			e = b.event(kind, invoice)
			e.Subscription = subscription
			b.receive(e)
			if kind == "invoice.voided" { // which does not wait for the slow one
				b.await("the ghost is closed", func() bool { return b.statusOf(subscription) == "closed" })
			}
			open()
			b.await("all is read", func() bool { return b.waiting() == 0 })
			if got := b.statusOf(subscription); got != "closed" {
				t.Errorf("a ghost whose debt is void is %s", got)
			}
		})
	}
}

// A payment amid the events of thirty renewals is read before them.
func TestAPaymentPassesRenewals(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 60})
	b.audit()
	invoice := b.turn("fail_renewal", "")
	paid := b.read("/v1/invoices/" + invoice)["subscription"].(string)
	if err := b.s.Refresh(t.Context(), b.merchant, paid); err != nil {
		t.Fatal(err)
	}
	var renewing []string
	for _, o := range b.read("/v1/subscriptions?limit=100")["data"].([]any) {
		if id := o.(map[string]any)["id"].(string); id != paid && len(renewing) < 30 {
			renewing = append(renewing, id)
		}
	}
	if len(renewing) != 30 {
		t.Fatalf("%d subscriptions renew", len(renewing))
	}
	// From here on at Stripe's pace for test accounts.
	const pace = 20
	b.connect = connect.New(connect.Config{
		SecretKey: sandbox.SecretKey, ClientID: sandbox.ClientID, APIBase: b.url, ConnectBase: b.url, RateLimit: pace, Log: b.s.log,
	}, b.pool)
	b.s = New(b.pool, b.connect, b.s.log)
	before := len(b.world.Requests())
	defer b.workers()()
	for n := range 3 {
		for _, id := range renewing {
			e := b.event([]string{"customer.subscription.updated", "invoice.updated", "invoice.payment_action_required"}[n], id)
			if n > 0 {
				e.ObjectID, e.Subscription = "in_"+id, id
			}
			b.receive(e)
		}
	}
	b.await("they are being read", func() bool { return len(b.world.Requests()) > before+5 })
	b.turn("pay", invoice)
	e := b.event("invoice.paid", invoice)
	e.Subscription = paid
	before = len(b.world.Requests())
	began := time.Now()
	b.receive(e)
	b.await("the ghost is closed", func() bool { return b.statusOf(paid) == "closed" })
	took, reads := time.Since(began), len(b.world.Requests())-before
	t.Logf("a payment amid 30 renewals closed its ghost after %s, %d reads later", took, reads)
	if reads > 2*pace {
		t.Errorf("%d reads went by before the payment was seen", reads)
	}
	if b.waiting() < 10 {
		t.Error("there was no crowd: this proves nothing")
	}
}

// Each type has its rank, and its task names no id in its key.
func TestRanksOfEvents(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 1})
	shape := regexp.MustCompile(`^[0-9a-f]{64}$`)
	for kind, first := range map[string]bool{
		"invoice.paid": true, "invoice.voided": true, "invoice.marked_uncollectible": true, "charge.refunded": true,
		"charge.dispute.created": true, "charge.dispute.closed": true, "customer.subscription.deleted": true,
		"invoice.payment_failed": false, "invoice.updated": false, "invoice.payment_action_required": false, "charge.failed": false,
		"customer.subscription.created": false, "customer.subscription.updated": false, "customer.subscription.paused": false,
	} {
		for _, named := range []string{"", "sub_named"} {
			dbtest.Exec(t, b.pool, "DELETE FROM scheduled_tasks")
			e := b.event(kind, "obj_1")
			e.Subscription = named
			b.receive(e)
			b.receive(b.event(kind, "obj_2")) // another task, or none
			var got bool
			var key, does string
			if err := b.pool.QueryRow(t.Context(), "SELECT first, unique_key, kind FROM scheduled_tasks ORDER BY id LIMIT 1").Scan(&got, &key, &does); err != nil {
				t.Fatal(err)
			}
			if got != first || !shape.MatchString(key) {
				t.Errorf("%s goes first: %t, with the key %s", kind, got, key)
			}
			want := KindWebhook
			if named != "" || strings.HasPrefix(kind, "customer.") {
				want = KindRefresh
			}
			if does != want {
				t.Errorf("%s, of %q, is a task of kind %s", kind, named, does)
			}
		}
	}
}

// Many events about one charge or dispute are one task, and a process that has climbed from it once
// does not read again.
func TestEventsOfOneObjectAreOneTask(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	b.audit()
	charge := b.first("charges", "invoice")["id"].(string)
	for range 10 {
		b.receive(b.event("charge.failed", charge))
	}
	b.receive(b.event("charge.failed", "ch_other"))
	tasks := b.tasks()
	if len(tasks) != 2 || tasks[0].First {
		t.Fatalf("%d tasks", len(tasks))
	}
	b.receive(b.event("charge.refunded", charge))
	if tasks = b.tasks(); len(tasks) != 2 || !tasks[0].First {
		t.Fatalf("%d tasks after a refund", len(tasks))
	}
	climb := func() int {
		t.Helper()
		before := len(b.world.Requests())
		if err := b.queue().RunOne(t.Context(), b.merchant, b.tasks()[0].ID); err != nil {
			t.Fatal(err)
		}
		return len(b.world.Requests()) - before
	}
	if n := climb(); n != 2 { // the charge and its invoice
		t.Errorf("%d reads", n)
	}
	if n := b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'refresh' AND first AND unique_key NOT LIKE '%:%'"); n != 1 {
		t.Errorf("%d refreshes of a refund's rank", n)
	}
	dbtest.Exec(t, b.pool, "DELETE FROM scheduled_tasks")
	b.receive(b.event("charge.failed", charge))
	if n := climb(); n != 0 {
		t.Errorf("%d reads for what is known", n)
	}
	if n := b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'refresh' AND NOT first"); n != 1 {
		t.Errorf("%d refreshes of a failure's rank", n)
	}
}

// Links are forgotten together when there are too many.
func TestLinksAreBounded(t *testing.T) {
	t.Parallel()
	var l links
	for i := range mostLinks + 5 {
		l.put(link{id: fmt.Sprint(i)}, "sub_1")
	}
	if _, known := l.get(link{id: "0"}); known || len(l.found) != 5 {
		t.Errorf("%d links", len(l.found))
	}
	if _, known := l.get(link{id: fmt.Sprint(mostLinks + 1), merchant: newID()}); known {
		t.Error("a link is another merchant's too")
	}
}

// What a transaction asks for is read after its end, though a refresh waits or runs already.
func TestRefreshInFollowsItsTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 1})
	statuses := func() (all []string) {
		rows, err := b.pool.Query(t.Context(), "SELECT status || coalesce(left(unique_key, 0), ' alone') FROM scheduled_tasks ORDER BY id")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
		return all
	}
	for range 3 {
		if err := RefreshIn(t.Context(), b.pool, b.merchant, "sub_1"); err != nil {
			t.Fatal(err)
		}
	}
	if got := statuses(); !slices.Equal(got, []string{"pending"}) {
		t.Errorf("there is %q", got)
	}
	// While the caller's transaction is open, nobody begins the task that it has joined.
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := RefreshIn(t.Context(), tx, b.merchant, "sub_1"); err != nil {
		t.Fatal(err)
	}
	claim := func() int {
		t.Helper()
		rows, err := b.queries.TaskClaim(t.Context(), db.TaskClaimParams{
			LeaseSeconds: 60, Merchants: []uuid.UUID{b.merchant}, Urgent: true, Share: 9, Batch: 9,
		})
		if err != nil {
			t.Fatal(err)
		}
		return len(rows)
	}
	if n := claim(); n != 0 {
		t.Errorf("%d tasks begin before the transaction ends", n)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := claim(); n != 1 {
		t.Errorf("%d tasks begin after it", n)
	}
	dbtest.Exec(t, b.pool, "UPDATE scheduled_tasks SET status = 'succeeded', lease_until = NULL, finished_at = now()")
	if err := RefreshIn(t.Context(), b.pool, b.merchant, "sub_1"); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, b.pool, "UPDATE scheduled_tasks SET status = 'running', lease_until = now() + interval '1 hour' WHERE status = 'pending'")
	if err := RefreshIn(t.Context(), b.pool, b.merchant, "sub_1"); err != nil {
		t.Fatal(err)
	}
	if got := statuses(); !slices.Equal(got, []string{"succeeded", "running", "pending alone"}) {
		t.Errorf("beside one that runs there is %q", got)
	}
}
