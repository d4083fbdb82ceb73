package shield_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/internal/stage"
	"phantom/shield"
)

// All cards fail at once: two customers of a hundred lose access, or the five that are always
// allowed, and nobody more until a person says so.
func TestBreaker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var all []shield.Facts
	for i := range 1000 {
		all = append(all, paying(fmt.Sprintf("%04d", i)))
	}
	b.tell(all...)
	b.policy(always)
	for i := range all {
		all[i] = b.owing(fmt.Sprintf("%04d", i), 40)
	}
	for range 4 {
		for i := 0; i < len(all); i += 100 {
			b.tell(all[i : i+100]...)
		}
		b.later(25 * time.Hour)
	}
	lost := func() int {
		return b.Count("SELECT count(DISTINCT customer) FROM shield_states WHERE level IN ('limited', 'blocked')")
	}
	if n := lost(); n != 20 {
		t.Fatalf("%d of 1,000 customers have lost access, want 20", n)
	}
	holds, _, err := b.s.Holds(t.Context(), b.merchant, uuid.Nil, 10)
	if err != nil || len(holds) != 1 || holds[0].Subscriptions != 1000 || holds[0].Of != 1000 {
		t.Fatalf("%+v, %v", holds, err)
	}
	if !strings.Contains(b.log.String(), "phantom shield status") {
		t.Error("nobody was told")
	}
	b.tell(paying("0999")) // who pays is not held
	b.want("sub_0999", "full paid")
	if _, err := b.s.Discard(t.Context(), stage.Merchant(t, b.pool, "acct_2"), holds[0].ID); !errors.Is(err, shield.ErrNotFound) {
		t.Errorf("another merchant discards it: %v", err)
	}
	if _, err := b.s.Release(t.Context(), b.merchant, holds[0].ID); err != nil {
		t.Fatal(err)
	}
	if n := lost(); n != 20 { // they are read anew first
		t.Errorf("%d customers have lost access unread, want 20", n)
	}
	b.tell(all[:999]...)
	if n := lost(); n != 999 {
		t.Errorf("%d customers have lost access after the release, want 999", n)
	}
	if _, err := b.s.Release(t.Context(), b.merchant, holds[0].ID); !errors.Is(err, shield.ErrNotFound) {
		t.Errorf("released twice: %v", err)
	}
}

// Who has just become known had nothing that they could lose: a first audit finds thousands that
// have ended, and the breaker stays closed.
func TestWhoBecomesKnownTripsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.policy(always)
	var all []shield.Facts
	for i := range 50 {
		ended := paying(fmt.Sprint(i))
		ended.Service, ended.EndedAt = shield.Ended, b.now().AddDate(0, 0, -2)
		all = append(all, ended)
	}
	b.tell(all...)
	b.want("sub_49", "blocked ended")
	if holds, _, err := b.s.Holds(t.Context(), b.merchant, uuid.Nil, 10); err != nil || len(holds) != 0 {
		t.Errorf("%+v, %v", holds, err)
	}
	// Who is known loses something, for any reason: Stripe may be wrong.
	for i := range 50 {
		b.tell(paying(fmt.Sprint("known", i)))
	}
	for i := range 50 {
		ended := paying(fmt.Sprint("known", i))
		ended.Service, ended.EndedAt = shield.Ended, b.now()
		b.tell(ended)
	}
	if n := b.Count("SELECT count(*) FROM shield_states WHERE customer LIKE 'cus_known%' AND level = 'blocked'"); n != 5 {
		t.Errorf("%d of 50 were blocked at once, want the 5 that are always allowed", n)
	}
}

// What is discarded stays as it is for as long as this debt is owed.
func TestDiscardedHold(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.policy(strings.Replace(always, `"mode"`, `"breaker":{"max_customers_percent":0,"always_allowed":0},"mode"`, 1))
	b.tell(b.owing("1", 40))
	for range 3 {
		b.later(25 * time.Hour)
		b.tell(b.owing("1", 40))
	}
	b.want("sub_1", "grace payment_failed held")
	holds, _, err := b.s.Holds(t.Context(), b.merchant, uuid.Nil, 10)
	if err != nil || len(holds) != 1 {
		t.Fatalf("%+v, %v", holds, err)
	}
	if _, err := b.s.Discard(t.Context(), b.merchant, holds[0].ID); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		b.later(25 * time.Hour)
		b.tell(b.owing("1", 43))
	}
	b.want("sub_1", "grace payment_failed")
	b.tell(paying("1"))
	owed := b.owing("1", 40)
	for range 4 {
		b.tell(owed)
		b.later(25 * time.Hour)
	}
	if got := b.level("sub_1"); !strings.HasSuffix(got, "held") {
		t.Errorf("a new debt is spared, too: %s", got)
	}
}

// Who is held because of a pause, and owes nothing, goes or stays as a person says, and nobody is
// asked again.
func TestHoldsOfPauses(t *testing.T) {
	t.Parallel()
	for outcome, want := range map[string]struct {
		level string
		close func(b *bench, id uuid.UUID) (string, error)
	}{
		"released":  {"blocked paused", func(b *bench, id uuid.UUID) (string, error) { return b.s.Release(b.t.Context(), b.merchant, id) }},
		"discarded": {"full paid", func(b *bench, id uuid.UUID) (string, error) { return b.s.Discard(b.t.Context(), b.merchant, id) }},
	} {
		t.Run(outcome, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var all []shield.Facts
			for i := range 20 {
				all = append(all, paying(fmt.Sprintf("%02d", i)))
			}
			b.tell(all...)
			b.policy(`{"mode":"enforce","paused":"blocked","breaker":{"always_allowed":0}}`)
			for i := range all {
				all[i].Service = shield.Suspended
			}
			b.tell(all...)
			b.want("sub_07", "full paid held")
			holds, _, err := b.s.Holds(t.Context(), b.merchant, uuid.Nil, 10)
			if err != nil || len(holds) != 1 || holds[0].Subscriptions != 20 {
				t.Fatalf("%+v, %v", holds, err)
			}
			if _, err := want.close(b, holds[0].ID); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				b.want("sub_07", want.level)
				if n := b.Count("SELECT count(*) FROM shield_states WHERE level || ' ' || reason = $1 AND NOT held", want.level); n != 20 {
					t.Errorf("%d have %s, want 20", n, want.level)
				}
				if n := b.Count("SELECT count(*) FROM shield_holds"); n != 1 {
					t.Errorf("%d holds", n)
				}
				b.later(2 * time.Hour)
				b.tell(all...)
			}
		})
	}
}

// The breaker counts what each subscription brings in, of one customer too.
func TestBreakerCountsRevenue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var all []shield.Facts
	for i := range 100 {
		all = append(all, paying(fmt.Sprintf("%02d", i)))
	}
	for i := range 20 { // of one customer: a sixth of the revenue
		f := paying(fmt.Sprintf("x%02d", i))
		f.Customer = "cus_large"
		all = append(all, f)
	}
	b.tell(all...)
	b.policy(`{"mode":"enforce","paused":"blocked","breaker":{"always_allowed":0}}`)
	for i := 100; i < 120; i++ {
		all[i].Service = shield.Suspended
	}
	b.tell(all[100:]...)
	if n := b.Count("SELECT count(*) FROM shield_states WHERE level = 'blocked'"); n != 6 { // five percent of 120
		t.Errorf("%d have lost access, want 6", n)
	}
	if n := b.Count("SELECT (revenue ->> 'usd')::int FROM shield_holds"); n != 20*4900 {
		t.Errorf("the hold says %d", n)
	}
}
