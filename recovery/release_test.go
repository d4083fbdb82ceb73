package recovery

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/billing"
	"phantom/db"
	"phantom/gate"
	"phantom/playbook"
	"phantom/sandbox"
)

// setupTaken is a world whose hunts take invoices over from Smart Retries.
func setupTaken(t *testing.T, change func(*playbook.Playbook)) *bench {
	t.Helper()
	b := setup(t, sandbox.Config{Merchants: 1})
	b.movable()
	b.audit()
	b.hunted(func(p *playbook.Playbook) {
		p.TakeOver, p.WindowDays = true, 2
		if change != nil {
			change(p)
		}
	})
	b.during(b.calm)
	if len(b.toggles()) == 0 {
		t.Fatal("nothing was taken over")
	}
	return b
}

// toggles are the requests about automatic collection, by invoice.
func (b *bench) toggles() map[string]int {
	n := map[string]int{}
	for _, e := range b.world.Ledger(b.account) {
		if e.Method == http.MethodPost && strings.HasPrefix(e.Path, "/v1/invoices/") && !strings.HasSuffix(e.Path, "/pay") {
			n[e.Object]++
		}
	}
	return n
}

// collected are the open invoices among those that were taken over, and whether Stripe collects
// them.
func (b *bench) collected() map[string]bool {
	b.t.Helper()
	reader, err := b.connect.Reader(b.t.Context(), b.merchant)
	if err != nil {
		b.t.Fatal(err)
	}
	open := map[string]bool{}
	for invoice := range b.toggles() {
		o, err := billing.ReadInvoice(b.t.Context(), reader, invoice)
		if err != nil {
			b.t.Fatal(err)
		}
		if o.Status == "open" {
			open[invoice] = o.AutoAdvance
		}
	}
	return open
}

// No matter what ends a hunt without a payment, Smart Retries gets its invoices back, each once,
// also where the request is lost at first; and not where the playbook keeps them, and not what
// nobody of ours has taken.
func TestTakeOverIsGivenBack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*playbook.Playbook)
		end    func(*bench)
		back   bool
	}{
		"stopped": {nil, func(b *bench) {
			for _, hunt := range b.active() {
				if err := b.s.Stop(b.t.Context(), b.merchant, hunt); err != nil {
					b.t.Error(err)
				}
			}
		}, true},
		"the window is over": {nil, func(b *bench) {
			b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE params ->> 'do' = 'end'")
		}, true},
		"kept by the playbook": {func(p *playbook.Playbook) { p.GiveBack = false }, func(b *bench) {
			b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE params ->> 'do' = 'end'")
		}, false},
		"lost at first": {nil, func(b *bench) {
			b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Drop: true, Times: 3})
			b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE params ->> 'do' = 'end'")
		}, true},
		"closed as without access": {nil, func(b *bench) {
			for _, id := range strings.Fields(b.Text("SELECT string_agg(id::text, ' ') FROM ghost_targets")) {
				if _, err := b.ghosts.SetAccess(b.t.Context(), b.merchant, uuidOf(id), false); err != nil {
					b.t.Error(err)
				}
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupTaken(t, test.change)
			before := b.toggles()
			for invoice, on := range b.collected() {
				if on {
					t.Fatalf("%s was not taken over", invoice)
				}
			}
			b.during(func() {
				test.end(b)
				b.await("all hunts have ended, and what they leave is done", func() bool {
					b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE kind = 'invoice_release' AND status = 'pending'")
					return b.Count("SELECT count(*) FROM hunts WHERE state = 'active' AND NOT held_out") == 0 &&
						b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'invoice_release' AND status IN ('pending', 'running')") == 0
				})
			})
			open := b.collected()
			if len(open) == 0 {
				t.Fatal("nothing is open any more")
			}
			for invoice, on := range open {
				want := before[invoice]
				if test.back {
					want++
				}
				if on != test.back || b.toggles()[invoice] != want {
					t.Errorf("%s: automatic collection is %v after %d requests, want %d", invoice, on, b.toggles()[invoice], want)
				}
			}
		})
	}
}

// What the merchant has put back or taken out themselves is left as it is: the mark on the invoice
// tells.
func TestOnlyOurTakeOverIsGivenBack(t *testing.T) {
	t.Parallel()
	b := setupTaken(t, nil)
	ours := b.collected()
	for invoice := range ours {
		// another's mark, or none
		b.post("/v1/invoices/"+invoice, map[string][]string{"metadata": {""}})
	}
	before := b.toggles()
	b.during(func() {
		b.advance(49 * time.Hour)
		b.await("all hunts have ended", func() bool {
			return b.Count("SELECT count(*) FROM hunts WHERE state = 'active' AND NOT held_out") == 0 &&
				b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'invoice_release' AND status IN ('pending', 'running')") == 0
		})
	})
	for invoice := range ours {
		if b.toggles()[invoice] != before[invoice] {
			t.Errorf("%s was given back", invoice)
		}
	}
}

// A person may cancel that an invoice is given back, or that a pause is lifted. Nobody of ours does
// it any more then, and the hunt's history says what is left to do.
func TestCanceledUndoingIsSaid(t *testing.T) {
	t.Parallel()
	b := setupTaken(t, nil)
	for _, hunt := range b.active() {
		if err := b.s.Stop(t.Context(), b.merchant, hunt); err != nil {
			t.Fatal(err)
		}
	}
	var canceled []uuid.UUID
	for _, id := range strings.Fields(b.Text("SELECT string_agg(id::text, ' ') FROM scheduled_tasks WHERE kind = 'invoice_release' AND status = 'pending'")) {
		row, err := b.queries.TaskShow(t.Context(), uuidOf(id))
		if err != nil {
			t.Fatal(err)
		}
		if err := db.InTx(t.Context(), b.pool, func(tx pgx.Tx) error { return CancelTask(t.Context(), tx, row) }); err != nil {
			t.Fatal(err)
		}
		canceled = append(canceled, row.ID)
	}
	if len(canceled) < 2 {
		t.Fatalf("%d tasks to give back", len(canceled))
	}
	b.Exec("UPDATE attempts SET action = $1 WHERE task_id = $2", gate.KindResume, canceled[0])
	b.during(b.calm)
	for i, id := range canceled {
		object := b.Text("SELECT params ->> 'object' FROM scheduled_tasks WHERE id = $1", id)
		want := leftToPeople(gate.KindRelease, object)
		if i == 0 {
			want = leftToPeople(gate.KindResume, object)
		}
		if n := b.Count("SELECT count(*) FROM hunt_notes WHERE task_id = $1 AND note = $2", id, want); n != 1 {
			t.Errorf("the history says it %d times: %s", n, want)
		}
	}
	for invoice, on := range b.collected() {
		if on {
			t.Errorf("%s was given back", invoice)
		}
	}
}
