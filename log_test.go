package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/cli"
	"phantom/db/dbtest"
)

// leavesNoRow are the commands, with their actions, that leave none in the log, and why.
var leavesNoRow = map[string]string{
	"serve":       "it does what others ask for, each with a row of its own",
	"work":        "it does what was asked for before",
	"migrate":     "serve and work do the same unasked; schema_version is its record",
	"report":      "it reads",
	"connect":     "it connects, which leaves a row: TestOwnKey",
	"disconnect":  "it disconnects, which leaves a row: TestOwnKey",
	"doctor":      "it reads",
	"log":         "it reads",
	"tasks list":  "it reads",
	"tasks show":  "it reads",
	"apikey list": "it reads",
	"demo":        "its database is its own, and dropped at the end",
	"sandbox":     "it has no database",
	"version":     "it prints",
	"licenses":    "it prints",
	"completion":  "it prints",
	"healthcheck": "it asks",

	"shield status":   "it reads",
	"oracle status":   "it reads",
	"oracle explain":  "it reads",
	"oracle heatmap":  "it reads",
	"oracle rebuild":  "it does what the workers do each night",
	"oracle play":     "it needs no database",
	"shield preview":  "it changes nothing",
	"shield simulate": "it changes nothing",
	"shield verify":   "it reads",
	"edge":            "it has no database",
}

// Each command that changes something leaves one row, of its name. A new command, or a new action
// of one, stands here or in leavesNoRow with a reason.
func TestEveryWritingCommandLeavesARow(t *testing.T) {
	t.Parallel()
	url := dbtest.EmptyURL(t)
	variables := production(t, url)
	_, base := ready(t, variables)
	handshake(t, base)
	pool := dbtest.Open(t, url, dbtest.Ring(t))
	var account string
	if err := pool.QueryRow(t.Context(), "SELECT stripe_user_id FROM merchants").Scan(&account); err != nil {
		t.Fatal(err)
	}
	type entry struct{ By, Command, Action, Object, Merchant string }
	all := func() []entry {
		t.Helper()
		rows, err := pool.Query(t.Context(), `SELECT l.by, coalesce(l.command, ''), l.action, coalesce(l.object, ''), coalesce(m.stripe_user_id, 'all')
			FROM audit_log l LEFT JOIN merchants m ON m.id = l.merchant_id ORDER BY l.id`)
		if err != nil {
			t.Fatal(err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[entry])
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := all(); !slices.Equal(got, []entry{{"merchant", "", "merchant.connect", "", account}}) {
		t.Errorf("after the handshake: %+v", got)
	}
	// The audit that the handshake has begun is over, so that another can begin.
	if p := start(t, variables, []string{"audit", "--merchant", account}); p.wait(t) != 0 {
		t.Fatalf("audit: %s", p.stderr)
	}
	seedReview := func(kind string) string {
		var id string
		if err := pool.QueryRow(t.Context(), `INSERT INTO scheduled_tasks (merchant_id, id, kind, status, params)
			SELECT id, gen_random_uuid(), $1, 'needs_review', '{}' FROM merchants RETURNING id::text`, kind).Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	// A customer who owes, and whom the breaker holds.
	seedHold := func() string {
		var id string
		if err := pool.QueryRow(t.Context(), `INSERT INTO shield_holds (merchant_id, id, customers, "of", revenue)
			SELECT id, $1, 1, 1, '{}' FROM merchants RETURNING id::text`, uuid.Must(uuid.NewV7())).Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	if _, err := pool.Exec(t.Context(), `INSERT INTO shield_states (merchant_id, subscription, customer, livemode, facts, ticket, told_at)
		SELECT id, 'sub_known', 'cus_known', false, '{}', 1, now() FROM merchants ON CONFLICT DO NOTHING`); err != nil {
		t.Fatal(err)
	}
	// Kinds that no worker of the server takes up while it is looked at.
	retried, canceled := seedReview("nobodys_kind"), seedReview("nobodys_kind")
	var keyID string
	done := map[string]bool{}
	for _, test := range []struct {
		command, flags string
		action, object string
		of             string // whose row it is; "" is the account
	}{
		{"apikey create", "--merchant " + account + " --name laptop --scope read --expires 2999-01-31", "apikey.create", "KEY", ""},
		{"apikey revoke", "--merchant " + account + " --id KEY", "apikey.revoke", "KEY", ""},
		{"stop", "", "halt.set", "", "all"},
		{"stop", "--merchant " + account, "halt.set", "", ""},
		{"stop", "--merchant " + account + " --lift", "halt.lift", "", ""},
		{"tasks retry", retried, "task.retry", retried, ""},
		{"tasks cancel", canceled, "task.cancel", canceled, ""},
		{"audit", "--merchant " + account, "audit.start", "ANY", ""},
		{"purge", "", "purge.run", "", "all"},
		{"rewrap", "", "secrets.rewrap", "", "all"},
		{"shield override", "--merchant " + account + " --customer cus_known --level grace", "shield.override.create", "ANY", ""},
		{"shield promise", "--merchant " + account + " --customer cus_known --until " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "shield.promise.create", "ANY", ""},
		{"shield release", "--merchant " + account + " --hold HOLD", "shield.hold.released", "HOLD", ""},
		{"shield discard", "--merchant " + account, "shield.hold.discarded", "HOLD", ""},
		{"shield keys", "rotate", "shield.keys.rotate", "ANY", "all"},
	} {
		before := len(all())
		if test.object == "HOLD" {
			test.object = seedHold()
			test.flags = strings.ReplaceAll(test.flags, "HOLD", test.object)
		}
		flags := strings.ReplaceAll(test.flags, "KEY", keyID)
		p := start(t, variables, append(strings.Fields(test.command), strings.Fields(flags)...))
		if p.wait(t) != 0 {
			t.Fatalf("%s %s: %s", test.command, flags, p.stderr)
		}
		if test.command == "apikey create" {
			keyID = regexp.MustCompile(`[0-9a-f-]{36}`).FindString(p.stderr.String())
		}
		done[test.command] = true
		if test.of == "" {
			test.of = account
		}
		got := all()[before:]
		want := entry{"operator", test.command, test.action, strings.ReplaceAll(test.object, "KEY", keyID), test.of}
		if len(got) == 1 && test.object == "ANY" {
			want.Object = got[0].Object
		}
		if !slices.Equal(got, []entry{want}) {
			t.Errorf("phantom %s %s left %+v, want %+v", test.command, flags, got, want)
		}
	}
	before := len(all())
	for _, same := range []string{ // what is so already, or only asked
		"apikey revoke --merchant " + account + " --id " + keyID, "stop --merchant " + account + " --lift", "stop", "purge --dry-run",
		"apikey list --merchant " + account, "tasks list", "tasks show " + canceled, "log", "report --merchant " + account + " -o -",
	} {
		if p := start(t, variables, strings.Fields(same)); p.wait(t) != 0 {
			t.Errorf("%s: %s", same, p.stderr)
		}
	}
	for _, refused := range []string{"tasks cancel " + canceled, "tasks retry " + canceled} {
		if p := start(t, variables, strings.Fields(refused)); p.wait(t) == 0 {
			t.Errorf("%s was done", refused)
		}
	}
	if got := all()[before:]; len(got) != 0 {
		t.Errorf("what changes nothing left %+v", got)
	}
	for _, name := range cli.Commands() {
		if reason, none := leavesNoRow[name]; done[name] == none {
			t.Errorf("phantom %s: makes a change here: %t, leaves no row because %q: one of the two", name, done[name], reason)
		}
	}
}

// What a key has done is found by its id, as a table and as JSON, with DATABASE_URL alone.
func TestLogCommand(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	pool := dbtest.Open(t, url, dbtest.Ring(t))
	seedMerchants(t, pool, 2)
	const key, other = "01980000-0000-7000-8000-000000000001", "01980000-0000-7000-8000-000000000002"
	for i, row := range []string{
		`NULL, 'operator', NULL, 'stop', 'halt.set', NULL, NULL, NULL`,
		`(SELECT id FROM merchants WHERE stripe_user_id = 'acct_0'), 'key', '` + key + `', NULL, 'playbook.put', NULL, '{"version": 1}', '{"version": 2}'`,
		`(SELECT id FROM merchants WHERE stripe_user_id = 'acct_1'), 'key', '` + other + `', NULL, 'hunt.stop', 'x', NULL, NULL`,
	} {
		if _, err := pool.Exec(t.Context(), fmt.Sprintf(`INSERT INTO audit_log (id, merchant_id, by, key_id, command, action, object, before, after)
			VALUES ('00000000-0000-7000-8000-%012d', %s)`, i, row)); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (code int, stdout, stderr string) {
		t.Helper()
		p := start(t, map[string]string{"DATABASE_URL": url}, append([]string{"log"}, args...))
		code = p.wait(t)
		return code, p.stdout.String(), p.stderr.String()
	}
	const header, at = `AT +MERCHANT +BY +ACTION +OBJECT +BEFORE +AFTER\n`, `20[0-9-]+T[0-9:]+Z +`
	stop := at + `all +operator stop +halt.set +- +- +-\n`
	put := at + `acct_0 +key ` + key + ` +playbook.put +- +{"version": 1} +{"version": 2}\n`
	hunt := at + `acct_1 +key ` + other + ` +hunt.stop +x +- +-\n`
	for _, test := range []struct{ args, want string }{
		{"", hunt + put + stop},
		{"--limit 1", hunt},
		{"--merchant acct_0", put},
		{"--key " + key, put},
		{"--key " + key + " --merchant acct_1", ""},
		{"--key " + strings.Replace(key, "1980", "1981", 1), ""},
	} {
		code, stdout, stderr := run(strings.Fields(test.args)...)
		if code != 0 || !regexp.MustCompile("^"+header+test.want+"$").MatchString(stdout) || stderr != "" {
			t.Errorf("log %s: %d\n%s%s", test.args, code, stdout, stderr)
		}
	}
	_, stdout, _ := run("--json", "--key", key)
	var list []map[string]any
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || len(list) != 1 {
		t.Fatalf("%s, %v", stdout, err)
	}
	if got := list[0]; got["merchant"] != "acct_0" || got["key"] != key || got["command"] != nil || fmt.Sprint(got["after"]) != "map[version:2]" || len(got) != 10 {
		t.Errorf("as JSON: %v", got)
	}
	if _, stdout, _ := run("--json", "--merchant", "acct_0", "--key", other); stdout != "[]\n" {
		t.Errorf("nothing, as JSON: %q", stdout)
	}
	for args, line := range map[string]string{
		"--key x":                "phantom log: --key \"x\" is no key's id: phantom apikey list --merchant acct_… shows them\n",
		"--limit 0":              "phantom log: --limit 0 is not usable: provide a number from 1 to 100000\n",
		"--merchant x":           "phantom log: --merchant \"x\" is no account: provide --merchant acct_…\n",
		"--merchant acct_x":      "phantom log: acct_x is not connected here: check the id and DATABASE_URL, or connect it from the server's first page\n",
		"now":                    "phantom log takes no argument \"now\": phantom log -h shows what it takes\n",
		"--merchant acct_0 -all": "phantom log: flag provided but not defined: --all: phantom log -h shows what it takes\n",
	} {
		if code, stdout, stderr := run(strings.Fields(args)...); code != misuseCode(line) || stdout != "" || !strings.HasSuffix(stderr, line) {
			t.Errorf("log %s: %d, %q, %q", args, code, stdout, stderr)
		}
	}
}
