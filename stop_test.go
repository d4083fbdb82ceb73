package main

import (
	"regexp"
	"strings"
	"testing"

	"phantom/db/dbtest"
)

// stop and its lifting say what is halted then, may be repeated, and need nothing but the database.
func TestStopCommand(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	pool := dbtest.Open(t, url, dbtest.Ring(t))
	seedMerchants(t, pool, 2)
	var account, other string
	if err := pool.QueryRow(t.Context(), "SELECT min(stripe_user_id), max(stripe_user_id) FROM merchants").Scan(&account, &other); err != nil {
		t.Fatal(err)
	}
	const since = ` is halted since 20[0-9-]+T[0-9:]+Z; to go on: phantom stop `
	all := "every charge and message of all merchants" + since + "--lift\n"
	one := "every charge and message of " + account + since + "--merchant " + account + " --lift\n"
	for _, step := range []struct {
		args           []string
		code, halts    int
		stdout, stderr string
	}{
		{[]string{"-h"}, 0, 0, "(?s).*--lift\n.*", ""},
		{[]string{"now"}, 2, 0, "", `phantom stop takes no argument "now"`},
		{[]string{"--merchant", "cus_1"}, 2, 0, "", `--merchant "cus_1" is no account`},
		{[]string{"--merchant", "acct_unknown"}, 1, 0, "", "acct_unknown is not connected here"},
		{[]string{"--lift"}, 0, 0, "nothing is halted: hunts send\n", ""},
		{[]string{"--merchant", account}, 0, 1, one, ""},
		{[]string{"--merchant", account}, 0, 1, one, ""},
		{nil, 0, 2, all + one, ""},
		{[]string{"--merchant", account, "--lift"}, 0, 1, all, ""},
		{[]string{"--merchant", other, "--lift"}, 0, 1, all, ""},
		{nil, 0, 1, all, ""},
		{[]string{"--lift"}, 0, 0, "nothing is halted: hunts send\n", ""},
	} {
		p := start(t, map[string]string{"DATABASE_URL": url}, append([]string{"stop"}, step.args...))
		code := p.wait(t)
		if code != step.code || !regexp.MustCompile("^"+step.stdout+"$").MatchString(p.stdout.String()) || !strings.Contains(p.stderr.String(), step.stderr) {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q", step.args, code, p.stdout, p.stderr)
		}
		if len(step.args) == 0 { // dev mode beside a database of one's own is no stand-in
			dev := start(t, map[string]string{"DATABASE_URL": url, "PHANTOM_DEV": "1"}, []string{"stop"})
			if code := dev.wait(t); code != 0 {
				t.Errorf("in dev mode: exit code %d, stderr %q", code, dev.stderr)
			}
		}
		var halts int
		if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM halts").Scan(&halts); err != nil || halts != step.halts {
			t.Errorf("%v: %d halts, %v; want %d", step.args, halts, err, step.halts)
		}
	}
	// A merchant's own halt is named and not lifted.
	if _, err := pool.Exec(t.Context(), "INSERT INTO halts (scope, by) SELECT id, 'merchant' FROM merchants WHERE stripe_user_id = $1", account); err != nil {
		t.Fatal(err)
	}
	theirs := "every charge and message of " + account + ", by themselves, is halted since 20[0-9-]+T[0-9:]+Z; to go on: the merchant's own DELETE /api/halt\n"
	for _, step := range []struct {
		args   []string
		stdout string
	}{
		{[]string{"--merchant", account}, one + theirs},
		{[]string{"--merchant", account, "--lift"}, theirs},
		{[]string{"--lift"}, theirs},
	} {
		p := start(t, map[string]string{"DATABASE_URL": url}, append([]string{"stop"}, step.args...))
		if code := p.wait(t); code != 0 || !regexp.MustCompile("^"+step.stdout+"$").MatchString(p.stdout.String()) {
			t.Errorf("%v beside a merchant's own: exit code %d, stdout %q, stderr %q", step.args, code, p.stdout, p.stderr)
		}
	}
}

// Without a database and without a server in dev mode beside it nothing is halted, and that is no
// success; beside one its database is.
func TestStopHaltsNoDatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	variables, in := devMode(t)
	stop := func(code int, stdout, stderr string) {
		t.Helper()
		p := start(t, variables, []string{"stop"}, in)
		if got := p.wait(t); got != code || !strings.Contains(p.stdout.String(), stdout) || !strings.Contains(p.stderr.String(), stderr) {
			t.Errorf("exit code %d, stdout %q, stderr %q", got, p.stdout, p.stderr)
		}
	}
	stop(1, "", "nothing is halted; set DATABASE_URL")
	ready(t, variables, in)
	stop(0, "every charge and message of all merchants is halted", "")
}
