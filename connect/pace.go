package connect

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/task"
)

// paceShare is how much of the limit is used: the rest absorbs what the network and the scheduler
// do to an even spacing, so that no second of Stripe's holds more requests than it allows.
const paceShare = 0.965

// blockSeconds is how much of an account's time a process reserves at once.
const blockSeconds = 0.1

// pace spaces the requests of this process to one account evenly. The turns come in blocks from the
// database, from which all processes take, so that their sum keeps the limit. Nil is no limit.
type pace struct {
	merchantID uuid.UUID
	queries    *db.Queries
	timeout    time.Duration // of a statement
	most       float64       // requests a second
	waited     func(time.Duration)

	turn chan struct{} // held by whose turn is next
	// A request passes the gates from its rank's on, and each lets one ask at a time: so what is
	// urgent finds one of the others at most before it, and what goes first one that does not.
	gates  [2]chan struct{}
	block                // whose slots are being used
	coming chan reserved // the next one, once it is asked for
	asked  bool
	last   time.Time // when the last request started

	waiting [rankFirst + 1]atomic.Int64 // requests, by rank
	spacing atomic.Int64                // the newest gap
	starts  atomic.Int64                // when the next request starts, in nanoseconds since 1970
	slowed  atomic.Bool                 // the block is of the pace of before
	mutex   sync.Mutex
	// by rank: the turns up to here are of tasks that were sent away
	promised [rankFirst + 1]time.Time
	beyond   int // tasks that were sent away for longer than is promised
}

// block is a run of evenly spaced turns.
type block struct {
	slots int       // left
	next  time.Time // when the next one begins
	gap   time.Duration
}

type reserved struct {
	block
	err error
}

type rankKey struct{}

// The ranks of requests.
const (
	rankOther = iota
	rankUrgent
	rankFirst
)

// Urgent marks requests that go before others of the same account: what a webhook asks for may stop
// them. Every second turn at least is theirs.
func Urgent(ctx context.Context) context.Context { return withRank(ctx, rankUrgent) }

// First marks requests that go before urgent ones too: what they learn may end a hunt. Every second
// turn at least is theirs, so that the others go on.
func First(ctx context.Context) context.Context { return withRank(ctx, rankFirst) }

// withRank never lowers a rank.
func withRank(ctx context.Context, rank int) context.Context {
	return context.WithValue(ctx, rankKey{}, max(rank, rankOf(ctx)))
}

func rankOf(ctx context.Context) int {
	rank, _ := ctx.Value(rankKey{}).(int)
	return rank
}

// paceOf returns the one pace that this process keeps for an account.
func (s *Service) paceOf(merchantID uuid.UUID) *pace {
	if s.config.RateLimit <= 0 {
		return nil
	}
	s.pacesMutex.Lock()
	defer s.pacesMutex.Unlock()
	if s.paces[merchantID] == nil {
		p := &pace{
			merchantID: merchantID, queries: s.queries, timeout: s.config.databaseTimeout(),
			most: float64(s.config.RateLimit) * paceShare, waited: s.config.Waited,
			turn: make(chan struct{}, 1), gates: newGates(), coming: make(chan reserved, 1),
		}
		p.spacing.Store(int64(float64(time.Second) / p.most)) // until the first block tells better
		s.paces[merchantID] = p
	}
	return s.paces[merchantID]
}

func newGates() [2]chan struct{} {
	return [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)}
}

const (
	// patience is how long the first request of a hurried task may wait with a worker's hand held.
	patience = 500 * time.Millisecond
	// pause is how long a later one may: what has begun goes on, unless Stripe asks for a pause.
	pause = 5 * time.Second
	// farthest is how long a task is sent away for at most: the pace may recover meanwhile.
	farthest = time.Minute
)

// requestsOfTask is about how many requests a task makes: so far apart the tasks that were sent
// away come back.
const requestsOfTask = 4

type hurriedKey struct{}

// hurry is a task that can begin anew.
type hurry struct{ begun atomic.Bool }

// hurried marks the requests of a task that can begin anew: where their turn is far away, the task
// goes back to the queue until then, by [task.Snooze], and its worker does others' work.
func hurried(ctx context.Context) context.Context {
	return context.WithValue(ctx, hurriedKey{}, new(hurry))
}

// Patient marks the requests of a task that must not begin anew because of the account's pace: it
// has come far.
func Patient(ctx context.Context) context.Context {
	return context.WithValue(ctx, hurriedKey{}, (*hurry)(nil))
}

// wait returns when a request may start.
func (p *pace) wait(ctx context.Context) error {
	if p == nil {
		return ctx.Err()
	}
	rank, came := rankOf(ctx), time.Duration(p.spacing.Load())
	p.waiting[rank].Add(1)
	defer p.waiting[rank].Add(-1)
	if err := p.isFar(ctx, p.queue(rank), time.Until(time.Unix(0, p.starts.Load()))); err != nil {
		return err
	}
	if p.waited != nil {
		defer func(started time.Time) { p.waited(time.Since(started)) }(time.Now())
	}
	for _, gate := range p.gates[rankOf(ctx):] {
		select {
		case gate <- struct{}{}:
			defer func() { <-gate }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.slowed.Swap(false) {
		p.slots = 0
		if p.asked { // at the old pace
			<-p.coming
			p.asked = false
		}
	}
	// Slots that passed unused are lost: used later they would make a burst. Two may be made up
	// for, so that a busy process that is woken a little late each time gets its whole rate.
	for p.slots > 0 && time.Since(p.next) > 2*p.gap {
		p.slots--
		p.next = p.next.Add(p.gap)
	}
	// The next block is asked for in time: the database may be busy with what the others read.
	if size := p.blockSize(); p.slots <= size/2 && !p.asked {
		p.asked = true
		go func() { p.coming <- p.reserve(context.WithoutCancel(ctx), size) }()
	}
	if p.slots == 0 {
		select {
		case next := <-p.coming:
			p.asked = false
			if next.err != nil {
				return next.err
			}
			p.block = next.block
			p.spacing.Store(int64(p.gap))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	at := p.next
	if spaced := p.last.Add(p.gap * 9 / 10); at.Before(spaced) { // the last one was woken late
		at = spaced
	}
	d := time.Until(at)
	p.starts.Store(at.UnixNano())
	var queue time.Duration
	// It may be slower than when the request came: the queue is longer then than it seemed.
	if p.gap > came*3/2 {
		queue = p.queue(rank)
	}
	if err := p.isFar(ctx, queue, d); err != nil {
		return err
	}
	p.slots--
	p.next = p.next.Add(p.gap)
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.last = time.Now()
	if h, _ := ctx.Value(hurriedKey{}).(*hurry); h != nil {
		h.begun.Store(true)
	}
	return nil
}

// queue is about how long the last request of a rank waits. Of those that go before others every
// second turn at least is theirs.
func (p *pace) queue(rank int) time.Duration {
	var n int64
	for r := rank; r < len(p.waiting); r++ {
		n += p.waiting[r].Load()
	}
	if rank > rankOther {
		n *= 2
	}
	return time.Duration(n * p.spacing.Load())
}

// isFar sends a hurried task away that would wait for so long in the queue, or where the next
// request starts so late. Two requests may always wait: however slow the pace is, it is used.
func (p *pace) isFar(ctx context.Context, queue, next time.Duration) error {
	h, _ := ctx.Value(hurriedKey{}).(*hurry)
	if h == nil {
		return nil
	}
	gap := time.Duration(p.spacing.Load())
	wait, most := max(queue, next), max(patience, 2*gap)
	if h.begun.Load() {
		wait, most = next, max(pause, 2*gap)
	}
	if wait <= most {
		return nil
	}
	rank, now := rankOf(ctx), time.Now()
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if turn := now.Add(wait); p.promised[rank].Before(turn) {
		p.promised[rank] = turn
	}
	if wait = p.promised[rank].Sub(now); wait > farthest {
		p.beyond++ // not all at once
		return task.Snooze(farthest/2 + time.Duration(p.beyond%60)*farthest/120)
	}
	p.promised[rank] = p.promised[rank].Add(requestsOfTask * gap)
	return task.Snooze(wait)
}

func (p *pace) blockSize() int { return max(int(p.most*blockSeconds), 1) }

func (p *pace) reserve(ctx context.Context, size int) reserved {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	row, err := p.queries.StripeRateReserve(ctx, db.StripeRateReserveParams{MerchantID: p.merchantID, Requests: float64(size), Most: p.most})
	if err != nil {
		return reserved{err: fmt.Errorf("reserve requests: %w", err)}
	}
	gap := time.Duration(float64(time.Second) / row.Rate)
	return reserved{block: block{slots: size, gap: gap, next: time.Now().Add(time.Duration(row.EndsIn*float64(time.Second)) - time.Duration(size)*gap)}}
}

// slow halves the account's pace for all processes and pauses it. The rest of this process's block
// is given up.
func (p *pace) slow(ctx context.Context, pause time.Duration) error {
	if p == nil {
		return nil
	}
	if h, _ := ctx.Value(hurriedKey{}).(*hurry); h != nil {
		// what was refused may as well begin anew
		h.begun.Store(false)
	}
	if err := p.queries.StripeRateSlow(ctx, db.StripeRateSlowParams{MerchantID: p.merchantID, Most: p.most, Pause: pause.Seconds()}); err != nil {
		return fmt.Errorf("slow down: %w", err)
	}
	p.slowed.Store(true)
	return nil
}
