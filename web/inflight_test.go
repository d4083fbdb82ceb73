package web_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"phantom/db"
	"phantom/db/dbtest"
)

// lockGhosts has every reader of ghosts wait until the returned function is called.
func (b *bench) lockGhosts() (unlock func()) {
	b.t.Helper()
	tx, err := b.pool.Begin(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := tx.Exec(b.t.Context(), "LOCK TABLE ghost_targets IN ACCESS EXCLUSIVE MODE"); err != nil {
		b.t.Fatal(err)
	}
	var once sync.Once
	unlock = func() { once.Do(func() { _ = tx.Rollback(context.WithoutCancel(b.t.Context())) }) }
	b.t.Cleanup(unlock)
	return unlock
}

// readersWaiting are statements that wait for a lock.
func (b *bench) readersWaiting() (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *bench) awaitReaders(n int) {
	b.t.Helper()
	for deadline := time.Now().Add(8 * time.Second); b.readersWaiting() != n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%d statements wait, and not %d", b.readersWaiting(), n)
		}
	}
}

// One merchant's requests take four connections at most: the fifth is told to come back, and others
// are answered meanwhile.
func TestOneKeyTakesNobodyDown(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *options) { o.database = db.WithPool(dbtest.URL(t), 8) })
	greedy, other := b.caller("acct_greedy"), b.caller("acct_other")
	unlock := b.lockGhosts()
	answers := make(chan answer, 4)
	var asked sync.WaitGroup
	for range 4 {
		asked.Go(func() { answers <- greedy.call("GET", "/api/summary", "") })
	}
	b.awaitReaders(4)
	for range 20 {
		got := greedy.call("GET", "/api/summary", "")
		got.wantError(t, http.StatusTooManyRequests, "too_many_requests")
		if got.header.Get("Retry-After") != "1" || got.header.Get("RateLimit-Policy") != `"concurrent";q=4` || got.header.Get("RateLimit") != `"concurrent";r=0` {
			t.Fatalf("headers %v", got.header)
		}
	}
	if got := other.call("GET", "/api/playbook", ""); got.status != http.StatusOK || got.header.Get("RateLimit") != `"concurrent";r=3` {
		t.Errorf("another one: %d %s %v", got.status, got.body, got.header)
	}
	if got := b.browser().get("/readyz"); got.status != http.StatusOK {
		t.Errorf("readyz: %d", got.status)
	}
	unlock()
	asked.Wait()
	for range 4 {
		if got := <-answers; got.status != http.StatusOK {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	if got := greedy.call("GET", "/api/summary", ""); got.status != http.StatusOK {
		t.Errorf("afterwards: %d %s", got.status, got.body)
	}
}

// What nobody waits for any more ends at the database too, and frees its place; nothing of that is
// in the log.
func TestStatementsEndWithTheirClient(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *options) { o.database = db.WithPool(dbtest.URL(t), 8) })
	c := b.caller("acct_1")
	unlock := b.lockGhosts()
	for range 3 {
		ctx, leave := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				if got, err := c.send(ctx, "GET", "/api/summary", nil, "Authorization", "Bearer "+c.key); err == nil {
					t.Errorf("an answer amid the lock: %d %s", got.status, got.body)
				}
			})
		}
		b.awaitReaders(4)
		leave()
		clients.Wait()
		b.awaitReaders(0)
	}
	unlock()
	deadline := time.Now().Add(8 * time.Second)
	got := c.call("GET", "/api/summary", "")
	for ; got.status == http.StatusTooManyRequests && time.Now().Before(deadline); got = c.call("GET", "/api/summary", "") {
		time.Sleep(10 * time.Millisecond)
	}
	if got.status != http.StatusOK {
		t.Errorf("afterwards: %d %s", got.status, got.body)
	}
	if text := b.log.String(); text != "" {
		t.Errorf("log: %s", text)
	}
}
