package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/google/uuid"

	"phantom/shield"
	"phantom/verdict"
)

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// memory measures a subscription in the table beside one in a Go map, and what a table that grows
// does to a change.
func memory(_ context.Context, s size) (bars []bar, err error) {
	for i, n := range s.large {
		ours, delay, err := ourTable(n)
		if err != nil {
			return nil, err
		}
		gos := goMap(n)
		want := 0.5
		if i > 0 {
			want = 0.45
		}
		detail := fmt.Sprintf(" (%d of %d bytes)", ours/int64(n), gos/int64(n))
		bars = append(bars, bar{fmt.Sprintf("memory of %d subscriptions to a map's", n), float64(ours) / float64(gos), false, want, detail},
			bar{fmt.Sprintf("the longest change while a table grows to %d, ms", n), float64(delay.Microseconds()) / 1000, false, 50, ""})
	}
	return bars, nil
}

// ourTable fills a table by changes, one by one, and measures each.
func ourTable(n int) (bytes int64, longest time.Duration, err error) {
	before := heap()
	t := verdict.NewTable()
	policy := shield.Default()
	policy.Mode = shield.Enforce
	tenant := shield.Tenant{ID: uuid.New(), Policy: policy}
	if err := t.Load("7c1f02aa", []shield.Tenant{tenant}, true, func(func(uuid.UUID, shield.Row)) error { return nil }); err != nil {
		return 0, 0, err
	}
	rows := make([]shield.Row, 1)
	for i := range n {
		rows[0] = row(i)
		began := time.Now()
		t.Apply(tenant.ID, int64(i), rows)
		longest = max(longest, time.Since(began))
	}
	bytes = heap() - before
	runtime.KeepAlive(t)
	return bytes, longest, nil
}

// known is what a map would hold of a customer.
type known struct {
	Subscription, Product string
	Level                 shield.Level
	Reason                shield.Reason
	Since                 time.Time
}

func goMap(n int) int64 {
	before := heap()
	m := map[string]*known{}
	for i := range n {
		r := row(i)
		m[r.Customer] = &known{r.Subscription, r.Product, r.Level, r.Reason, time.Unix(r.Since, 0)}
	}
	bytes := heap() - before
	runtime.KeepAlive(m)
	return bytes
}
