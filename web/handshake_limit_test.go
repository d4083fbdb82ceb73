package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"phantom/sandbox"
)

// wait is what Retry-After says, in seconds.
func (a answer) wait(t *testing.T) int {
	t.Helper()
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || seconds < 1 {
		t.Errorf("%d with Retry-After %q", a.status, a.header.Get("Retry-After"))
	}
	return seconds
}

// One address begins some 60 handshakes a minute, loopback too. Others are not kept from it, and
// who has begun before can finish.
func TestBeginsOfOneAddress(t *testing.T) {
	t.Parallel()
	b := setup(t)
	before := b.browser()
	back := before.callback()
	began, started := 1, time.Now()
	var refused answer
	for refused.status == 0 && began < 1000 {
		if got := b.browser().get("/api/auth/stripe"); got.status == http.StatusFound {
			began++
		} else {
			refused = got
		}
	}
	refused.wantError(t, 429, "too_many_requests")
	if wait := refused.wait(t); wait > 60 {
		t.Errorf("it is to wait %d s", wait)
	}
	if most := 61 + int(time.Since(started).Seconds()); began < 60 || began > most {
		t.Errorf("%d were begun before one was refused, want 60 to %d", began, most)
	}
	if n := b.states(); n != began {
		t.Errorf("%d states of %d", n, began)
	}
	other := b.browser()
	other.from = "203.0.113.9"
	other.handshake("sandbox_account", b.world.Accounts()[1]).wantSuccess(t)
	before.arrive(back).wantSuccess(t)
	refusals := 0
	for _, l := range b.lines() {
		if l.Msg == "[STRIPE] handshake refused" && l.Code == "too_many_requests" {
			refusals++
		}
	}
	if refusals != 1 {
		t.Errorf("%d lines say so", refusals)
	}
}

// The table of states is full: nobody else begins, and who has begun finishes. What has expired
// makes room.
func TestStatesAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.browser()
	back := c.callback()
	fill := func(n int) {
		t.Helper()
		_, err := b.pool.Exec(t.Context(), `INSERT INTO oauth_states (state_hash, browser_hash)
			SELECT sha256(('filled ' || i)::bytea), sha256('x') FROM generate_series(1, $1::int) AS i`, n)
		if err != nil {
			t.Fatal(err)
		}
	}
	fill(19_999)
	got := b.browser().get("/api/auth/stripe")
	got.wantError(t, 503, "overloaded")
	got.wait(t)
	if n := b.states(); n != 20_000 {
		t.Errorf("%d states", n)
	}
	c.arrive(back).wantSuccess(t) // which makes room for one
	if got := b.browser().get("/api/auth/stripe"); got.status != http.StatusFound {
		t.Errorf("with room for one: %d %s", got.status, got.body)
	}
	b.browser().get("/api/auth/stripe").wantError(t, 503, "overloaded")
	if _, err := b.pool.Exec(t.Context(), "UPDATE oauth_states SET created_at = created_at - interval '1 hour', expires_at = expires_at - interval '1 hour'"); err != nil {
		t.Fatal(err)
	}
	if got := b.browser().get("/api/auth/stripe"); got.status != http.StatusFound {
		t.Errorf("with all of them expired: %d %s", got.status, got.body)
	}
	if n := b.states(); n != 20_000-100+1 { // each sweeps a hundred
		t.Errorf("%d states", n)
	}
}

// Codes that Stripe does not accept are exchanged at some 20 a minute of each address. The state of
// what is refused before stays good.
func TestExchangesOfOneAddress(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bogus := func(c *browser, i int) answer {
		page := c.begin()
		return c.get("/api/auth/callback?" + url.Values{"state": {page.Query().Get("state")}, "code": {fmt.Sprint("ac_bogus", i)}}.Encode())
	}
	honest := b.browser()
	back := honest.callback()
	// A state of nobody's costs Stripe nothing, and takes nothing.
	for range 30 {
		b.browser().get("/api/auth/callback?state="+strings.Repeat("A", 43)+"&code=ac_x").wantError(t, 400, "invalid_state")
	}
	c, asked, started := b.browser(), 0, time.Now()
	var refused answer
	for ; refused.status == 0 && asked < 50; asked++ {
		if got := bogus(c, asked); got.status != http.StatusBadRequest {
			refused = got
		}
	}
	refused.wantError(t, 429, "too_many_requests")
	refused.wait(t)
	if n, most := b.stripe.count("/oauth/token"), 21+int(time.Since(started).Seconds()/3); n < 20 || n > most {
		t.Errorf("%d codes were exchanged, want 20 to %d", n, most)
	}
	honest.arrive(back).wantError(t, 429, "too_many_requests")
	honest.from = "203.0.113.9" // as if it had waited
	honest.arrive(back).wantSuccess(t)
}

// Sixteen codes at a time are exchanged, of all addresses. Who finds no place loads the page again.
func TestExchangesAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const places = 16
	entered, release := make(chan struct{}, places), make(chan struct{})
	b.world.Fail(sandbox.Fault{Path: "/oauth/token", Times: places, Hold: func() { entered <- struct{}{}; <-release }})
	var group sync.WaitGroup
	for i := range places {
		c := b.browser()
		c.from = fmt.Sprintf("203.0.113.%d", i)
		back := c.callback("sandbox_account", b.world.Accounts()[i%2])
		group.Go(func() { c.arrive(back).wantSuccess(t) })
	}
	for range places {
		<-entered
	}
	last := b.browser()
	last.from = "198.51.100.1"
	back := last.callback()
	got := last.arrive(back)
	got.wantError(t, 503, "overloaded")
	got.wait(t)
	if n := b.stripe.count("/oauth/token"); n != places {
		t.Errorf("%d codes at Stripe, want %d", n, places)
	}
	close(release)
	group.Wait()
	last.arrive(back).wantSuccess(t)
}

// Only listed accounts connect. The token of another one is never stored, and given back.
func TestListedAccounts(t *testing.T) {
	t.Parallel()
	world, err := sandbox.New(sandbox.Config{Customers: 1})
	if err != nil {
		t.Fatal(err)
	}
	listed, unlisted := world.Accounts()[1], world.Accounts()[0]
	b := setup(t, func(o *options) { o.accounts = []string{listed} })
	if all := b.world.Accounts(); !slices.Contains(all, listed) || !slices.Contains(all, unlisted) {
		t.Fatal("the worlds differ")
	}
	b.browser().handshake("sandbox_account", unlisted).wantError(t, 403, "account_not_listed")
	if b.connected(unlisted) || b.merchants() != 0 {
		t.Error("its token is stored")
	}
	if n := b.stripe.count("/oauth/deauthorize"); n != 1 {
		t.Errorf("it was given back %d times", n)
	}
	if l := b.oneLine(); l.Msg != "[STRIPE] handshake refused" || l.Code != "account_not_listed" {
		t.Errorf("log line %+v", l)
	}
	b.browser().handshake("sandbox_account", listed).wantSuccess(t)
	if !b.connected(listed) || b.stripe.count("/oauth/deauthorize") != 1 {
		t.Error("the listed one is not connected")
	}
	// Stripe does not take it back: the operator learns of it, and nothing is stored.
	b.world.Fail(sandbox.Fault{Path: "/oauth/deauthorize", Status: 500})
	b.browser().handshake("sandbox_account", unlisted).wantError(t, 403, "account_not_listed")
	found := false
	for _, l := range b.lines() {
		found = found || strings.HasPrefix(l.Msg, "[SECURITY] the token of an account that is not listed was not taken back") && l.Account == unlisted
	}
	if !found || b.connected(unlisted) {
		t.Errorf("said: %t, stored: %t", found, b.connected(unlisted))
	}
}
