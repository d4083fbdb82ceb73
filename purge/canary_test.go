package purge

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db/dbtest"
	"phantom/internal/stage"
	"phantom/vault"
)

var canaryShape = regexp.MustCompile(`(EXPIRED|LIVING)CANARY[0-9]+`)

func newService(pool *pgxpool.Pool) (*Service, *connect.Service) {
	log := slog.New(slog.DiscardHandler)
	accounts := connect.New(connect.Config{Log: log}, pool)
	return New(pool, accounts, log), accounts
}

// plant is what a test writes for one ghost of a merchant. Its number tells what kinds of copies it
// gets.
type plant struct {
	merchant uuid.UUID
	number   int
	expired  bool
}

func (p plant) canary() string {
	if p.expired {
		return fmt.Sprintf("EXPIREDCANARY%07d", p.number)
	}
	return fmt.Sprintf("LIVINGCANARY%07d", p.number)
}

func (p plant) attempts() int32 { return int32(p.number%13 + 1) }

func (p plant) card() []byte {
	card := make([]byte, 32)
	copy(card, fmt.Sprint("card", p.number))
	return card
}

func (p plant) age() time.Duration {
	if p.expired {
		return 91*24*time.Hour + time.Duration(p.number)*time.Second
	}
	return 89*24*time.Hour - time.Duration(p.number)*time.Microsecond
}

// oldID is an id of three weeks ago: most tasks about a ghost of 90 days are not new.
func oldID() uuid.UUID {
	id := uuid.Must(uuid.NewV7())
	milliseconds := time.Now().Add(-21 * 24 * time.Hour).UnixMilli()
	for i := range 6 {
		id[i] = byte(milliseconds >> (40 - 8*i))
	}
	return id
}

func sealed(table, key, text string) *vault.EncryptedToken {
	token := vault.NewToken(table+":"+key, text)
	return &token
}

// plantAll writes ghosts with a task and two events each, in every state that they can be in, and
// leftovers of audits and refreshes.
func plantAll(t testing.TB, pool *pgxpool.Pool, plants []plant) {
	t.Helper()
	var ghosts, memories, tasks, events [][]any
	states := []string{"pending", "succeeded", "parked", "failed", "needs_review", "canceled"}
	for _, p := range plants {
		canary, id, taskID, now := p.canary(), uuid.Must(uuid.NewV7()), oldID(), time.Now()
		ghosts = append(ghosts, []any{p.merchant, id, "cus_" + canary, "sub_" + canary, "in_" + canary,
			sealed("ghost_targets.email", id.String(), canary+"@example.com"), []any{map[string]any{"id": "in_" + canary, "amount": 100}}, 100, "usd", p.attempts(), p.attempts() + 1, p.card(), "past_due", now.Add(-p.age())})
		memories = append(memories, []any{p.merchant, id, sealed("ghost_memories.memory", id.String(), `{"c":[{"t":1,"i":"in_`+canary+`"}]}`)})
		state := states[p.number%len(states)]
		var finished *time.Time
		var text, key *string
		var outcome map[string]string
		var request *vault.EncryptedToken
		if state == "succeeded" || state == "failed" || state == "canceled" {
			finished = &now
			outcome = map[string]string{"invoice": "in_" + canary}
		} else {
			key = new(string)
			*key = "sub_" + canary
		}
		if p.number%4 == 0 {
			text = new(string)
			*text = fmt.Sprintf("stripe answered 500 for (sub_%s, in_%s).", canary, canary)
		}
		if p.number%20 == 0 {
			request = sealed("scheduled_tasks.sealed_params", taskID.String(), "dear "+canary+"@example.com")
		}
		var params any
		switch p.number % 5 {
		case 0:
			params = map[string]string{"subscription": "sub_" + canary}
		case 1:
			params = map[string]any{"order": map[string]any{"deep": []string{"cus_" + canary}}}
		default:
			params = map[string]string{"event": "evt_2" + canary, "type": "charge.refunded", "object": "ch_" + canary, "invoice": "in_" + canary}
		}
		if p.number%5 < 2 { // alone, it names nothing that leads to the ghost
			events = append(events, []any{p.merchant, "evt_2" + canary, "invoice.paid", "acct_1", "sub_" + canary, now})
		} else {
			events = append(events, []any{p.merchant, "evt_2" + canary, "charge.refunded", "acct_1", "ch_" + canary, now})
		}
		events = append(events, []any{p.merchant, "evt_1" + canary, "invoice.payment_failed", "acct_1", "in_" + canary, now})
		tasks = append(tasks, []any{p.merchant, taskID, "later", state, params, request, key, text, outcome, finished})
	}
	for _, copied := range []struct {
		table   string
		columns string
		rows    [][]any
	}{
		{"ghost_targets", "merchant_id id stripe_customer_id stripe_subscription_id stripe_invoice_id email invoices amount currency attempt_count card_attempts card rule discovered_at", ghosts},
		{"ghost_memories", "merchant_id ghost_id memory", memories},
		{"scheduled_tasks", "merchant_id id kind status params sealed_params unique_key last_error outcome finished_at", tasks},
		{"webhook_events", "merchant_id id type account object_id created_at", events},
	} {
		if _, err := pool.CopyFrom(t.Context(), pgx.Identifier{copied.table}, strings.Fields(copied.columns), pgx.CopyFromRows(copied.rows)); err != nil {
			t.Fatalf("plant %s: %v", copied.table, err)
		}
	}
	for _, p := range plants[:min(len(plants), 40)] {
		plantAudit(t, pool, p)
		plantHunt(t, pool, p)
	}
}

// plantAudit writes what an audit and a refresh leave about a ghost. An expired one's audit has
// ended, broken off, or stands still; a living one's runs, or ended lately with an error.
func plantAudit(t testing.TB, pool *pgxpool.Pool, p plant) {
	t.Helper()
	canary, id, merchant := p.canary(), uuid.Must(uuid.NewV7()), p.merchant
	age, seen := time.Duration(0), time.Hour
	switch {
	case p.expired && p.number%3 == 0: // ended long ago
		age = 91 * 24 * time.Hour
		dbtest.Exec(t, pool, `INSERT INTO audits (merchant_id, id, state, ticket, livemode, error, created_at, finished_at)
			VALUES ($1, $2, 'failed', 1, false, $3, clock_timestamp() - $4::interval, clock_timestamp() - $4::interval)`, merchant, id, "no in_"+canary, age)
	case p.expired && p.number%3 == 1 && dbtest.Count(t, pool, "SELECT count(*) FROM audits WHERE merchant_id = $1 AND state = 'running'", merchant) == 0:
		// parked for two days
		dbtest.Exec(t, pool, `INSERT INTO audits (merchant_id, id, ticket, livemode, created_at) VALUES ($1, $2, 1, false, clock_timestamp() - interval '2 days')`, merchant, id)
		dbtest.Exec(t, pool, `INSERT INTO scheduled_tasks (merchant_id, id, kind, status) VALUES ($1, $2, 'audit', 'parked')`, merchant, id)
	case p.expired:
		dbtest.Exec(t, pool, `INSERT INTO audits (merchant_id, id, state, ticket, livemode, finished_at) VALUES ($1, $2, 'succeeded', 1, false, clock_timestamp())`, merchant, id)
	default:
		seen = 0
		other := stage.Merchant(t, pool, "acct_"+canary[len("LIVINGCANARY"):])
		merchant = other
		dbtest.Exec(t, pool, `INSERT INTO audits (merchant_id, id, ticket, livemode, created_at) VALUES ($1, $2, 1, false, clock_timestamp() - interval '2 days')`, merchant, id)
		dbtest.Exec(t, pool, `INSERT INTO scheduled_tasks (merchant_id, id, kind, status, lease_until) VALUES ($1, $2, 'audit', 'running', 'infinity')`, merchant, id)
	}
	windowError, state := &canary, "failed"
	if p.expired && age == 0 {
		// errors stay for 90 days: they are of our own making and name nobody
		windowError, state = nil, "done"
	}
	dbtest.Exec(t, pool, `INSERT INTO audit_windows (merchant_id, audit_id, id, list, from_at, to_at, state, cursor, error)
		VALUES ($1, $2, $3, 'invoices', now() - interval '1 day', now(), $4, $5, $6)`, merchant, id, uuid.Must(uuid.NewV7()), state, "in_"+canary, windowError)
	dbtest.Exec(t, pool, `INSERT INTO audit_subscriptions VALUES ($1, $2, $3, $4, 'active', false)`, merchant, id, "sub_"+canary, "cus_"+canary)
	dbtest.Exec(t, pool, `INSERT INTO audit_invoices (merchant_id, audit_id, subscription, id, status, created_at, send_invoice, currency, amount_remaining, attempt_count, paid_out_of_band, email)
		VALUES ($1, $2, $3, $4, 'open', now(), false, 'usd', 1, 1, false, $5)`, merchant, id, "sub_"+canary, "in_"+canary, sealed("audit_invoices.email", "in_"+canary, canary+"@example.com"))
	dbtest.Exec(t, pool, `INSERT INTO audit_intents VALUES ($1, $2, $3, 'processing', $4)`, merchant, id, "in_"+canary, "pi_"+canary)
	dbtest.Exec(t, pool, `INSERT INTO audit_charges (merchant_id, audit_id, sequence, disputed, created_at, outcome, refunded, decline_class, decline_code,
		brand, day_of_week, hour_of_day, intent, customer) VALUES ($1, $2, $3, $4, now(), 'failed', false, 'soon', 'x', 'visa', 0, 0, $5, $6)`,
		merchant, id, "in_"+canary, "ch_"+canary, "pi_"+canary, "cus_"+canary)
	dbtest.Exec(t, pool, `INSERT INTO audit_disputes VALUES ($1, $2, $3, true)`, merchant, id, "ch_"+canary)
	// In truth a hash, and so nobody's: here it shows that the scan sees into bytea, and that old
	// ones go.
	dbtest.Exec(t, pool, `INSERT INTO ghost_refreshes VALUES ($1, $2, 1, clock_timestamp() - make_interval(days => $3))`, p.merchant, []byte("sub_"+canary), 90*int(seen/time.Hour))
}

// plantHunt writes a hunt of the ghost, and a task of it whose letter is sealed: it names the ghost
// and the hunt alone.
func plantHunt(t testing.TB, pool *pgxpool.Pool, p plant) {
	t.Helper()
	taskID, sent := oldID(), time.Time{}
	if p.number%2 == 0 {
		sent = time.Now().Add(-21 * time.Hour)
	}
	defer dbtest.Exec(t, pool, `INSERT INTO scheduled_tasks (merchant_id, id, kind, status, params, sealed_params, first_sent_at)
		SELECT h.merchant_id, $3, 'email', $4, jsonb_build_object('hunt', h.id, 'ghost', h.ghost_id, 'step', 0, 'template', 'reminder'), $5, nullif($6::timestamptz, '0001-01-01 00:00:00+00')
		FROM hunts h JOIN ghost_targets g ON g.merchant_id = h.merchant_id AND g.id = h.ghost_id WHERE g.merchant_id = $1 AND g.stripe_customer_id = $2`,
		p.merchant, "cus_"+p.canary(), taskID, []string{"parked", "needs_review", "pending"}[p.number%3],
		sealed("scheduled_tasks.sealed_params", taskID.String(), `{"to":"letter`+p.canary()+`@example.com"}`), sent)
	if _, err := pool.Exec(t.Context(), `WITH playbook AS (INSERT INTO playbooks (merchant_id, version, body) VALUES ($1, 1, '{}') ON CONFLICT DO NOTHING)
		INSERT INTO hunts (merchant_id, id, ghost_id, customer, playbook_version, mode, held_out, livemode, decline_class, currency, amount, invoices, owed)
		SELECT merchant_id, gen_random_uuid(), id, sha256('x'), 1, 'recover', false, false, decline_class, currency, amount, ARRAY[stripe_invoice_id], jsonb_build_object(stripe_invoice_id, amount)
		FROM ghost_targets WHERE merchant_id = $1 AND stripe_customer_id = $2`, p.merchant, "cus_"+p.canary()); err != nil {
		t.Fatal(err)
	}
}

// nobodys are the columns of text, bytes, JSON or a secret in which nothing is planted. They hold
// no customer's data, or only a keyed hash of it, or what the merchant has written themselves. All
// others must show their canaries before the purge and none after it: anyone who adds a column
// decides which it is.
var nobodys = strings.Fields(`
	api_keys.key_hash api_keys.name api_keys.scope attempt_budgets.hash attempt_budgets.subject attempts.action attempts.card
	attempts.charge attempts.code attempts.currency attempts.customer attempts.decline_class attempts.decline_code
	attempts.object attempts.reason attempts.result audit_charges.brand audit_charges.card audit_charges.country
	audit_charges.currency audit_charges.funding oracle_paydays.habits
	audit_charges.decline_class audit_charges.decline_code audit_charges.outcome audit_charges.zone audit_intents.status
	audit_invoices.currency audit_invoices.email_key_id audit_invoices.status audit_log.action audit_log.after audit_log.before
	audit_log.by audit_log.command audit_log.object audit_subscriptions.prices audit_subscriptions.products
	audit_subscriptions.status audit_windows.list audit_windows.state audits.state audits.totals card_attempts.card
	card_attempts.charge channels.account channels.provider channels.secret channels.secret_key_id channels.sender
	ghost_changes.came ghost_changes.currency ghost_changes.decline_class ghost_changes.kind ghost_changes.went
	ghost_counts.name ghost_counts.part ghost_targets.access ghost_targets.card ghost_targets.closed_reason
	ghost_targets.country ghost_targets.currency ghost_targets.decline_class ghost_targets.decline_code
	ghost_targets.email_key_id ghost_targets.kind ghost_targets.prices ghost_targets.products ghost_targets.rule
	ghost_targets.status ghost_targets.zone halts.by hunt_notes.note hunt_starts.error hunt_starts.state hunts.charges_over
	hunts.currency hunts.customer hunts.decline_class hunts.ended_reason hunts.invoices_over hunts.mode hunts.state
	liquidity_oracle.action liquidity_oracle.business_category liquidity_oracle.decline_class merchants.access_token
	merchants.access_token_key_id merchants.business_category merchants.country merchants.default_currency
	merchants.encrypted_refresh_token merchants.encrypted_token merchants.hash_salt merchants.hash_salt_key_id merchants.iv
	merchants.refresh_iv merchants.refresh_tag merchants.refresh_token merchants.refresh_token_key_id merchants.scope
	merchants.webhook_secret merchants.webhook_secret_key_id
	merchants.stripe_connect_id merchants.stripe_user_id merchants.tag merchants.timezone messages.channel messages.code
	messages.person messages.persons messages.state messages.template messages.why oauth_states.browser_hash
	oauth_states.state_hash oracle_contributions.action oracle_contributions.business_category
	oracle_contributions.decline_class oracle_cells.cell oracle_paydays.country oracle_model.coefficients
	ghost_memories.memory_key_id hunts.oracle_arm oracle_advice.arm oracle_advice.cell oracle_advice.class oracle_advice.confidence
	oracle_advice.reason oracle_states.state oracle_states.why playbooks.body recoveries.cause recoveries.currency recoveries.invoice
	scheduled_tasks.kind scheduled_tasks.sealed_params_key_id scheduled_tasks.status suppressions.channel suppressions.person
	suppressions.reason shield_policies.body shield_revisions.revenue shield_holds.outcome shield_holds.revenue shield_keys.id
	shield_keys.public shield_keys.secret shield_keys.secret_key_id shield_keys.state audit_subscriptions.currency audit_subscriptions.pause
	event_endpoints.url event_endpoints.types event_endpoints.secret event_endpoints.secret_key_id event_endpoints.disabled_why
	event_deliveries.type event_deliveries.state event_deliveries.why
	templates.body templates.channel templates.html templates.name templates.subject vault_sentinels.key_id
	vault_sentinels.sentinel webhook_events.account webhook_events.type`)

// outlive are the columns of who may keep access, and of events on their way. They hold ids for
// longer than a ghost does, and nothing else of a customer's: docs/retention.md.
// TestPurgeIsNoPayment has the amounts.
var outlive = strings.Fields(`
	shield_states.subscription shield_states.customer shield_states.facts shield_states.shown shield_states.level shield_states.reason
	shield_states.target shield_states.lowest shield_states.held_at shield_states.ahead shield_states.currency
	shield_transitions.subscription shield_transitions.customer shield_transitions.from_level shield_transitions.to_level
	shield_transitions.reason shield_transitions.currency shield_transitions.facts shield_decisions.kind shield_decisions.customer
	shield_decisions.subscription shield_decisions.level event_deliveries.body`)

// canaries is how many different canaries of each sort a column holds.
type canaries struct{ expired, living int64 }

// scan looks into every column of text, bytes, JSON or a secret in the database, as
// information_schema lists them.
func scan(t testing.TB, pool *pgxpool.Pool) map[string]canaries {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT c.table_name, c.column_name, c.udt_name FROM information_schema.columns c
		JOIN information_schema.tables t USING (table_schema, table_name)
		WHERE t.table_schema = 'public' AND t.table_type = 'BASE TABLE'
			AND NOT c.udt_name IN ('uuid', 'int2', 'int4', 'int8', 'float8', 'bool', 'timestamptz', 'date') ORDER BY 1, 2`)
	if err != nil {
		t.Fatal(err)
	}
	type column struct{ Table, Name, Type string }
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil {
		t.Fatal(err)
	}
	result := make(map[string]canaries)
	for _, c := range columns {
		name, table := pgx.Identifier{c.Name}.Sanitize(), pgx.Identifier{c.Table}.Sanitize()
		if c.Type == "sealed_token" {
			result[c.Table+"."+c.Name] = scanSealed(t, pool, table, name)
			continue
		}
		text := name + "::text"
		if c.Type == "bytea" {
			text = "encode(" + name + ", 'escape')"
		}
		var f canaries
		if err := pool.QueryRow(t.Context(), fmt.Sprintf(`SELECT count(DISTINCT canary) FILTER (WHERE canary LIKE 'E%%'), count(DISTINCT canary) FILTER (WHERE canary LIKE 'L%%')
			FROM (SELECT (regexp_matches(%s, '(?:EXPIRED|LIVING)CANARY[0-9]+', 'g'))[1] AS canary FROM %s) AS s`, text, table)).Scan(&f.expired, &f.living); err != nil {
			t.Fatal(err)
		}
		result[c.Table+"."+c.Name] = f
	}
	return result
}

func scanSealed(t testing.TB, pool *pgxpool.Pool, table, name string) (f canaries) {
	t.Helper()
	rows, err := pool.Query(t.Context(), fmt.Sprintf("SELECT %[1]s, (%[1]s).context FROM %[2]s WHERE %[1]s IS DISTINCT FROM NULL", name, table))
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	var token vault.EncryptedToken
	var place string
	if _, err := pgx.ForEachRow(rows, []any{&token, &place}, func() error {
		text, err := token.Reveal(place)
		for _, canary := range canaryShape.FindAllString(text, -1) {
			if !seen[canary] && strings.HasPrefix(canary, "E") {
				f.expired++
			} else if !seen[canary] {
				f.living++
			}
			seen[canary] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return f
}

// assertPurged holds two scans against each other: before it, expired canaries in every column that
// may hold any; after it none, and all the living ones still there.
func assertPurged(t testing.TB, before, after map[string]canaries) {
	t.Helper()
	free := make(map[string]bool)
	for _, name := range slices.Concat(nobodys, outlive) {
		free[name] = true
		if _, there := before[name]; !there {
			t.Errorf("%s is listed, and is no column any more", name)
		}
	}
	for column, b := range before {
		if !free[column] && (b.expired == 0 || b.living == 0 && !strings.HasPrefix(column, "audits.")) {
			t.Errorf("%s: %d expired and %d living canaries before the purge: plant some, or list the column", column, b.expired, b.living)
		}
		if a := after[column]; a.expired != 0 || a.living != b.living {
			t.Errorf("%s: %d expired canaries are left; %d of %d living ones", column, a.expired, a.living, b.living)
		}
	}
}

// assertBudgets holds attempt_budgets against what was planted.
func assertBudgets(t testing.TB, pool *pgxpool.Pool, accounts *connect.Service, plants []plant) {
	t.Helper()
	want, hashers := make(map[string]int32), make(map[uuid.UUID]func(subject, value string) []byte)
	for _, p := range plants {
		if !p.expired {
			continue
		}
		if hashers[p.merchant] == nil {
			hash, err := accounts.Hasher(context.Background(), p.merchant)
			if err != nil {
				t.Fatal(err)
			}
			hashers[p.merchant] = hash
		}
		for subject, value := range map[string]string{"customer": "cus_" + p.canary(), "invoice": "in_" + p.canary()} {
			want[fmt.Sprintf("%s %s %x", p.merchant, subject, hashers[p.merchant](subject, value))] = p.attempts()
		}
		want[fmt.Sprintf("%s card %x", p.merchant, p.card())] = p.attempts() + 1
	}
	rows, err := pool.Query(t.Context(), "SELECT merchant_id || ' ' || subject || ' ' || encode(hash, 'hex'), attempts FROM attempt_budgets")
	if err != nil {
		t.Fatal(err)
	}
	var key string
	var attempts int32
	wrong, n := 0, 0
	if _, err := pgx.ForEachRow(rows, []any{&key, &attempts}, func() error {
		if n++; want[key] != attempts {
			wrong++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if wrong > 0 || n != len(want) {
		t.Errorf("%d budgets, %d of them wrong; want %d", n, wrong, len(want))
	}
}
