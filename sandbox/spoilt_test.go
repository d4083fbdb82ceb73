package sandbox

import (
	"net/http"
	"sync"
	"testing"
)

// However payments are spoilt, a client that sends the same key until it knows the outcome charges
// each invoice once, and the ledger says so. This is the world that the hunts are tested in.
func TestSpoiltPaymentsExecuteOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.OpenInvoices, c.Merchants = 120, 1 })
	token := b.connect(0)
	open := b.s.Truth(b.s.Accounts()[0])
	charges := b.count(0, "charges")
	for _, f := range []Fault{
		{Drop: true, After: true}, {Reset: true, After: true}, {Reset: true}, {Status: 409, Code: "idempotency_key_in_use"}, {Status: 429},
		{Status: 500, After: true}, {Status: 500}, {Truncate: true},
	} {
		f.Method, f.Path, f.Chance = http.MethodPost, "/v1/invoices/", 0.05
		b.s.Fail(f)
	}
	todo := make(chan string)
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for id := range todo {
				for tries := 0; ; tries++ {
					r, err := b.do(http.MethodPost, "/v1/invoices/"+id+"/pay", token, nil, key("task_"+id)...)
					if err == nil && (r.status == http.StatusOK || r.status == http.StatusPaymentRequired) {
						break
					}
					if tries == 50 {
						t.Errorf("%s: no outcome, lately %v %d", id, err, r.status)
						break
					}
				}
			}
		})
	}
	for _, g := range open {
		todo <- g.Invoices[0]
	}
	close(todo)
	clients.Wait()
	for k, n := range b.s.AllExecutions() {
		if n != 1 {
			t.Errorf("%s was executed %d times", k, n)
		}
	}
	if n := b.count(0, "charges") - charges; n != len(open) || len(b.s.Ledger("")) != len(open) {
		t.Errorf("%d charges, %d lines, %d invoices", n, len(b.s.Ledger("")), len(open))
	}
	sent := 0
	for _, r := range b.s.Requests() {
		if r.IdempotencyKey != "" {
			sent++
		}
	}
	if sent < len(open)*5/4 { // a third are spoilt
		t.Errorf("%d requests for %d invoices: hardly any was spoilt", sent, len(open))
	}
}
