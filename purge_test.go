package main

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"phantom/db/dbtest"
)

func TestPurgeCommand(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	pool := dbtest.Open(t, url, dbtest.Ring(t))
	seedMerchants(t, pool, 2)
	for i, age := range []string{"91 days", "91 days", "89 days"} {
		if _, err := pool.Exec(t.Context(), `INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, amount, currency, rule, discovered_at)
			SELECT id, $1, 'cus_1', 'sub_' || $2::int, 'in_1', 1, 'usd', 'past_due', now() - $3::text::interval FROM merchants ORDER BY id LIMIT 1`, uuid.New(), i, age); err != nil {
			t.Fatal(err)
		}
	}
	variables := map[string]string{"DATABASE_URL": url, "ENCRYPTION_KEY": dbtest.Key}
	for _, step := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"purge", "now"}, 2, "", `phantom purge takes no argument "now"`},
		{[]string{"purge", "--dry-run"}, 0, "2 ghosts would be purged\n", ""},
		{[]string{"purge"}, 0, "2 ghosts purged\n", ""},
		{[]string{"purge"}, 0, "0 ghosts purged\n", ""},
	} {
		p := start(t, variables, step.args)
		if code := p.wait(t); code != step.code || p.stdout.String() != step.stdout || !strings.Contains(p.stderr.String(), step.stderr) {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q", step.args, code, p.stdout, p.stderr)
		}
	}
	var left int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM ghost_targets").Scan(&left); err != nil || left != 1 {
		t.Errorf("%d ghosts are left, %v; want the young one", left, err)
	}
}
