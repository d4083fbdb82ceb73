package recovery

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/forecast"
	"phantom/message"
	"phantom/oracle"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/state"
)

// movable gives the test's database a clock that can be put ahead, as dev mode has.
func (b *bench) movable() {
	b.t.Helper()
	b.Exec("CREATE TABLE test_clock AS SELECT $1 * interval '1 microsecond' AS ahead", dbtest.Ahead().Microseconds())
	b.Exec("CREATE OR REPLACE FUNCTION phantom_now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now() + ahead FROM test_clock'")
}

// advance moves PHANTOM's clock and the sandbox's.
func (b *bench) advance(d time.Duration) {
	b.t.Helper()
	if err := b.world.AdvanceClock(d); err != nil {
		b.t.Fatal(err)
	}
	b.Exec("UPDATE test_clock SET ahead = ahead + $1 * interval '1 microsecond'", d.Microseconds())
}

func (b *bench) now() time.Time {
	b.t.Helper()
	now, err := b.queries.Now(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return now
}

// calm waits until nothing that is due is left to do.
func (b *bench) calm() {
	b.t.Helper()
	b.await("what is due is done", func() bool {
		return b.Count("SELECT count(*) FROM scheduled_tasks WHERE status = 'running' OR status = 'pending' AND run_at <= phantom_now()") == 0
	})
}

// during runs a queue while f does.
func (b *bench) during(f func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	var running sync.WaitGroup
	queue := b.queue()
	running.Go(func() { queue.Run(ctx) })
	defer running.Wait()
	defer cancel()
	f()
}

// live lets time pass until a moment, and stops wherever something is due.
func (b *bench) live(until time.Time) {
	b.t.Helper()
	for {
		b.calm()
		var next *time.Time
		if err := b.pool.QueryRow(b.t.Context(), "SELECT min(run_at) FROM scheduled_tasks WHERE status = 'pending' AND run_at < $1", until).Scan(&next); err != nil {
			b.t.Fatal(err)
		}
		if next == nil {
			return
		}
		b.advance(max(next.Sub(b.now()), 0) + time.Millisecond)
	}
}

// losers makes a world whose open ghosts are those whose card declines every charge for one and the
// same reason, and that have no renewal within the next week.
func losers(t *testing.T, invoices int) *bench {
	t.Helper()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: invoices})
	b.movable()
	b.audit()
	b.recoverWith(nil)
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	b.during(func() {
		b.calm()
		for _, hunt := range b.active() {
			if err := b.s.Stop(t.Context(), b.merchant, hunt); err != nil {
				t.Fatal(err)
			}
		}
		b.calm()
	})
	b.Exec("UPDATE ghost_targets SET status = 'closed', closed_reason = 'no_access', closed_at = phantom_now() WHERE status = 'open' AND first_failed_at < phantom_now() - interval '18 days'")
	// The bank's answer and the charge that it leaves may be classed differently. Here the reason
	// is one and the same.
	b.Exec(`UPDATE ghost_targets g SET decline_class = a.decline_class, decline_code = a.decline_code
		FROM hunts h JOIN attempts a ON a.merchant_id = h.merchant_id AND a.hunt_id = h.id
		WHERE h.merchant_id = g.merchant_id AND h.ghost_id = g.id AND g.status = 'open' AND a.result = 'declined'`)
	// so that a window does not end in the very moment at which a day since the last failure does
	b.advance(5 * time.Hour)
	return b
}

func (b *bench) active() (ids []uuid.UUID) {
	b.t.Helper()
	active := string(state.HuntActive)
	hunts, err := b.queries.HuntList(b.t.Context(), db.HuntListParams{MerchantID: b.merchant, State: &active, Most: 10_000})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, h := range hunts {
		ids = append(ids, h.ID)
	}
	return ids
}

// sent is what was asked of Stripe in the hunts that began since.
func (b *bench) sent(since time.Time) (list []forecast.Planned) {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), `SELECT a.sent_at, h.ghost_id, t.params ->> 'object', a.amount, a.currency,
			CASE a.action WHEN 'invoice_pay' THEN 'charge' ELSE 'take_over' END, a.reason
		FROM attempts a JOIN hunts h ON h.merchant_id = a.merchant_id AND h.id = a.hunt_id JOIN scheduled_tasks t ON t.merchant_id = a.merchant_id AND t.id = a.task_id
		WHERE h.began_at >= $1 AND a.result IN ('declined', 'paid', 'done')
			AND NOT (a.action = 'invoice_hold' AND h.decline_class IN ('never', 'customer')) -- only Stripe knows whether there is another card
		ORDER BY coalesce(a.sent_at, t.finished_at)`, since)
	if err != nil {
		b.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var p forecast.Planned
		var at *time.Time // a hold that was so already was not sent
		if err := rows.Scan(&at, &p.Ghost, &p.Invoice, &p.Amount, &p.Currency, &p.Action, &p.Reason); err != nil {
			b.t.Fatal(err)
		}
		if p.At = since; at != nil {
			p.At = *at
		}
		list = append(list, p)
	}
	if err := rows.Err(); err != nil {
		b.t.Fatal(err)
	}
	return list
}

// What a dry run says is what happens in the first seven days where every charge is declined: the
// same invoices, amounts and moments, and not one more.
func TestDryRunIsWhatHappens(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*playbook.Playbook){
		"by paydays":        func(*playbook.Playbook) {},
		"few attempts":      func(p *playbook.Playbook) { p.MaxAttempts = 4 },
		"taken over":        func(p *playbook.Playbook) { p.TakeOver = true },
		"under a daily cap": func(p *playbook.Playbook) { p.DailyCap = map[string]int64{"usd": 15_000, "eur": 15_000, "jpy": 15_000} },
		"a short window":    func(p *playbook.Playbook) { p.WindowDays = 4 },
		"a small budget":    func(p *playbook.Playbook) { p.CardBudget = 5 },
		"with a holdout":    func(p *playbook.Playbook) { p.HoldoutPercent = 20 },
		"above a minimum":   func(p *playbook.Playbook) { p.MinAmount = map[string]int64{"usd": 3000, "eur": 3000, "jpy": 3000} },
		"with messages":     inPairs,
		"customers abroad":  inPairs,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "under a daily cap" && os.Getenv("PHANTOM_LONG") != "1" {
				t.Skip("it waits hour by hour, which takes minutes: PHANTOM_LONG=1 runs it")
			}
			b := losers(t, 60)
			if name == "customers abroad" {
				b.abroad()
			}
			b.s.advisor = oracle.Heuristic{}
			p := playbook.Default()
			p.Mode, p.HoldoutPercent, p.Steps = state.ModeRecover, 0, []playbook.Step{}
			p.Auto = false
			change(&p)
			if len(p.Steps) > 0 {
				b.correspond()
			}
			run, err := b.s.DryRun(t.Context(), b.merchant, p)
			if err != nil {
				t.Fatal(err)
			}
			began := b.now()
			if _, err := b.s.SetPlaybook(t.Context(), b.merchant, p); err != nil {
				t.Fatal(err)
			}
			started, err := b.startAll()
			if err != nil {
				t.Fatal(err)
			}
			if started != run.Started {
				t.Errorf("%+v have begun, %+v were foretold", started, run.Started)
			}
			b.during(func() { b.live(began.Add(dryRunTime)) })
			charges, messages := parted(run.Data)
			sent, written := b.sent(began), b.written(began)
			// A charge at the very end of the window may slip past it, for a task runs late by
			// some moments. So nothing is compared from a moment before it on, about which nothing
			// is foretold.
			edge := began.Add(time.Duration(p.WindowDays)*24*time.Hour - 10*time.Minute)
			for slices.ContainsFunc(charges, func(c forecast.Planned) bool { return c.At.Sub(edge).Abs() < 5*time.Minute }) {
				edge = edge.Add(-10 * time.Minute)
			}
			atTheEnd := func(c forecast.Planned) bool { return c.At.After(edge) }
			charges, sent = slices.DeleteFunc(charges, atTheEnd), slices.DeleteFunc(sent, atTheEnd)
			t.Logf("%d hunts, %d and %d foretold, %d and %d done", started.Hunts, len(charges), len(messages), len(sent), len(written))
			if len(charges) == 0 || (len(messages) == 0) != (len(p.Steps) == 0) {
				t.Fatal("nothing was foretold")
			}
			compareRuns(t, charges, sent)
			compareRuns(t, messages, written)
		})
	}
}

// inPairs sets more steps than the caps let through in their days.
func inPairs(p *playbook.Playbook) {
	for _, days := range []int{0, 0, 1, 2} {
		p.Steps = append(p.Steps, playbook.Step{AfterDays: days, Channel: playbook.Email, Template: "reminder"}, playbook.Step{AfterDays: days, Channel: playbook.SMS, Template: "reminder"})
	}
}

// correspond sets up both channels, and takes some customers' addresses from them, or their wish to
// be written to, or a day of it.
func (b *bench) correspond() {
	b.t.Helper()
	if _, err := b.s.messages.SetResend(b.t.Context(), b.merchant, sandbox.ResendKey, "Billing <billing@example.com>"); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.s.messages.SetTwilio(b.t.Context(), b.merchant, sandbox.TwilioSID, sandbox.TwilioToken, "+14155550100"); err != nil {
		b.t.Fatal(err)
	}
	hash, err := b.connect.Hasher(b.t.Context(), b.merchant)
	if err != nil {
		b.t.Fatal(err)
	}
	ghosts := b.targets()
	// Their invoices still hold the address, which a refresh would bring back, before or after a
	// message.
	b.Exec("CREATE TABLE unreachable (id uuid)")
	b.Exec(`CREATE FUNCTION stay_unreachable() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
		IF EXISTS (SELECT 1 FROM unreachable u WHERE u.id = NEW.id) THEN NEW.email = NULL; END IF; RETURN NEW; END$$`)
	b.Exec("CREATE TRIGGER stay_unreachable BEFORE UPDATE ON ghost_targets FOR EACH ROW EXECUTE FUNCTION stay_unreachable()")
	for i, g := range ghosts {
		address, err := message.EmailOf(g.ID, g.Email)
		if err != nil {
			b.t.Fatal(err)
		}
		contact := url.Values{"phone": {fmt.Sprintf("+4915%09d", 555_000_000+i)}}
		switch i % 4 {
		case 1:
			contact.Set("email", "")
			b.Exec("INSERT INTO unreachable VALUES ($1)", g.ID)
			b.Exec("UPDATE ghost_targets SET email = NULL WHERE id = $1", g.ID)
		case 2:
			b.Exec("INSERT INTO suppressions (merchant_id, channel, person, reason) VALUES ($1, 'email', $2, 'unsubscribed') ON CONFLICT DO NOTHING", b.merchant, message.Hasher(hash).Email(address))
		case 3: // written to by a hunt of before
			b.Exec(`INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, planned_for, state, sent_at, persons)
				SELECT merchant_id, gen_random_uuid(), id, 0, 'email', 'x', began_at, 'sent', phantom_now() - interval '10 hours', ARRAY[customer] FROM hunts WHERE ghost_id = $1 LIMIT 1`, g.ID)
		}
		b.contact(g.StripeCustomerID, contact)
	}
}

// contact changes a customer at Stripe.
func (b *bench) contact(customer string, fields url.Values) {
	b.t.Helper()
	b.post("/v1/customers/"+customer, fields)
}

// post changes something at Stripe as the merchant does.
func (b *bench) post(path string, fields url.Values) {
	b.t.Helper()
	merchant, err := b.queries.MerchantGet(b.t.Context(), b.merchant)
	if err != nil {
		b.t.Fatal(err)
	}
	token, err := merchant.AccessToken.Reveal("merchants.access_token:" + b.account)
	if err != nil {
		b.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+path, strings.NewReader(fields.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		b.t.Fatal(response.Status)
	}
}

func parted(all []forecast.Planned) (charges, messages []forecast.Planned) {
	for _, p := range all {
		if p.Template == "" {
			charges = append(charges, p)
			continue
		}
		// by which they are put in order
		p.Invoice, p.Amount, p.Currency, p.Reason = p.Ghost.String()+p.Action, 0, "", ""
		messages = append(messages, p)
	}
	return charges, messages
}

// written are the messages of the hunts that began since.
func (b *bench) written(since time.Time) (list []forecast.Planned) {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), `SELECT m.sent_at, h.ghost_id, m.channel, m.template FROM messages m JOIN hunts h ON h.merchant_id = m.merchant_id AND h.id = m.hunt_id
		WHERE h.began_at >= $1 AND m.state = 'sent' ORDER BY m.sent_at`, since)
	if err != nil {
		b.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var p forecast.Planned
		if err := rows.Scan(&p.At, &p.Ghost, &p.Action, &p.Template); err != nil {
			b.t.Fatal(err)
		}
		p.Invoice = p.Ghost.String() + p.Action
		list = append(list, p)
	}
	if err := rows.Err(); err != nil {
		b.t.Fatal(err)
	}
	return list
}

// No card is charged for invoices that were sent to the customer, and nothing is taken over; who
// wants no message at all is not hunted.
func TestDryRunPlansNoneOfWhatIsSkipped(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1})
	b.audit()
	sent := b.Count("SELECT count(*) FROM ghost_targets WHERE status = 'open' AND rule = 'sent_overdue'")
	all := b.Count(`SELECT count(*) FROM ghost_targets WHERE status = 'open' AND kind = 'owed' AND NOT resubscribed
		AND EXISTS (SELECT FROM jsonb_array_elements(invoices) x
			WHERE (x ->> 'created')::bigint > extract(epoch FROM phantom_now()) - $1 * 86400)`, playbook.Default().MaxDebtAgeDays)
	listed := b.Count("SELECT count(*) FROM ghost_targets WHERE status = 'open'")
	if sent == 0 || sent == all {
		t.Fatalf("%d of %d ghosts have sent invoices", sent, all)
	}
	p := playbook.Default()
	p.HoldoutPercent, p.TakeOver = 0, true
	run, err := b.s.DryRun(t.Context(), b.merchant, p)
	if err != nil {
		t.Fatal(err)
	}
	acts := map[string]int{}
	for _, one := range run.Data {
		acts[one.Action]++
		if one.Action != playbook.Email && b.Count("SELECT count(*) FROM ghost_targets WHERE id = $1 AND rule = 'sent_overdue'", one.Ghost) != 0 {
			t.Errorf("%+v", one)
		}
	}
	if run.Hunts != all || acts[forecast.ActionCharge] == 0 || acts[forecast.ActionTakeOver] == 0 || acts[playbook.Email] == 0 {
		t.Errorf("%d hunts of %d ghosts: %v", run.Hunts, all, acts)
	}
	hash, err := b.connect.Hasher(t.Context(), b.merchant)
	if err != nil {
		t.Fatal(err)
	}
	ghosts := b.targets()
	if len(ghosts) != listed {
		t.Errorf("%d of %d ghosts are looked at", len(ghosts), listed)
	}
	unwanted := 0
	for i, g := range ghosts {
		address, err := message.EmailOf(g.ID, g.Email)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 && address != "" {
			unwanted++
			b.Exec("INSERT INTO suppressions (merchant_id, channel, person, reason) VALUES ($1, 'email', $2, 'unsubscribed') ON CONFLICT DO NOTHING", b.merchant, message.Hasher(hash).Email(address))
			if got, err := message.Unwanted(t.Context(), b.queries, g, hash, p.Steps); !got || err != nil {
				t.Errorf("a customer who has unsubscribed: %v, %v", got, err)
			}
		}
	}
	if run, err = b.s.DryRun(t.Context(), b.merchant, p); err != nil || run.Skipped < unwanted || run.Hunts+run.Skipped != listed || unwanted == 0 {
		t.Errorf("%+v skipped and begun, %d of %d want no message: %v", run.Started, unwanted, all, err)
	}
}

// compare holds what happened against what was foretold. Some minutes are left: what comes a moment
// too early for a rule is put off by a minute.
func compareRuns(t *testing.T, foretold, happened []forecast.Planned) {
	t.Helper()
	byInvoice := func(a, b forecast.Planned) int {
		return cmp.Or(strings.Compare(a.Invoice, b.Invoice), a.At.Compare(b.At))
	}
	slices.SortFunc(foretold, byInvoice)
	slices.SortFunc(happened, byInvoice)
	for i := range max(len(foretold), len(happened)) {
		if i >= len(foretold) || i >= len(happened) {
			t.Errorf("%d foretold, %d happened", len(foretold), len(happened))
			return
		}
		a, b := foretold[i], happened[i]
		off := b.At.Sub(a.At)
		if a.Invoice != b.Invoice || a.Ghost != b.Ghost || a.Amount != b.Amount || a.Currency != b.Currency || a.Action != b.Action || a.Reason != b.Reason || off.Abs() > 10*time.Minute {
			t.Errorf("foretold %+v\nhappened %+v", a, b)
			return
		}
	}
}
