package db_test

import (
	"regexp"
	"slices"
	"testing"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/debt"
	"phantom/decline"
	"phantom/sql/migrations"
	"phantom/state"
)

// What a CHECK lets into a column is what the package that owns the word knows.
func TestWordsOfColumns(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	literal := regexp.MustCompile(`'([a-z_]*)'::text`)
	for constraint, want := range map[string][]string{
		"ghost_targets_kind_known":          db.Texts(debt.Kinds),
		"ghost_targets_decline_class_known": db.Texts(decline.Classes),
		// none: nothing had failed before.
		"liquidity_oracle_decline_class_known": append(db.Texts(decline.Classes), "none"),
		"ghost_targets_status_known":           db.Texts(state.Ghosts),
		"scheduled_tasks_status_known":         db.Texts(state.Tasks),
		"hunts_state_known":                    db.Texts(state.Hunts),
		// There is no hunt of mode off.
		"hunts_mode_known":        db.Texts(state.Modes[1:]),
		"attempts_result_known":   db.Texts(state.Attempts),
		"messages_state_known":    db.Texts(state.Messages),
		"audits_state_known":      db.Texts(state.Audits),
		"hunt_starts_state_known": db.Texts(state.Starts),
	} {
		t.Run(constraint, func(t *testing.T) {
			t.Parallel()
			var check string
			if err := pool.QueryRow(t.Context(), "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1", constraint).
				Scan(&check); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, match := range literal.FindAllStringSubmatch(check, -1) {
				got = append(got, match[1])
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("the database knows %q, and Go %q", got, want)
			}
		})
	}
}

// Rows of before hold sentences. The migration puts the codes in their place, however many there
// are, and leaves what it does not know.
func TestMigrationOfSentences(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), dbtest.Pool(t)
	for _, statement := range []string{
		`INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at) VALUES (gen_random_uuid(), 'acct_1', 'read_write', false, now())`,
		`INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, amount, currency, rule)
			SELECT m.id, gen_random_uuid(), 'cus_' || n, 'sub_1', 'in_1', 1, 'usd', CASE WHEN n = 1 THEN 'a rule of tomorrow'
				ELSE 'The invoice was sent to the customer and is more than 7 days past its due date. No card is charged for it.' END
			FROM merchants m, generate_series(1, 25000) AS n`,
		`INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, state, why, planned_for)
			SELECT id, gen_random_uuid(), gen_random_uuid(), 0, 'sms', 'reminder', 'skipped', why, now()
			FROM merchants, unnest(ARRAY['the customer has no phone number', 'a payment is under way', 'the invoice is settled']) AS why`,
	} {
		if _, err := pool.Exec(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	text, err := migrations.Files.ReadFile("0021_codes.sql")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile(`(?s)DO \$\$.*?\$\$;`).FindAllString(string(text), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks are found", len(blocks))
	}
	for _, block := range append(blocks, blocks...) { // the second time it changes nothing
		if _, err := pool.Exec(ctx, block); err != nil {
			t.Fatal(err)
		}
	}
	var sent, other, counted int
	if err := pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE rule = 'sent_overdue'), count(*) FILTER (WHERE rule = 'a rule of tomorrow'),
		(SELECT coalesce(sum(ghosts), 0) FROM ghost_changes WHERE kind = 'owed') FROM ghost_targets`).Scan(&sent, &other, &counted); err != nil {
		t.Fatal(err)
	}
	if sent != 24999 || other != 1 || counted != 25000 {
		t.Errorf("%d codes, %d others, %d counted", sent, other, counted)
	}
	var codes []string
	if err := pool.QueryRow(ctx, `SELECT array_agg(coalesce(code, '-') ORDER BY why) FROM messages`).Scan(&codes); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(codes, []string{"under_way", "no_phone", "-"}) {
		t.Errorf("messages have the codes %q", codes)
	}
}
