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

// A request overtakes all of lower ranks that wait for the account's pace, but the few whose turn
// has come, and the others go on.
func TestUrgentRequestsGoFirst(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		crowd []func(context.Context) context.Context
		mine  func(context.Context) context.Context
	}{
		"urgent": {[]func(context.Context) context.Context{unranked}, Urgent},
		"first":  {[]func(context.Context) context.Context{unranked, Urgent}, First},
		"first, marked as urgent later": {[]func(context.Context) context.Context{unranked, Urgent},
			func(ctx context.Context) context.Context { return Urgent(First(ctx)) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			goesBefore(t, test.crowd, test.mine)
		})
	}
}

func unranked(ctx context.Context) context.Context { return ctx }

func goesBefore(t *testing.T, ranks []func(context.Context) context.Context, mine func(context.Context) context.Context) {
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
	for i := range 30 {
		crowd.Go(func() {
			for p.wait(ranks[i%len(ranks)](ctx)) == nil {
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
		if err := p.wait(mine(t.Context())); err != nil {
			t.Fatal(err)
		}
		if n := served.Load() - before; n > 4 { // of 30; another one may begin as this one ends
			t.Errorf("%d others went before it", n)
		}
	}
	// A crowd that goes before them does not keep the others waiting for ever.
	for range 5 {
		crowd.Go(func() {
			for p.wait(mine(ctx)) == nil {
			}
		})
	}
	for before := served.Load(); served.Load() < before+3; {
		if err := p.wait(mine(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
}
