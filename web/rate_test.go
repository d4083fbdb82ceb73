package web

import (
	"encoding/binary"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

func TestRates(t *testing.T) {
	t.Parallel()
	r, now := newRates(60), time.Now()
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for r.of(one) == r.of(other) { // two of 16,384 buckets are one now and then
		other = other.Next()
	}
	for i := range 60 {
		if !r.take(one, now) {
			t.Fatalf("request %d of an address is refused", i+1)
		}
	}
	if r.take(one, now) {
		t.Error("the 61st at once is let in")
	}
	if !r.take(other, now) {
		t.Error("another address is refused with it")
	}
	w := httptest.NewRecorder()
	r.refuse(w, one, time.Now(), "Wait.")
	if w.Code != 429 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	if now = now.Add(time.Second); !r.take(one, now) || r.take(one, now) {
		t.Error("a second later there is not room for one")
	}
	// What was counted afterwards is owed.
	slow := newRates(20)
	for range 22 {
		slow.count(one, now)
	}
	if slow.has(one, now.Add(8*time.Second)) || !slow.has(one, now.Add(10*time.Second)) {
		t.Error("22 of 20 a minute are not over after 9 seconds")
	}
}

// However many addresses there are, the memory stays the same.
func TestRatesOfManyAddresses(t *testing.T) { //nolint:paralleltest // it measures memory
	r, now := newRates(60), time.Now()
	var address [16]byte
	i := uint64(0)
	allocated := testing.AllocsPerRun(100_000, func() {
		i++
		binary.BigEndian.PutUint64(address[:8], i)
		r.take(netip.AddrFrom16(address), now)
	})
	if allocated >= 1 || len(r.buckets) != rateBuckets {
		t.Errorf("%v allocations for each address, %d buckets", allocated, len(r.buckets))
	}
}
