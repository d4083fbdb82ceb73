package ghost

import (
	"testing"
	"time"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/sandbox"
	"phantom/state"
)

// Anyone who asks for a whole audit while one since a date runs gets a whole one, wherever that
// stands: before it begins, between its windows, and when it judges already.
func TestPartialAuditIsWidened(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fault sandbox.Fault // whose moment is when the whole audit is asked for
	}{
		{name: "before it begins"},
		{name: "while it reads", fault: sandbox.Fault{Path: "/v1/charges", Query: "created"}},
		{name: "while it reads what is open", fault: sandbox.Fault{Path: "/v1/invoices", Query: "status=open"}},
		{name: "while it judges", fault: sandbox.Fault{Path: "/v1/subscriptions/"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Seed: 7})
			since := time.Now().AddDate(0, 0, -20)
			id, err := b.s.StartAudit(t.Context(), b.merchant, &since)
			if err != nil {
				t.Fatal(err)
			}
			asked := false
			ask := func() {
				asked = true
				earlier, later := since.AddDate(0, -2, 0), since.AddDate(0, 0, 1)
				for i, wish := range []*time.Time{&later, &earlier, nil, &earlier} {
					if got, err := b.s.StartAudit(t.Context(), b.merchant, wish); err != nil || got != id {
						t.Errorf("asking found %s, %v", got, err)
					}
					want := []*time.Time{&since, &earlier, nil, nil}[i]
					if got := b.auditRow(id).Since; (got == nil) != (want == nil) || got != nil && !got.Equal(want.Truncate(time.Second)) {
						t.Errorf("after wish %d the audit is since %v, want %v", i, got, want)
					}
				}
			}
			if test.fault.Path == "" {
				ask()
			} else {
				test.fault.Hold = ask
				b.world.Fail(test.fault)
			}
			if err := b.queue().RunOne(t.Context(), b.merchant, id); err != nil {
				t.Fatal(err)
			}
			row := b.auditRow(id)
			if !asked || row.State != state.AuditSucceeded || row.Since != nil {
				t.Errorf("asked %t, the audit %s since %v: %v", asked, row.State, row.Since, row.Error)
			}
			b.assertTruth()
			windows, err := b.queries.AuditListWindows(t.Context(), db.AuditListWindowsParams{MerchantID: b.merchant, AuditID: id})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range windows {
				if w.State != "done" {
					t.Errorf("a window of %s is %s", w.List, w.State)
				}
			}
			// Nothing is read twice or left out, as the next audit shows.
			if whole := b.audit(); whole.ID == id || whole.Objects != row.Objects {
				t.Errorf("%d objects, a whole audit has %d", row.Objects, whole.Objects)
			}
			if n := dbtest.Count(t, b.pool, "SELECT count(*) FROM oracle_days"); n == 0 {
				t.Error("no day is counted")
			}
		})
	}
}
