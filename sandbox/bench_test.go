package sandbox

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

func BenchmarkWorld(b *testing.B) {
	for range b.N {
		s, _ := New(Config{Now: (&clock{t: birth}).Now})
		for _, a := range s.accounts {
			a.advance(birth.Unix())
		}
	}
}

// BenchmarkPay pays one open invoice a turn among at least 10,000.
func BenchmarkPay(b *testing.B) {
	s, err := New(Config{Now: (&clock{t: birth}).Now, OpenInvoices: max(b.N, 10_000), Merchants: 1})
	if err != nil {
		b.Fatal(err)
	}
	a := s.accounts[s.ids[0]]
	token, _ := s.grants.issue("access", a.ID, "read_write")
	a.advance(birth.Unix())
	var open []string
	for _, o := range a.tables["invoices"].rows {
		if o.(*invoice).Status == "open" {
			open = append(open, o.meta().ID)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		r := httptest.NewRequest(http.MethodPost, "/v1/invoices/"+open[i]+"/pay", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Idempotency-Key", fmt.Sprint("task_", i))
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusOK && w.Code != http.StatusPaymentRequired {
			b.Fatal(w.Code, w.Body)
		}
	}
}
