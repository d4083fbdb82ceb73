package web_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// The summary holds what hunts have brought, of the key's merchant alone.
func TestSummaryOfHunts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, neighbour := b.caller("acct_1"), b.caller("acct_2")
	exec := func(statement string, args ...any) {
		t.Helper()
		if _, err := b.pool.Exec(t.Context(), statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	// hunts stores so many hunts of one arm whose window is over, of which some recovered by a
	// charge of 100.
	hunts := func(merchant uuid.UUID, heldOut bool, all, recovered int) {
		t.Helper()
		for i := range all {
			id, hash := uuid.Must(uuid.NewV7()), sha256.Sum256(fmt.Append(nil, merchant, heldOut, i))
			exec(`INSERT INTO hunts (merchant_id, id, ghost_id, customer, playbook_version, mode, held_out, state, ended_reason, livemode, decline_class, currency,
				amount, invoices, began_at, ended_at, paid_at) VALUES ($1, $2, $2, $3, 1, 'recover', $4, $5, 'x', false, 'timed', 'usd', 100, '{}',
				phantom_now() - interval '31 days', phantom_now() - interval '2 days', CASE WHEN $5 = 'recovered' THEN phantom_now() - interval '2 days' END)`, merchant, id, hash[:], heldOut, map[bool]string{true: "recovered", false: "exhausted"}[i < recovered])
			if i < recovered {
				exec(`INSERT INTO recoveries (merchant_id, invoice, hunt_id, currency, amount, cause, recovered_at)
					VALUES ($1, $2, $3, 'usd', 100, $4, phantom_now())`, merchant, hash[:], id, map[bool]string{true: "anyway", false: "charge"}[heldOut])
			}
		}
	}
	for _, merchant := range []uuid.UUID{c.id, neighbour.id} {
		exec(`INSERT INTO playbooks (merchant_id, version, body) VALUES ($1, 1, '{"mode":"recover","window_days":30,"holdout_percent":10}')`, merchant)
	}
	hunts(c.id, false, 30, 20)
	hunts(c.id, true, 20, 5)
	hunts(neighbour.id, false, 3, 3)
	want := `"recovery":{"currencies":{"usd":{"at_risk":0,"recovered_after_action":2000,"recovered_anyway":500,"by_cause":{"charge":2000,"email":0,"sms":0,"anyway":500},` +
		`"invoices":{"charge":20,"email":0,"sms":0,"anyway":5},"by_class":{"timed":{"at_risk":0,"recovered_after_action":2000,"recovered_anyway":500}}}},` +
		`"costs":{"charges":0,"emails":0,"sms":0},"hunts":{"active":0,"recovered":25,"exhausted":25,"stopped":0,"held_out":20},` +
		`"uplift":{"treated":{"customers":30,"recovered":20},"held_out":{"customers":20,"recovered":5},"waiting":0,"difference":0.41666666666666663,"low":0.1`
	got := c.call("GET", "/api/summary", "")
	if got.status != 200 || !strings.Contains(got.body, want) || !strings.Contains(got.body, `"verdict":"more is recovered"},"watched":{"hunts":0,"currencies":{}}}`) {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
}
