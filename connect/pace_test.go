package connect

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/vault"
)

// An urgent request overtakes all that wait for the account's pace, but the one or two whose turn has come.
func TestUrgentRequestsGoFirst(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	merchant := uuid.Must(uuid.NewV7())
	access := vault.NewToken("merchants.access_token:acct_1", "sk_test_1")
	if _, err := db.New(pool).MerchantCreate(t.Context(), db.MerchantCreateParams{ID: merchant, StripeUserID: "acct_1", AccessToken: &access, Scope: "read_write"}); err != nil {
		t.Fatal(err)
	}
	p := &pace{merchantID: merchant, queries: db.New(pool), most: 40, turn: make(chan struct{}, 1), gates: newGates(), coming: make(chan reserved, 1)}
	ctx, stop := context.WithCancel(t.Context())
	var crowd sync.WaitGroup
	defer crowd.Wait()
	defer stop()
	var served atomic.Int64
	for range 30 {
		crowd.Go(func() {
			for p.wait(ctx) == nil {
				served.Add(1)
			}
		})
	}
	for served.Load() < 3 {
		if err := p.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		before := served.Load()
		if err := p.wait(Urgent(t.Context())); err != nil {
			t.Fatal(err)
		}
		if n := served.Load() - before; n > 4 { // of 30; another one may begin as this one ends
			t.Errorf("%d others went before an urgent request", n)
		}
	}
}
