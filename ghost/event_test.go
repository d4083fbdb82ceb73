package ghost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-faster/jx"
	"github.com/google/uuid"

	"phantom/connect"
	"phantom/db"
	"phantom/internal/stage"
	"phantom/sandbox"
	"phantom/state"
	"phantom/task"
)

func (b *bench) event(kind, object string) Event {
	return Event{
		ID: "evt_" + strings.ReplaceAll(uuid.NewString(), "-", ""), Type: kind, Account: b.account, ObjectID: object, Created: time.Now().Truncate(time.Second),
	}
}

// receive returns what Receive says of an event that it must not refuse.
func (b *bench) receive(e Event) bool {
	b.t.Helper()
	received, err := b.s.Receive(b.t.Context(), e)
	if err != nil {
		b.t.Fatal(err)
	}
	return received
}

// tasks returns the merchant's tasks of an event.
func (b *bench) tasks() []db.ScheduledTask {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), "SELECT id FROM scheduled_tasks WHERE kind = 'webhook' ORDER BY created_at")
	if err != nil {
		b.t.Fatal(err)
	}
	var all []db.ScheduledTask
	var ids []uuid.UUID
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			b.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for _, id := range ids {
		row, err := b.queries.TaskGet(b.t.Context(), db.TaskGetParams{MerchantID: b.merchant, ID: id})
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, row)
	}
	return all
}

func (b *bench) row() db.Merchant {
	b.t.Helper()
	row, err := b.queries.MerchantGet(b.t.Context(), b.merchant)
	if err != nil {
		b.t.Fatal(err)
	}
	return row
}

// otherMerchant is connected beside the bench's own.
func (b *bench) otherMerchant(account string) uuid.UUID {
	b.t.Helper()
	return stage.Merchant(b.t, b.pool, account)
}

func TestEventIsStoredWithItsTask(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 1})
	e := b.event("charge.dispute.created", "dp_1")
	e.Charge, e.Invoice = "ch_1", "../../v1/accounts" // what is no id is no hint
	if !b.receive(e) {
		t.Fatal("ignored")
	}
	var kind, account, object string
	var created time.Time
	if err := b.pool.QueryRow(t.Context(), "SELECT type, account, object_id, created_at FROM webhook_events WHERE merchant_id = $1 AND id = $2",
		b.merchant, e.ID).Scan(&kind, &account, &object, &created); err != nil {
		t.Fatal(err)
	}
	if kind != e.Type || account != b.account || object != "dp_1" || !created.Equal(e.Created) {
		t.Errorf("row %s %s %s %s", kind, account, object, created)
	}
	tasks := b.tasks()
	if len(tasks) != 1 || tasks[0].Status != state.TaskPending {
		t.Fatalf("tasks %+v", tasks)
	}
	var got webhookParams
	if err := json.Unmarshal(tasks[0].Params, &got); err != nil {
		t.Fatal(err)
	}
	if want := (webhookParams{Event: e.ID, Type: e.Type, Object: "dp_1", Charge: "ch_1"}); got != want {
		t.Errorf("params %+v, want %+v", got, want)
	}
	if b.log.String() != "" {
		t.Errorf("log %s", b.log)
	}
}

func TestUsedTypes(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]bool{
		"invoice.payment_failed": true, "invoice.paid": true, "invoice.voided": true, "invoice.marked_uncollectible": true, "invoice.updated": true,
		"customer.subscription.created": true, "customer.subscription.updated": true, "customer.subscription.deleted": true,
		"customer.subscription.paused": true, "customer.subscription.resumed": true, "customer.subscription.trial_will_end": true,
		"charge.dispute.created": true, "charge.dispute.closed": true, "charge.dispute.funds_reinstated": true, "charge.refunded": true,
		"account.application.deauthorized": true,
		"invoice.payment_action_required":  true, "charge.failed": true,
		"payment_method.attached": true, "payment_method.updated": true, "payment_method.automatically_updated": true,
		"payment_method.detached": true, "customer.updated": true, "customer.deleted": true,
		"customer.source.created": true, "customer.source.updated": true, "customer.source.deleted": true, "customer.source.expiring": true,
		"payment_method.": false, "payment_method": false, "payment_method.x": false, "customer.source.": false, "customer.source.x": false,
		"charge.succeeded": false, "customer.tax_id.created": false, "customer.updated\n": false,
		"": false, "invoice.created": false, "invoice.paid ": false, "Invoice.paid": false, "invoice": false, "customer.created": false,
		"customer.subscription": false, "customer.subscription.": false, "customer.subscription.\x00": false,
		"customer.subscription." + strings.Repeat("x", 65): false, "charge.dispute.x.y": false, "account.application.authorized": false,
		"customer.subscription.updated\n": false, "xcustomer.subscription.updated": false,
	} {
		if isUsed(kind) != want {
			t.Errorf("%q: %t", kind, !want)
		}
	}
}

// What is none of our business leaves nothing behind, in nobody's rows.
func TestForeignEventsAreIgnored(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 1})
	other := b.otherMerchant("acct_other")
	for name, change := range map[string]func(*Event){
		"unknown account":     func(e *Event) { e.Account = "acct_unknown" },
		"the platform's own":  func(e *Event) { e.Account = "" },
		"no account's name":   func(e *Event) { e.Account = "acct_\x00" },
		"part of an account":  func(e *Event) { e.Account = e.Account[:len(e.Account)-1] },
		"another case":        func(e *Event) { e.Account = strings.ToUpper(e.Account) },
		"live":                func(e *Event) { e.Livemode = true },
		"unused type":         func(e *Event) { e.Type = "customer.created" },
		"live deauthorized":   func(e *Event) { e.Type, e.Livemode = deauthorized, true },
		"unknown's departure": func(e *Event) { e.Type, e.Account = deauthorized, "acct_unknown" },
	} {
		e := b.event("invoice.paid", "in_1")
		change(&e)
		if b.receive(e) {
			t.Errorf("%s: taken", name)
		}
	}
	for name, change := range map[string]func(*Event){
		"no object":     func(e *Event) { e.ObjectID = "" },
		"a path":        func(e *Event) { e.ObjectID = "../account" },
		"an address":    func(e *Event) { e.ObjectID = "a@example.com" },
		"a zero byte":   func(e *Event) { e.ObjectID = "in_\x00" },
		"a long object": func(e *Event) { e.ObjectID = strings.Repeat("x", 256) },
		"no id":         func(e *Event) { e.ID = "" },
		"a long id":     func(e *Event) { e.ID = strings.Repeat("x", 256) },
	} {
		e := b.event("invoice.paid", "in_1")
		change(&e)
		if received, err := b.s.Receive(t.Context(), e); received || !errors.Is(err, ErrInvalidEvent) {
			t.Errorf("%s: %t, %v", name, received, err)
		}
	}
	if n := b.Count("SELECT (SELECT count(*) FROM webhook_events) + (SELECT count(*) FROM scheduled_tasks)"); n != 0 {
		t.Errorf("%d rows", n)
	}
	// One account's events, even under the same id, are not the other's.
	mine := b.event("customer.subscription.updated", "sub_1")
	theirs := mine
	theirs.Account = "acct_other"
	for _, e := range []Event{mine, theirs, mine, theirs} {
		if !b.receive(e) {
			t.Error("ignored")
		}
	}
	for _, id := range []uuid.UUID{b.merchant, other} {
		if n := b.Count("SELECT (SELECT count(*) FROM webhook_events WHERE merchant_id = $1) * 10 + (SELECT count(*) FROM scheduled_tasks WHERE merchant_id = $1)", id); n != 11 {
			t.Errorf("%d rows", n)
		}
	}
	leaving := b.event(deauthorized, "ca_1")
	leaving.Account = "acct_other"
	if !b.receive(leaving) || b.row().AccessToken == nil || b.Count("SELECT count(*) FROM scheduled_tasks WHERE merchant_id = $1 AND status = 'pending'", b.merchant) != 1 {
		t.Error("the other's departure touched this one")
	}
	if n := b.Count("SELECT count(*) FROM merchants WHERE id = $1 AND access_token IS NULL", other); n != 1 {
		t.Error("the other is still connected")
	}
}

// A thousand deliveries of one event, many at once, are one.
func TestReplaysHaveOneEffect(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 1})
	for _, e := range []Event{b.event("invoice.paid", "in_1"), b.event(deauthorized, "ca_1")} {
		var group sync.WaitGroup
		var left atomic.Int32
		left.Store(1000)
		for range 20 {
			group.Go(func() {
				for left.Add(-1) >= 0 {
					if received, err := b.s.Receive(t.Context(), e); err != nil || !received {
						t.Errorf("%s: %t, %v", e.Type, received, err)
					}
				}
			})
		}
		group.Wait()
	}
	if n := b.Count("SELECT count(*) FROM webhook_events"); n != 2 {
		t.Errorf("%d events", n)
	}
	if tasks := b.tasks(); len(tasks) != 1 || tasks[0].Status != state.TaskParked {
		t.Errorf("tasks %+v", tasks)
	}
	if n := strings.Count(b.log.String(), "merchant disconnected"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestDeauthorization(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 1})
	if !b.receive(b.event("invoice.paid", "in_1")) {
		t.Fatal("ignored")
	}
	connectedAt := b.row().ConnectedAt
	second := connectedAt.Truncate(time.Second)

	// Older than the connection: late, out of order, from before a reconnection.
	for _, age := range []time.Duration{time.Second, time.Hour, 3 * 24 * time.Hour} {
		old := b.event(deauthorized, "ca_1")
		old.Created = second.Add(-age)
		if b.receive(old) || b.row().AccessToken == nil || b.row().DisconnectedAt != nil {
			t.Fatalf("a deauthorization of %s before was obeyed", age)
		}
	}
	if n := b.Count("SELECT count(*) FROM webhook_events WHERE type = $1", deauthorized); n != 0 {
		t.Errorf("%d ignored ones are stored", n)
	}

	leaving := b.event(deauthorized, "ca_1")
	leaving.Created = second // Stripe's resolution
	if !b.receive(leaving) {
		t.Fatal("ignored")
	}
	row := b.row()
	if row.AccessToken != nil || row.RefreshToken != nil || row.EncryptedToken != nil || row.EncryptedRefreshToken != nil || row.DisconnectedAt == nil {
		t.Errorf("row %+v", row)
	}
	if tasks := b.tasks(); len(tasks) != 1 || tasks[0].Status != state.TaskParked {
		t.Errorf("tasks %+v", tasks)
	}
	if n := b.Count("SELECT count(*) FROM webhook_events WHERE type = $1 AND id = $2", deauthorized, leaving.ID); n != 1 {
		t.Error("no record")
	}
	if !strings.Contains(b.log.String(), "[SECURITY] merchant disconnected: tokens forgotten, tasks parked") {
		t.Errorf("log %s", b.log)
	}
	if _, err := b.connect.Reader(t.Context(), b.merchant); !errors.Is(err, connect.ErrRevoked) {
		t.Errorf("reader: %v", err)
	}
	// A merchant who is gone gets no events, and leaves once.
	again := b.event(deauthorized, "ca_1")
	if b.receive(again) || b.receive(b.event("invoice.paid", "in_2")) {
		t.Error("a disconnected merchant's event was taken")
	}

	if _, id := b.handshake(b.account); id != b.merchant {
		t.Fatal("another row")
	}
	row = b.row()
	if row.AccessToken == nil || row.DisconnectedAt != nil {
		t.Errorf("row %+v", row)
	}
	if tasks := b.tasks(); len(tasks) != 1 || tasks[0].Status != state.TaskPending {
		t.Errorf("tasks %+v", tasks)
	}
	// The event that was obeyed comes once more. It has had its effect, whenever it was made.
	if !b.receive(leaving) || b.row().AccessToken == nil {
		t.Error("a replay disconnected the merchant again")
	}
	if !b.receive(b.event("invoice.paid", "in_3")) {
		t.Error("a returned merchant's event is ignored")
	}
}

// A task whose merchant is gone waits for them, and goes on when they are back.
func TestTaskOfALeftMerchantIsParked(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 1})
	b.receive(b.event("invoice.paid", "in_1"))
	refresh, err := task.Enqueue(t.Context(), b.pool, task.New{MerchantID: b.merchant, Kind: KindRefresh, Params: refreshParams{"sub_1"}})
	if err != nil {
		t.Fatal(err)
	}
	// As if they had been claimed in that instant: the merchant is gone, they are not parked.
	if _, err := b.pool.Exec(t.Context(), "UPDATE merchants SET access_token = NULL, refresh_token = NULL, disconnected_at = now()"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []uuid.UUID{b.tasks()[0].ID, refresh} {
		var status *task.StatusError
		if err := b.queue().RunOne(t.Context(), b.merchant, id); !errors.As(err, &status) || status.Status != state.TaskParked {
			t.Errorf("%v", err)
		}
	}
	b.handshake(b.account)
	if n := b.Count("SELECT count(*) FROM scheduled_tasks WHERE status = 'pending'"); n != 2 {
		t.Errorf("%d tasks are awake", n)
	}
}

// read returns an object of the merchant's account.
func (b *bench) read(path string) (object map[string]any) {
	b.t.Helper()
	reader, err := b.connect.Reader(b.t.Context(), b.merchant)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := reader.Get(b.t.Context(), path, nil, func(d *jx.Decoder) error {
		raw, err := d.Raw()
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, &object)
	}); err != nil {
		b.t.Fatal(err)
	}
	return object
}

// first returns the newest object of a list that has all of fields.
func (b *bench) first(list string, fields ...string) map[string]any {
	b.t.Helper()
	for _, o := range b.read("/v1/" + list + "?limit=100")["data"].([]any) {
		object := o.(map[string]any)
		if !slices.ContainsFunc(fields, func(field string) bool { return object[field] == nil }) {
			return object
		}
	}
	b.t.Fatalf("no such object among the %s", list)
	return nil
}

// No matter what an event is about, its subscription is found.
func TestSubscriptionOfAnEvent(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	text := func(v any) string { s, _ := v.(string); return s }
	dispute, invoice := b.first("disputes"), b.first("invoices", "charge", "subscription")
	disputed := b.read("/v1/invoices/" + text(b.read("/v1/charges/" + text(dispute["charge"]))["invoice"]))
	subscription, charge := text(invoice["subscription"]), text(invoice["charge"])

	for name, test := range map[string]struct {
		event Event
		want  string
		reads int
	}{
		"a subscription":             {Event{Type: "customer.subscription.deleted", ObjectID: "sub_x"}, "sub_x", 0},
		"an invoice":                 {Event{Type: "invoice.paid", ObjectID: text(invoice["id"])}, subscription, 1},
		"an invoice with a hint":     {Event{Type: "invoice.paid", ObjectID: text(invoice["id"]), Subscription: subscription}, subscription, 0},
		"an invoice with nonsense":   {Event{Type: "invoice.paid", ObjectID: text(invoice["id"]), Subscription: "../x"}, subscription, 1},
		"a refund":                   {Event{Type: "charge.refunded", ObjectID: charge}, subscription, 2},
		"a refund with a hint":       {Event{Type: "charge.refunded", ObjectID: charge, Invoice: text(invoice["id"])}, subscription, 1},
		"a dispute":                  {Event{Type: "charge.dispute.closed", ObjectID: text(dispute["id"])}, text(disputed["subscription"]), 3},
		"a dispute with a hint":      {Event{Type: "charge.dispute.closed", ObjectID: text(dispute["id"]), Charge: text(dispute["charge"])}, text(disputed["subscription"]), 2},
		"an invoice without a debt":  {Event{Type: "invoice.updated", ObjectID: "in_alone"}, "", 1},
		"a refund without invoice":   {Event{Type: "charge.refunded", ObjectID: "ch_alone"}, "", 1},
		"an expanded subscription":   {Event{Type: "invoice.updated", ObjectID: "in_expanded"}, "sub_inner", 1},
		"an answer of another shape": {Event{Type: "invoice.updated", ObjectID: "in_odd"}, "", 1},
	} {
		for path, body := range map[string]string{
			"/v1/invoices/in_alone":    `{"id":"in_alone","subscription":null}`,
			"/v1/charges/ch_alone":     `{"id":"ch_alone","object":"charge"}`,
			"/v1/invoices/in_expanded": `{"id":"in_expanded","subscription":{"id":"sub_inner","status":"active"},"lines":{"data":[{"subscription":"sub_wrong"}]}}`,
			"/v1/invoices/in_odd":      `{"id":"in_odd","subscription":"sub/../x"}`,
		} {
			if strings.HasSuffix(path, "/"+test.event.ObjectID) {
				b.world.Fail(sandbox.Fault{Path: path, Status: 200, Body: body})
			}
		}
		params, err := json.Marshal(test.event.params())
		if err != nil {
			t.Fatal(err)
		}
		before := len(b.world.Requests())
		b.s.links = links{} // as another process
		var got string
		err = b.s.handleEvent(t.Context(), &task.Task{MerchantID: b.merchant, Params: params}, func(_ context.Context, merchant uuid.UUID, id string) error {
			if got = id; merchant != b.merchant {
				t.Errorf("%s: merchant %s", name, merchant)
			}
			return nil
		})
		if reads := len(b.world.Requests()) - before; err != nil || got != test.want || reads != test.reads {
			t.Errorf("%s: %q after %d reads, %v; want %q after %d", name, got, reads, err, test.want, test.reads)
		}
	}
}

func TestHandleEventFails(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 1})
	for name, test := range map[string]struct {
		params  string
		fault   int
		times   int // one is the request's, two the question's about the account
		refresh error
		want    string
	}{
		"an unknown invoice":    {params: `{"type":"invoice.paid","object":"in_x","invoice":"in_x"}`, want: "canceled"},
		"an unknown charge":     {params: `{"type":"charge.refunded","object":"ch_x","charge":"ch_x"}`, want: "canceled"},
		"an unknown dispute":    {params: `{"type":"charge.dispute.created","object":"dp_x"}`, want: "canceled"},
		"nothing to read anew":  {params: `{"subscription":"sub_x"}`, refresh: connect.ErrNotFound, want: "canceled"},
		"a refused token":       {params: `{"object":"in_x","invoice":"in_x"}`, fault: http.StatusUnauthorized, times: 2, want: "parked"},
		"a refusal that passes": {params: `{"object":"in_x","invoice":"in_x"}`, fault: http.StatusUnauthorized, times: 1, want: "canceled"},
		// after its tries
		"a missing permission":   {params: `{"object":"in_x","invoice":"in_x"}`, fault: http.StatusForbidden, times: 1, want: "needs_review"},
		"a token refused later":  {params: `{"subscription":"sub_x"}`, refresh: connect.ErrRevoked, want: "parked"},
		"params of another time": {params: `{"subscription":1}`, want: "needs_review"},
		// after its tries
		"any other failure": {params: `{"subscription":"sub_x"}`, refresh: errors.New("no"), want: "needs_review"},
	} {
		if test.fault != 0 {
			b.world.Fail(sandbox.Fault{Path: "/v1/", Status: test.fault, Times: test.times})
		}
		queue, err := task.NewQueue(b.pool, task.Config{
			ListenURL: b.pool.Config().ConnString(), MaxAttempts: 1, Log: b.s.log, Handlers: map[string]task.Handler{
				KindWebhook: b.connect.Parking(func(ctx context.Context, t *task.Task) error {
					return b.s.handleEvent(ctx, t, func(context.Context, uuid.UUID, string) error { return test.refresh })
				}),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		id, err := task.Enqueue(t.Context(), b.pool, task.New{MerchantID: b.merchant, Kind: KindWebhook, Params: json.RawMessage(test.params)})
		if err != nil {
			t.Fatal(err)
		}
		var status *task.StatusError
		if err := queue.RunOne(t.Context(), b.merchant, id); !errors.As(err, &status) || string(status.Status) != test.want {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}

// An outage of Stripe's is no failed try: after some of those a stop would wait for a person.
func TestAnOutageIsWaitedFor(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 1})
	snoozed := task.Snooze(0).Error()
	down := func(context.Context, uuid.UUID, string) error {
		return fmt.Errorf("read: %w", &connect.ReadError{Err: errors.New("stripe answered 500")})
	}
	event := &task.Task{MerchantID: b.merchant, Kind: KindWebhook, Params: []byte(`{"subscription":"sub_x"}`)}
	if err := b.s.handleEvent(t.Context(), event, down); err == nil || err.Error() != snoozed {
		t.Errorf("an event's subscription: %v", err)
	}
	refresh := &task.Task{MerchantID: b.merchant, Kind: KindRefresh, Params: []byte(`{"subscription":"sub_x"}`)}
	ending, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.s.HandleRefresh(ending, refresh); err == nil || err.Error() == snoozed {
		t.Errorf("a refresh of a process that ends: %v", err) // is given back at once
	}
}

// What Stripe refuses for good is a failed try, so that a person hears of it: waiting changes
// nothing.
func TestARefusalIsAFailedTry(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 1})
	b.world.Fail(sandbox.Fault{Path: "/v1/", Status: http.StatusBadRequest, Times: 1000})
	event := &task.Task{MerchantID: b.merchant, Kind: KindWebhook, Params: []byte(`{"object":"in_x","invoice":"in_x"}`)}
	if err := b.s.HandleEvent(t.Context(), event); !errors.Is(err, connect.ErrRefused) {
		t.Errorf("an event's invoice: %v", err)
	}
	refresh := &task.Task{MerchantID: b.merchant, Kind: KindRefresh, Params: []byte(`{"subscription":"sub_x"}`)}
	if err := b.s.HandleRefresh(t.Context(), refresh); !errors.Is(err, connect.ErrRefused) {
		t.Errorf("a refresh: %v", err)
	}
}

// From the event to the list: a ghost's debt is voided, and the ghost closes; the event of an older
// state that comes later changes nothing.
func TestEventsChangeTheList(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	b.audit()
	ghosts := b.ghosts()
	i := slices.IndexFunc(ghosts, func(g db.GhostTarget) bool {
		return g.Status == state.GhostOpen && slices.IndexFunc(ghosts, func(o db.GhostTarget) bool {
			return o.ID != g.ID && o.StripeSubscriptionID == g.StripeSubscriptionID
		}) < 0
	})
	if i < 0 {
		t.Fatal("the world has no ghost")
	}
	ghost := ghosts[i]
	status := func() string {
		t.Helper()
		var text string
		if err := b.pool.QueryRow(t.Context(), "SELECT status FROM ghost_targets WHERE id = $1", ghost.ID).Scan(&text); err != nil {
			t.Fatal(err)
		}
		return text
	}
	take := func(kind string) {
		t.Helper()
		if !b.receive(b.event(kind, ghost.StripeInvoiceID)) {
			t.Fatal("ignored")
		}
		b.runTasks()
	}
	take("invoice.payment_failed")
	if got := status(); got != "open" {
		t.Fatalf("a ghost of the audit is %s for an event", got)
	}
	token, err := b.row().AccessToken.Reveal("merchants.access_token:" + b.account)
	if err != nil {
		t.Fatal(err)
	}
	for round := 0; status() == "open"; round++ { // one debt after the other, the oldest first
		if round == 20 {
			t.Fatal("the ghost stays open")
		}
		row, err := b.queries.GhostListOfSubscription(t.Context(), db.GhostListOfSubscriptionParams{
			MerchantID: b.merchant, StripeSubscriptionID: ghost.StripeSubscriptionID,
		})
		if err != nil || len(row) != 1 {
			t.Fatal(row, err)
		}
		ghost = row[0]
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/v1/invoices/"+ghost.StripeInvoiceID+"/void", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Idempotency-Key", "void_"+strconv.Itoa(round))
		response, err := http.DefaultClient.Do(request)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatal(response, err)
		}
		response.Body.Close()
		take("invoice.voided")
	}
	take("invoice.payment_failed")
	if got := status(); got != "closed" {
		t.Errorf("an old event made it %s", got)
	}
}
