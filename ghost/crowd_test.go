package ghost

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-faster/jx"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db/dbtest"
	"phantom/sandbox"
	"phantom/task"
)

// While one merchant has three thousand tasks due, half of them refreshes, another's event is done
// and another's hunt is planned soon, whichever of the two comes first by id, and however Stripe
// answers.
func TestAnothersCrowdDelaysNobody(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]sandbox.Fault{
		"healthy": {},
		"slow":    {Delay: 300 * time.Millisecond, Times: -1},
		// of the crowd's account alone
		"asked to go": {Status: http.StatusTooManyRequests, Times: -1},
	} {
		for _, last := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, the other one last: %t", name, last), func(t *testing.T) {
				t.Parallel()
				testCrowd(t, fault, last)
			})
		}
	}
}

func testCrowd(t *testing.T, fault sandbox.Fault, last bool) {
	t.Helper()
	const limit, tasks = 20, 3000
	looks, customers := 5, 60
	if os.Getenv("PHANTOM_LONG") != "" {
		looks, customers = 20, 300
	}
	b := setupOn(t, dbtest.Pool(t), sandbox.Config{Customers: customers, Merchants: 2}, limit)
	crowdAccount, crowd := b.account, b.merchant
	_, other := b.handshake(b.world.Accounts()[1])
	if last { // ids grow with time: the later one is the last
		b.account, b.merchant = b.world.Accounts()[1], other
	} else {
		crowdAccount, crowd = b.world.Accounts()[1], other
	}
	b.audit()
	if fault.Times != 0 {
		if fault.Status != 0 {
			fault.Account = crowdAccount
		}
		b.world.Fail(fault)
	}
	if err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		for _, kind := range []string{KindRefresh, "hunt"} {
			var many []task.New
			for i := range tasks / 2 {
				many = append(many, task.New{
					ID: uuid.Must(uuid.NewV7()), RunAt: time.Now().Add(-time.Hour), UniqueKey: fmt.Sprintf("%s %d", kind, i),
					Params: map[string]string{"subscription": fmt.Sprintf("sub_crowd%d", i)},
				})
			}
			if _, err := task.EnqueueKeyed(t.Context(), tx, crowd, kind, many); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	planned := make(chan struct{}, 1)
	hunt := func(ctx context.Context, k *task.Task) error { // looks at Stripe twice
		reader, err := b.connect.Reader(ctx, k.MerchantID)
		if err != nil {
			return err
		}
		for range 2 {
			if err := reader.Get(ctx, "/v1/account", nil, func(d *jx.Decoder) error { return d.Skip() }); err != nil {
				return err
			}
		}
		if k.MerchantID == b.merchant {
			planned <- struct{}{}
		}
		return nil
	}
	stop := b.workersWith(map[string]task.Handler{"hunt": b.connect.Parking(hunt)})
	defer stop()
	b.await("the crowd is worked on", func() bool {
		return b.Count(`SELECT count(*) FROM scheduled_tasks
			WHERE merchant_id = $1 AND (attempts > 0 OR run_at > now())`, crowd) > 20
	})
	var events, hunts []time.Duration
	for range looks {
		invoice := b.turn("fail_renewal", "")
		subscription := b.read("/v1/invoices/" + invoice)["subscription"].(string)
		began := time.Now()
		e := b.event("invoice.payment_failed", invoice)
		e.Subscription = subscription
		b.receive(e)
		b.await("the event is done", func() bool { return b.statusOf(subscription) == "open" })
		events = append(events, time.Since(began))
		began = time.Now()
		if _, err := task.Enqueue(t.Context(), b.pool, task.New{MerchantID: b.merchant, Kind: "hunt"}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-planned:
		case <-time.After(time.Minute):
			t.Fatalf("the hunt is not planned\n%s", b.log)
		}
		hunts = append(hunts, time.Since(began))
	}
	left := b.Count("SELECT count(*) FROM scheduled_tasks WHERE merchant_id = $1 AND status = 'pending'", crowd)
	for what, took := range map[string][]time.Duration{"event": events, "hunt": hunts} {
		slices.Sort(took)
		t.Logf("%s: median %s, worst %s of %d; %d of the crowd's tasks are left", what, took[looks/2].Round(time.Millisecond),
			took[looks-1].Round(time.Millisecond), looks, left)
		// Far more than it takes, and far less than the crowd does.
		if took[looks/2] > 5*time.Second || took[looks-1] > 20*time.Second {
			t.Errorf("%s: the median is %s", what, took[looks/2])
		}
	}
	if left == 0 || left > tasks-5 && fault.Status == 0 {
		t.Errorf("%d of the crowd's %d tasks are left: it proves nothing, or nothing goes on", left, tasks)
	}
}

// An audit waits for the end of a pause that Stripe asks for: it does not begin anew.
func TestAnAuditWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	b := setupOn(t, dbtest.Pool(t), sandbox.Config{Customers: 8, Merchants: 1}, 2)
	b.world.Fail(sandbox.Fault{Status: http.StatusTooManyRequests, Skip: 3, Header: http.Header{"Retry-After": {"7"}}})
	id, err := b.s.StartAudit(t.Context(), b.merchant, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := b.queue().RunOne(ctx, b.merchant, id); err != nil {
		t.Error(err)
	}
	if n := strings.Count(b.log.String(), "audit begins"); n != 1 {
		t.Errorf("the audit began %d times", n)
	}
}
