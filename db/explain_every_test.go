package db_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/dbtest"
)

// readsAll are the queries that are not on behalf of one merchant, person or task, and why each may
// read what it reads.
var readsAll = map[string]string{
	"DemoBusy":            "the demo has a database of its own",
	"DemoCountChosen":     "the demo has a database of its own",
	"DemoCountReview":     "the demo has a database of its own",
	"DemoNext":            "the demo has a database of its own",
	"DemoOracleOn":        "the demo has a database of its own",
	"DemoRest":            "the demo has a database of its own",
	"DoctorDisputes":      "phantom doctor looks at everybody",
	"DoctorHolds":         "phantom doctor lists the open holds",
	"DoctorMerchants":     "phantom doctor counts the merchants",
	"DoctorMessages":      "phantom doctor counts the messages of a day",
	"DoctorParked":        "phantom doctor lists parked tasks",
	"DoctorTasks":         "phantom doctor counts the tasks",
	"HaltReadAccounts":    "phantom stop lists the halts",
	"OracleCells":         "the oracle is pooled over all merchants",
	"OracleCountCells":    "phantom oracle status counts all cells",
	"OracleDropOldCells":  "once a night, of all merchants",
	"OracleListCells":     "a night's model is made of all cells",
	"HuntFind":            "phantom oracle explain, by an operator who has the hunt's id alone",
	"OracleArms":          "once a day, of all merchants",
	"OracleCheckDue":      "every ten minutes: whether there is one row",
	"OracleCountSettled":  "once a day, of all merchants",
	"OracleSweepAdvice":   "once a night, of all merchants",
	"OracleForgetReasons": "once a night, of all merchants",
	"OracleListStates":    "metrics: two rows",
	"OracleListSettled":   "once a day, of all merchants",
	"OracleReplay":        "when an operator asks, of all merchants",
	"OracleSetState":      "a table of one row for each mode",
	"OracleListPaydays":   "a night's model is made of all merchants' paydays",
	"ProbeListMissing":    "once at the start of a process, over the merchants",
	"ProbeRevive":         "once at the start of a process, over the probes",
	"PurgeListMerchants":  "once a day, over the merchants",
	"TaskCountLive":       "metrics count the tasks that are not done",
	"TaskDropFinished":    "every five minutes, in batches",
	"TaskDueMerchants":    "the merchants with due tasks: TestQueriesOfOneReadFewRows bounds its rows",
	"TaskListAll":         "phantom tasks list, page by page",
	"TaskRescue":          "the tasks whose lease is over",
	"TaskSecondsToNext":   "the next task of everybody",
	"ShieldListRevisions": "one row for each merchant, when the connection was lost",
	"ShieldListRecent":    "the merchants who have changed within 15 seconds",
	"AuditListSlots":      "with the zero id: the merchants without a weekly audit",
	"PurgeListSlots":      "with the zero id: the merchants without a purge",
}

// readsAMerchant are the queries that may read all rows of a merchant in a table, and why.
var readsAMerchant = map[string]string{
	"APIKeyList":                  "phantom apikey list shows them all",
	"AuditListDebts":              "an audit reads its own facts, once",
	"AuditListOthers":             "an audit reads its own facts, once",
	"AuditReadWasted":             "of a merchant's audits, of which few are kept",
	"AuditWaste":                  "an audit reads its own facts, once",
	"CardAttemptCount":            "a dry run over all",
	"ChannelForgetTests":          "test messages: ten a day, and a day's are kept",
	"ChannelTake":                 "test messages: ten a day, and a day's are kept",
	"CredentialTake":              "refused credentials: five an hour, and an hour's are kept",
	"DeliveryForget":              "once a day",
	"DeliveryGiveUp":              "once a day",
	"EndpointCreate":              "endpoints: twenty at most",
	"EndpointList":                "endpoints: twenty at most",
	"EndpointListFor":             "endpoints: twenty at most",
	"FiguresArms":                 "the figures of a merchant's hunts are over all of them",
	"FiguresCosts":                "the figures of a merchant's hunts are over all of them",
	"FiguresHunts":                "the figures of a merchant's hunts are over all of them",
	"FiguresRecovered":            "the figures of a merchant's hunts are over all of them",
	"GhostDropAll":                "once when an account is connected in the other mode",
	"GhostListUnseen":             "an audit compares its own facts with the ghosts, once",
	"GhostModeChanged":            "of a merchant's audits, of which few are kept",
	"GhostNewestAudit":            "of a merchant's audits, of which few are kept",
	"GhostReadAges":               "here all ghosts are of this minute: TestGhostsAreReadFromFewRows bounds its rows",
	"GhostTotals":                 "once for each audit, over its findings",
	"HuntDropAll":                 "once when an account is connected in the other mode",
	"HuntPageTargets":             "a page of ghosts; beside so few hunts all active ones are hashed",
	"HuntReadSent":                "a dry run over all",
	"HuntStartDropOld":            "once a day, of those of 90 days",
	"MessageReadNumbers":          "a dry run over all",
	"MessageReadSent":             "a dry run over all",
	"OracleCharges":               "an audit reads its own facts, once",
	"OracleDropCells":             "once for each audit, and then they are written anew",
	"OracleListOurs":              "an audit leaves out all charges of hunts",
	"OracleForgetAdvice":          "once, when a merchant leaves",
	"OracleForgetCells":           "once when an account is disconnected",
	"OracleHistory":               "an audit reads its own facts, once",
	"OracleListSettledOfMerchant": "how well a merchant's charges of 28 days were foretold",
	"OracleOpenDays":              "an audit reads its own facts, once",
	"PurgeAuditCharges":           "an audit that was left: its facts go in batches",
	"PurgeAuditCursors":           "once a day, of a merchant's audits",
	"PurgeAuditDisputes":          "an audit that was left: its facts go in batches",
	"PurgeAuditErrors":            "once a day, of a merchant's audits",
	"PurgeAuditIntents":           "an audit that was left: its facts go in batches",
	"PurgeAuditInvoices":          "an audit that was left: its facts go in batches",
	"PurgeAuditSubscriptions":     "an audit that was left: its facts go in batches",
	"PurgeCountGhosts":            "phantom purge --dry-run counts them",
	"PurgeOldAudits":              "once a day",
	"PurgeOldRefreshes":           "once a day, in batches",
	"ReportAccess":                "the report is over all subscriptions",
	"ReportApart":                 "the report is over all ghosts",
	"ReportAudit":                 "of a merchant's audits, of which few are kept",
	"ReportCells":                 "the report is over all ghosts",
	"ReportClosed":                "the report is over all ghosts",
	"ReportCustomers":             "the report is over all ghosts",
	"ReportLargest":               "the report is over all ghosts",
	"ReportNewestAudit":           "of a merchant's audits, of which few are kept",
	"ShieldBeginEnforcing":        "once when a policy is enforced, over all that are lowered",
	"ShieldCountAll":              "once an hour at most, before somebody loses access",
	"ShieldCountLevels":           "phantom shield status",
	"ShieldDropAll":               "once when an account is connected in the other mode",
	"ShieldForget":                "once a day",
	"ShieldListKeys":              "keys of a merchant are few",
	"ShieldListOver":              "once a day",
	"ShieldPolicyModeSince":       "of a merchant's policies, before one is enforced",
	"ShieldPreviewPage":           "a preview is over all who owe",
	"SuppressionExists":           "reads one row; a merchant with a third of all is found without the index",
	"SuppressionReadAll":          "a dry run over all",
	"TemplateCount":               "templates: fifty at most",
	"TemplateIsUsed":              "before a template is deleted, over the hunts under way",
	"TemplateList":                "templates: fifty at most",
}

const (
	merchantRows = 10   // that the merchant has in each table, of whom few rows are read
	othersRows   = 300  // that each of twenty others has
	bigRows      = 3000 // that one more has, of whom not all are read
	fewRows      = 300
)

// Every query that sqlc knows is asked on behalf of a merchant beside others with thousands of
// rows. It reads few of them, or stands above with a reason. And on behalf of a merchant who has
// thousands it reads few, too, where it is about one ghost, hunt, customer or page.
func TestEveryQueryReadsFewRows(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	small, big := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	fillEveryTable(t, pool, small, big)
	queries := everyQuery(t)
	if len(queries) < 200 {
		t.Fatalf("%d queries are found: the generated code is read wrongly", len(queries))
	}
	names := map[string]bool{}
	for _, q := range queries {
		names[q.name] = true
		if strings.Contains(q.text, "\nLOCK TABLE") { // which has no plan
			continue
		}
		if readsAll[q.name] != "" {
			continue
		}
		if rows, plan := q.readRows(t, pool, small); rows > fewRows {
			t.Errorf("%s reads %.0f rows on behalf of a merchant who has %d in a table:\n%s", q.name, rows, merchantRows, plan)
		}
		if readsAMerchant[q.name] != "" {
			continue
		}
		if rows, plan := q.readRows(t, pool, big); rows > fewRows {
			t.Errorf("%s reads %.0f rows, all of a merchant's:\n%s", q.name, rows, plan)
		}
	}
	for _, excused := range []map[string]string{readsAll, readsAMerchant} {
		for name := range excused {
			if !names[name] {
				t.Errorf("%s is excused and does not exist", name)
			}
		}
	}
}

// fillEveryTable gives merchants rows in each table.
func fillEveryTable(t *testing.T, pool *pgxpool.Pool, small, big uuid.UUID) {
	t.Helper()
	// m is a merchant with how many rows they get; n is a row's number.
	const each = " FROM of_each m, generate_series(1, m.rows) n"
	for _, statement := range []string{
		`INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at)
			SELECT gen_random_uuid(), 'acct_' || n, 'read_write', false, now() FROM generate_series(1, 20) n`,
		`INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at)
			VALUES ('` + small.String() + `', 'acct_one', 'read_write', false, now()), ('` + big.String() + `', 'acct_big', 'read_write', false, now())`,
		fmt.Sprintf(`CREATE TABLE of_each AS SELECT id, CASE stripe_user_id WHEN 'acct_one' THEN %d WHEN 'acct_big' THEN %d ELSE %d END AS rows
			FROM merchants`, merchantRows, bigRows, othersRows),
		`INSERT INTO api_keys (merchant_id, id, key_hash) SELECT m.id, gen_random_uuid(), sha256((m.id::text || n)::bytea)` + each,
		`INSERT INTO oauth_states (state_hash, browser_hash) SELECT sha256((m.id::text || n)::bytea), sha256('b')` + each,
		`INSERT INTO playbooks (merchant_id, version, body) SELECT m.id, n, '{}'` + each,
		`INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, amount, currency, rule)
			SELECT m.id, gen_random_uuid(), 'cus_' || n, 'sub_' || n, 'in_' || n, 100, 'usd', 'owed'` + each,
		`INSERT INTO ghost_memories (merchant_id, ghost_id, memory)
			SELECT merchant_id, id, ('ab', md5(id::text), md5(id::text), (SELECT key_id FROM vault_sentinels), 'ghost_memories.memory:' || id)::sealed_token
			FROM ghost_targets`,
		`INSERT INTO ghost_refreshes (merchant_id, subscription, ticket) SELECT m.id, sha256(n::text::bytea), n` + each,
		`INSERT INTO hunts (merchant_id, id, ghost_id, customer, playbook_version, mode, held_out, currency, amount, decline_class, livemode)
			SELECT m.id, gen_random_uuid(), gen_random_uuid(), sha256((m.id::text || n)::bytea), 1, 'recover', false, 'usd', 100, 'timed', false` + each,
		`INSERT INTO hunt_notes (merchant_id, hunt_id, id, note) SELECT merchant_id, id, gen_random_uuid(), 'planned' FROM hunts`,
		`INSERT INTO attempts (merchant_id, object, action, number, task_id, hunt_id, customer, currency, amount, reason, probability, planned_for, card)
			SELECT merchant_id, sha256(id::text::bytea), 'invoice_pay', 1, gen_random_uuid(), id, customer, 'usd', 100, 'x', 1, now(), sha256(id::text::bytea) FROM hunts`,
		`INSERT INTO card_attempts (merchant_id, charge, card, at, reached)
			SELECT m.id, sha256((m.id::text || n)::bytea), sha256((m.id::text || n)::bytea), now(), true` + each,
		`INSERT INTO oracle_advice (merchant_id, task_id, livemode, model, class, planned_for, p, low, high, confidence, cell, chosen_p, propensity, reason,
				heuristic_for, paid, settled_at)
			SELECT merchant_id, task_id, false, 1, 'timed', now(), 0.2, 0.1, 0.3, 'low', 'x', 0.3, 1, 'x', now(), false, now() FROM attempts`,
		`INSERT INTO oracle_states (livemode, state, since, why, looks, fortnights, compared_at, falls, checked_at, charges, log_loss, base_log_loss, calibration_error)
			VALUES (false, 'shadow', now(), 'x', 0, 0, now(), 0, now(), 0, 0, 0, 0)`,
		`INSERT INTO recoveries (merchant_id, invoice, hunt_id, currency, amount, cause, recovered_at)
			SELECT merchant_id, sha256(id::text::bytea), id, 'usd', 100, 'charge', now() FROM hunts`,
		`INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, planned_for, persons, sent_at)
			SELECT merchant_id, gen_random_uuid(), id, 1, 'email', 'soft', now(), ARRAY[sha256(id::text::bytea)], now() FROM hunts`,
		`INSERT INTO templates (merchant_id, channel, name, subject, html, body) SELECT m.id, 'email', 'soft' || n, 's', 'h', 'b'` + each,
		`INSERT INTO test_messages (merchant_id, id) SELECT m.id, gen_random_uuid()` + each,
		`INSERT INTO suppressions (merchant_id, channel, person, reason) SELECT m.id, 'email', sha256((m.id::text || n)::bytea), 'stop'` + each,
		`INSERT INTO halts (scope, by) SELECT gen_random_uuid(), 'operator' FROM generate_series(1, 6000)`,
		`INSERT INTO audits (merchant_id, id, state, ticket, livemode, finished_at)
			SELECT m.id, gen_random_uuid(), 'succeeded', n, false, now()` + each,
		`INSERT INTO audit_windows (merchant_id, audit_id, id, list, from_at, to_at)
			SELECT merchant_id, id, gen_random_uuid(), 'charges', 'epoch', now() FROM audits`,
		`INSERT INTO audit_subscriptions (merchant_id, audit_id, id, customer, status, paused)
			SELECT merchant_id, id, 'sub_' || ticket, 'cus_1', 'active', false FROM audits`,
		`INSERT INTO audit_invoices (merchant_id, audit_id, subscription, id, status, created_at, send_invoice, currency, amount_remaining,
				attempt_count, paid_out_of_band)
			SELECT merchant_id, id, 'sub_' || ticket, 'in_' || ticket, 'open', now(), false, 'usd', 100, 1, false FROM audits`,
		`INSERT INTO audit_intents (merchant_id, audit_id, invoice, status) SELECT merchant_id, id, 'in_' || ticket, 'x' FROM audits`,
		`INSERT INTO audit_charges (merchant_id, audit_id, sequence, created_at, outcome, refunded, day_of_week, hour_of_day)
			SELECT merchant_id, id, 'in_' || ticket, now(), 'failed', false, 1, 1 FROM audits`,
		`INSERT INTO audit_disputes (merchant_id, audit_id, charge, is_open) SELECT merchant_id, id, 'ch_' || ticket, true FROM audits`,
		`INSERT INTO webhook_events (merchant_id, id, type, account, object_id, created_at)
			SELECT m.id, 'evt_' || n, 'invoice.paid', 'acct_x', 'in_' || n, now()` + each,
		`INSERT INTO attempt_budgets (merchant_id, subject, hash, attempts) SELECT m.id, 'card', sha256(n::text::bytea), 1` + each,
		`INSERT INTO audit_log (id, merchant_id, by, command, action) SELECT gen_random_uuid(), m.id, 'operator', 'stop', 'halt.set'` + each,
		`INSERT INTO credential_tries (merchant_id, id) SELECT m.id, gen_random_uuid()` + each,
		`INSERT INTO hunt_starts (merchant_id, id, auto, livemode, playbook_version, ghosts, state, finished_at)
			SELECT m.id, gen_random_uuid(), false, false, 1, 1, 'succeeded', now()` + each,
		`INSERT INTO shield_policies (merchant_id, version, body) SELECT m.id, n, '{"mode": "enforce"}'` + each,
		`INSERT INTO shield_revisions (merchant_id, revision) SELECT id, 10 FROM merchants`,
		`INSERT INTO shield_states (merchant_id, subscription, customer, livemode, facts, ticket, told_at, revision, next_at, held)
			SELECT m.id, 'sub_' || n, 'cus_' || n, false, CASE WHEN n % 5 = 0 THEN '{"debts": [{"amount": 1}]}' ELSE '{}' END::jsonb, 1, now(), n,
				CASE WHEN n % 5 = 0 THEN now() + n * interval '1 hour' END, n = 5` + each,
		`INSERT INTO shield_transitions (merchant_id, id, at, subscription, customer, livemode, from_level, to_level, reason, enforced, lowered, monthly,
				currency, policy_version, revision, facts)
			SELECT m.id, gen_random_uuid(), now() - n * interval '1 hour', 'sub_' || n, 'cus_' || n, false, 'full', 'limited', 'payment_failed', true, n % 50 = 0,
				100, 'usd', 1, n, '{}'` + each,
		`INSERT INTO shield_decisions (merchant_id, id, kind, customer, level) SELECT m.id, gen_random_uuid(), 'override', 'cus_' || n, 'full'` + each,
		`INSERT INTO shield_holds (merchant_id, id, customers, "of", revenue, closed_at, outcome)
			SELECT m.id, gen_random_uuid(), 1, 1, '{}', now(), 'released' FROM merchants m, generate_series(1, 5)`,
		`INSERT INTO event_endpoints (merchant_id, id, url, secret)
			SELECT e.merchant, e.id, 'https://app.example',
				('ab', md5(e.id::text), md5(e.id::text), (SELECT key_id FROM vault_sentinels), 'event_endpoints.secret:' || e.id)::sealed_token
			FROM (SELECT m.id AS merchant, gen_random_uuid() AS id FROM merchants m, generate_series(1, 10)) e`,
		`INSERT INTO event_deliveries (merchant_id, id, endpoint_id, type, state, finished_at)
			SELECT m.id, gen_random_uuid(), (SELECT min(e.id::text)::uuid FROM event_endpoints e WHERE e.merchant_id = m.id), 'ghost.opened',
				'delivered', now()` + each,
		`INSERT INTO stripe_rates (merchant_id, next_at) SELECT id, now() FROM merchants`,
		`INSERT INTO oracle_cells (merchant_id, livemode, month, ours, cell, attempts, successes)
			SELECT m.id, false, date '2026-01-01', false, 'cell ' || n, 1, 0` + each,
		`INSERT INTO oracle_paydays (merchant_id, livemode, country, customers, habits)
			SELECT id, false, 'US', 1, '{0.5}' FROM merchants`,
		`INSERT INTO oracle_model (livemode, merchants, attempts, coefficients) VALUES (false, 1, 1, 'x')`,
		`INSERT INTO oracle_days (merchant_id, livemode, day) SELECT m.id, false, date '2020-01-01' + n` + each,
		`INSERT INTO oracle_contributions (merchant_id, business_category, decline_class, action, day_of_week, hour_of_day, livemode, attempts, successes)
			SELECT m.id, 'other', 'none', 'charge', n % 7, n / 7 % 24, n > 168, 1, 1 FROM of_each m, generate_series(1, least(m.rows, 300)) n`,
		// Each has tasks that are due, some for later and many that are done.
		`INSERT INTO scheduled_tasks (merchant_id, id, kind, params, unique_key, run_at)
			SELECT m.id, gen_random_uuid(), 'message_send', '{}', 'key_' || n, now() + n * interval '1 hour'` + each,
		`INSERT INTO scheduled_tasks (merchant_id, id, kind, params, status, finished_at)
			SELECT m.id, gen_random_uuid(), 'webhook', '{}', 'succeeded', now()` + each,
		"VACUUM ANALYZE",
	} {
		if _, err := pool.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%v\n%s", err, statement)
		}
	}
}

// generated is a query as sqlc has written it into package db.
type generated struct {
	name, text string
	args       []arg
}

type arg struct{ name, kind string } // kind is its type in Go

// everyQuery reads the generated code: the text of each query, and the names and types of what it
// is given, in their order.
func everyQuery(t *testing.T) (all []generated) {
	t.Helper()
	files, err := filepath.Glob("*.sql.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no generated code: %v", err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		texts, fields := map[string]string{}, map[string]map[string]string{}
		for _, decl := range parsed.Decls {
			general, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range general.Specs {
				switch spec := spec.(type) {
				case *ast.ValueSpec:
					if text, ok := spec.Values[0].(*ast.BasicLit); ok {
						texts[spec.Names[0].Name], _ = strconv.Unquote(text.Value)
					}
				case *ast.TypeSpec:
					fields[spec.Name.Name] = fieldsOf(spec)
				}
			}
		}
		for _, decl := range parsed.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv != nil {
				if q, ok := queryOf(f, texts, fields); ok {
					all = append(all, q)
				}
			}
		}
	}
	return all
}

func fieldsOf(spec *ast.TypeSpec) map[string]string {
	fields := map[string]string{}
	if s, ok := spec.Type.(*ast.StructType); ok {
		for _, f := range s.Fields.List {
			fields[f.Names[0].Name] = typeName(f.Type)
		}
	}
	return fields
}

// queryOf finds the call of the database in a method: its text and its arguments.
func queryOf(f *ast.FuncDecl, texts map[string]string, fields map[string]map[string]string) (q generated, ok bool) {
	params := map[string]string{}
	for _, p := range f.Type.Params.List {
		for _, name := range p.Names {
			params[name.Name] = typeName(p.Type)
		}
	}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		call, isCall := n.(*ast.CallExpr)
		if !isCall || len(call.Args) < 2 || ok {
			return true
		}
		text, isName := call.Args[1].(*ast.Ident)
		if !isName || texts[text.Name] == "" {
			return true
		}
		q, ok = generated{name: f.Name.Name, text: texts[text.Name]}, true
		for _, a := range call.Args[2:] {
			switch a := a.(type) {
			case *ast.Ident:
				q.args = append(q.args, arg{a.Name, params[a.Name]})
			case *ast.SelectorExpr:
				q.args = append(q.args, arg{a.Sel.Name, fields[params["arg"]][a.Sel.Name]})
			}
		}
		return false
	})
	return q, ok
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return typeName(e.X) + "." + e.Sel.Name
	case *ast.StarExpr:
		return "*" + typeName(e.X)
	case *ast.ArrayType:
		return "[]" + typeName(e.Elt)
	}
	return fmt.Sprintf("%T", e)
}

// readRows explains a query while it runs, or, where what it is given here is refused, as it is
// planned. All that it changes is undone.
func (q generated) readRows(t *testing.T, pool *pgxpool.Pool, one uuid.UUID) (rows float64, plan string) {
	t.Helper()
	var given []any
	for _, a := range q.args {
		given = append(given, a.value(t, q.name, one))
	}
	var err error
	for _, how := range []string{"ANALYZE, ", ""} {
		if err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			rows, plan, err = db.Explain(t.Context(), tx, how, q.text, given)
			if err != nil {
				return err
			}
			return tx.Rollback(context.WithoutCancel(t.Context()))
		}); err == nil || errors.Is(err, pgx.ErrTxClosed) {
			return rows, plan
		}
	}
	t.Errorf("%s cannot be explained: %v", q.name, err)
	return 0, ""
}

// value is something that a query may be given: the one merchant, or what fits nobody.
func (a arg) value(t *testing.T, query string, one uuid.UUID) any {
	t.Helper()
	switch name := strings.ToLower(a.name); {
	case name == "merchantid" || name == "merchant" || name == "scope":
		if a.kind == "uuid.UUID" {
			return one
		}
	case name == "id" && (strings.HasPrefix(query, "Merchant") || strings.HasSuffix(query, "Merchant") || query == "HuntHalted"):
		return one
	case name == "stripeuserid" || name == "account":
		return "acct_one"
	}
	if strings.HasPrefix(a.kind, "*") {
		return nil
	}
	switch a.kind {
	case "uuid.UUID":
		return uuid.Must(uuid.NewV7())
	case "string":
		return "nobody"
	case "bool":
		return false
	case "int16", "int32", "int64":
		return 10
	case "float64":
		return 10.0
	case "time.Time":
		return time.Now()
	case "pgtype.Date":
		return pgtype.Date{Time: time.Now(), Valid: true}
	case "[]byte":
		return []byte("{}" + strings.Repeat(" ", 30)) // an object of JSON and a hash of 32 bytes
	case "[]uuid.UUID":
		return []uuid.UUID{one}
	case "[]string":
		return []string{"nobody"}
	case "[]int16", "[]int32", "[]int64":
		return []int64{10}
	case "[]float64":
		return []float64{10}
	case "[]bool":
		return []bool{false}
	case "[]time.Time":
		return []time.Time{time.Now()}
	case "[]pgtype.Date":
		return []pgtype.Date{{Time: time.Now(), Valid: true}}
	case "[][]byte":
		return [][]byte{[]byte("{}" + strings.Repeat(" ", 30))}
	}
	return nil
}
