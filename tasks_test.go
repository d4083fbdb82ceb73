package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db/dbtest"
	"phantom/vault"
)

// tasksCommand runs phantom tasks with nothing but DATABASE_URL.
func tasksCommand(t *testing.T, url string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := start(t, map[string]string{"DATABASE_URL": url}, append([]string{"tasks"}, args...))
	code = p.wait(t)
	return code, p.stdout.String(), p.stderr.String()
}

// seedTask adds a task of acct_<merchant>; sent is how long ago its key was first sent, "" for
// never.
func seedTask(t *testing.T, pool *pgxpool.Pool, merchant int, kind, status, sent, lastError string) string {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	secret := vault.NewToken("scheduled_tasks.sealed_params:"+id.String(), "victim@example.com")
	if _, err := pool.Exec(t.Context(), `INSERT INTO scheduled_tasks (merchant_id, id, kind, status, params, sealed_params, attempts, lease_until, first_sent_at, finished_at, last_error)
		SELECT id, $2, $3, $4, '{"invoice":"in_1"}', $5, 8, CASE WHEN $4 = 'running' THEN now() END, now() - nullif($6, '')::interval,
			CASE WHEN $4 IN ('succeeded', 'failed', 'canceled') THEN now() END, nullif($7, '')
		FROM merchants WHERE stripe_user_id = 'acct_' || $1::int`, merchant, id, kind, status, secret, sent, lastError); err != nil {
		t.Fatal(err)
	}
	return id.String()
}

func statusOf(t *testing.T, pool *pgxpool.Pool, id string) (status string) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), "SELECT status || ' after ' || attempts FROM scheduled_tasks WHERE id = $1", id).Scan(&status); err != nil {
		t.Fatal(err)
	}
	return status
}

const tasksUsage = "phantom tasks list [--merchant acct_…] [--status STATUS] [--kind KIND] [--limit N] [--json] | show ID | retry ID | cancel ID"

func TestTasksList(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	pool := dbtest.Open(t, url, dbtest.Ring(t))
	seedMerchants(t, pool, 2)
	audit := seedTask(t, pool, 0, "audit", "pending", "", "")
	pay := seedTask(t, pool, 1, "invoice_pay", "needs_review", "1 hour", "stripe\nanswered \x1b[31m500")
	const header = `ID +STATUS +KIND +MERCHANT +RUN AT +ATTEMPTS +FIRST SENT +FINISHED +ERROR\n`
	auditLine, payLine := audit+` +pending +audit +acct_0 +\S+Z +8 +- +- +-\n`, pay+` +needs_review +invoice_pay +acct_1 +\S+Z +8 +\S+Z +- +stripe answered  \[31m500\n`
	const note = "1 of these wait for a person (needs_review): phantom tasks show ID says why, and what to do\n"
	for _, test := range []struct{ args, want, note string }{
		{"", payLine + auditLine, note},
		{"--limit 1", payLine, note},
		{"--merchant acct_0", auditLine, ""},
		{"--status pending", auditLine, ""},
		{"--kind invoice_pay", payLine, note},
		{"--kind invoice_pay --status parked", "", ""},
	} {
		code, stdout, stderr := tasksCommand(t, url, append([]string{"list"}, strings.Fields(test.args)...)...)
		if code != 0 || !regexp.MustCompile("^"+header+test.want+"$").MatchString(stdout) || stderr != test.note {
			t.Errorf("list %s: %d\n%s%s", test.args, code, stdout, stderr)
		}
	}
	code, stdout, stderr := tasksCommand(t, url, "list", "--json")
	var listed []map[string]any
	if err := json.Unmarshal([]byte(stdout), &listed); err != nil || code != 0 || stderr != "" || len(listed) != 2 {
		t.Fatalf("--json: %d, %v\n%s%s", code, err, stdout, stderr)
	}
	if got := listed[0]; got["id"] != pay || got["merchant"] != "acct_1" || got["outcome"] != nil || len(got) != 11 || !strings.HasSuffix(fmt.Sprint(got["run_at"]), "Z") {
		t.Errorf("--json: %v", got)
	}
	if _, stdout, _ := tasksCommand(t, url, "list", "--json", "--status", "failed"); stdout != "[]\n" {
		t.Errorf("no task as JSON: %q", stdout)
	}
}

// What a person reads about a task that waits for them, and what comes of what they then do.
func TestTasksReview(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	pool := dbtest.Open(t, url, dbtest.Ring(t))
	seedMerchants(t, pool, 1)
	const old = "close it with cancel; the hunt plans a new attempt"
	// once retried
	const out = "has been sent, and what it did is being found out: it ends by itself, or asks for you with status needs_review"
	const onceBack = "when acct_0 is accepted or connects again it finds that out, and ends by itself or asks for you with status needs_review"
	for _, test := range []struct {
		kind, status, sent string
		shown, notShown    string
		retry              string // what it says; "" if it is done
		cancel             string
	}{
		{"audit", "needs_review", "", "either phantom tasks retry", "dashboard", "", ""},
		{"invoice_pay", "needs_review", "19 hours", "look at the object that params name in Stripe's dashboard, as acct_0", old, "", out},
		{"invoice_pay", "needs_review", "21 hours", "look at the object that params name in Stripe's dashboard, as acct_0", old, "", out},
		{"email", "needs_review", "21 hours", "it is not sent again", "phantom tasks retry", "has ended its message, which is not sent again: look for it in the log of Resend or Twilio, and close it with cancel", ""},
		{"audit", "pending", "", "", "What to do", "is pending: it is tried again by itself", ""},
		{"audit", "running", "", "", "What to do", "is running: it is tried again by itself", "runs at this moment: wait until that has ended"},
		{"audit", "parked", "", "", "What to do", "is parked: it goes on by itself when Stripe accepts acct_0's token again, or acct_0 connects again", ""},
		{"invoice_pay", "parked", "1 hour", "", "What to do", "is parked: it goes on by itself when Stripe accepts acct_0's token again, or acct_0 connects again",
			"was sent before it was parked, and what it did is not known: " + onceBack},
		{"email", "parked", "21 hours", "", "What to do", "is parked: it goes on by itself when Stripe accepts acct_0's token again, or acct_0 connects again",
			"was sent before it was parked, and what it did is not known: " + onceBack},
		{"audit", "failed", "", "", "What to do", "is failed: a finished task is never run again", "is failed: there is nothing left to cancel"},
		{"audit", "succeeded", "", "", "What to do", "is succeeded: a finished task is never run again", "is succeeded: there is nothing left to cancel"},
	} {
		t.Run(test.kind+" "+test.status+" "+test.sent, func(t *testing.T) {
			t.Parallel()
			id := seedTask(t, pool, 0, test.kind, test.status, test.sent, "stripe answered 500")
			before := statusOf(t, pool, id)
			code, stdout, stderr := tasksCommand(t, url, "show", "task_"+id)
			if code != 0 || !strings.Contains(stdout, test.shown) || strings.Contains(stdout, test.notShown) || stderr != "" ||
				!strings.Contains(stdout, `{"invoice": "in_1"}`) || strings.Contains(stdout, "victim") {
				t.Errorf("show: %d\n%s%s", code, stdout, stderr)
			}
			if waits := test.status == "needs_review"; strings.Contains(stdout, "Why this one: stripe answered 500") != waits {
				t.Errorf("show explains:\n%s", stdout)
			}
			for _, step := range []struct{ action, refused, done string }{
				{"retry", test.retry, "pending after 0"}, {"cancel", test.cancel, "canceled"},
			} {
				code, stdout, stderr := tasksCommand(t, url, step.action, id)
				after := statusOf(t, pool, id)
				if step.refused != "" {
					want := "phantom tasks " + step.action + ": task " + id + " " + step.refused + "\n"
					if code != 1 || stdout != "" || stderr != want || after != before {
						t.Errorf("%s: %d, %q, %q, now %s", step.action, code, stdout, stderr, after)
					}
				} else if code != 0 || stdout != "" || !strings.HasPrefix(stderr, "task "+id+" is ") || !strings.HasPrefix(after, step.done) {
					t.Errorf("%s: %d, %q, %q, now %s", step.action, code, stdout, stderr, after)
				}
				before = after
			}
		})
	}
}

// Every misuse ends with one line that says what to do, and the exit code that goes with it.
// A message that a person cancels ends, keeps no letter, and does not silence its hunt.
func TestTasksCancelMessage(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	pool := dbtest.Open(t, url, dbtest.Ring(t))
	seedMerchants(t, pool, 1)
	for _, test := range []struct{ kind, status, sent, before, want string }{
		{"email", "pending", "", "planned", "skipped: a person has canceled it"},
		{"sms", "parked", "", "planned", "skipped: a person has canceled it"},
		{"email", "needs_review", "1 hour", "sending", "unclear: a person has canceled it"},
		{"email", "needs_review", "21 hours", "unclear", "unclear: "}, // it has ended before
	} {
		id, hunt := seedTask(t, pool, 0, test.kind, test.status, test.sent, ""), uuid.NewString()
		for _, statement := range []string{
			`INSERT INTO playbooks (merchant_id, version, body) SELECT merchant_id, 1, '{}' FROM scheduled_tasks WHERE id = $1 AND $2 <> '' AND $3 <> '' ON CONFLICT DO NOTHING`,
			`INSERT INTO hunts (merchant_id, id, ghost_id, customer, playbook_version, mode, held_out, livemode, decline_class, currency, amount)
				SELECT merchant_id, $2::uuid, gen_random_uuid(), sha256('x'), 1, 'recover', false, false, 'timed', 'usd', 1 FROM scheduled_tasks WHERE id = $1 AND $3 <> ''`,
			`INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, planned_for, state) SELECT merchant_id, id, $2::uuid, 0, kind, 'reminder', now(), $3 FROM scheduled_tasks WHERE id = $1`,
			`UPDATE scheduled_tasks SET unique_key = 'message:' || $2::text, params = jsonb_build_object('hunt', $2::text) WHERE id = $1 AND $3 <> ''`,
		} {
			if _, err := pool.Exec(t.Context(), statement, id, hunt, test.before); err != nil {
				t.Fatal(err)
			}
		}
		if code, _, stderr := tasksCommand(t, url, "cancel", id); code != 0 {
			t.Fatal(stderr)
		}
		var message, task string
		var plans, notes int
		if err := pool.QueryRow(t.Context(), `SELECT (SELECT state || ': ' || coalesce(why, '') FROM messages WHERE id = $1),
			(SELECT concat_ws(' ', status, unique_key, CASE WHEN sealed_params_key_id IS NOT NULL THEN 'sealed' END) FROM scheduled_tasks WHERE id = $1),
			(SELECT count(*) FROM scheduled_tasks WHERE kind = 'hunt' AND status = 'pending' AND params ->> 'hunt' = $2 AND params ->> 'do' = 'plan'),
			(SELECT count(*) FROM hunt_notes WHERE hunt_id = $2::uuid AND note LIKE 'The %')`, id, hunt).Scan(&message, &task, &plans, &notes); err != nil {
			t.Fatal(err)
		}
		if message != test.want || task != "canceled" || plans != 1 || notes > 1 || (test.before != "unclear") != (notes == 1) {
			t.Errorf("%s %s: message %s, task %s, %d plans, %d notes", test.kind, test.status, message, task, plans, notes)
		}
	}
}

func TestTasksMisuse(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	dbtest.Open(t, url, dbtest.Ring(t))
	const id = "01980000-0000-7000-8000-000000000000"
	for _, test := range []struct{ args, line string }{
		{"", "phantom tasks needs an action: " + tasksUsage},
		{"delete", `phantom tasks has no action "delete": ` + tasksUsage},
		{"list --merchant cus_1", `phantom tasks list: --merchant "cus_1" is no account: provide --merchant acct_…`},
		{"list --merchant acct_9", "phantom tasks list: acct_9 is not connected here: check the id and DATABASE_URL, or connect it from the server's first page"},
		{"list --status done", `phantom tasks list: --status "done" is none: provide one of pending, running, succeeded, failed, canceled, parked, needs_review`},
		{"list --limit 0", "phantom tasks list: --limit 0 is not usable: provide a number from 1 to 100000"},
		{"list now", `phantom tasks list takes no argument "now": phantom tasks list -h shows what it takes`},
		{"show", "phantom tasks show takes one argument, a task's id: phantom tasks list shows them"},
		{"show " + id + " x", "phantom tasks show takes one argument, a task's id: phantom tasks list shows them"},
		{"retry 1", `phantom tasks retry: "1" is no task's id: phantom tasks list shows them`},
		{"cancel " + id, "phantom tasks cancel: there is no task " + id + ": finished ones go after 7 days, and DATABASE_URL may name another database"},
	} {
		code, stdout, stderr := tasksCommand(t, url, strings.Fields(test.args)...)
		lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
		if code != misuseCode(test.line) || stdout != "" || lines[len(lines)-1] != test.line {
			t.Errorf("%s: %d, %q\n%s\nwant\n%s", test.args, code, stdout, stderr, test.line)
		}
	}
}
