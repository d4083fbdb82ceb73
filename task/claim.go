package task

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"phantom/db"
)

// apart says whether the queue claims a part of the kinds only, beside one that claims all.
func (q *Queue) apart() bool { return q.config.Urgent || q.config.First }

// claimLoop fills the workers' hands and waits for whichever comes first: a free hand, a
// notification, the next task's time.
func (q *Queue) claimLoop(ctx, alive context.Context) {
	failures := 0
	for ctx.Err() == nil {
		room := q.room()
		if room == 0 {
			q.sleep(ctx, q.config.Poll)
			continue
		}
		claiming, heard := hearOut(ctx)
		count, err := q.claim(claiming, alive, room)
		heard()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failures++
			if failures == 1 {
				q.config.Log.Error("[WORKER] cannot claim tasks: trying again until the database answers", "cause", db.Describe(err))
			}
			q.pause(ctx, min(time.Duration(failures)*200*time.Millisecond, q.config.Poll))
			continue
		case failures > 0:
			failures = 0
			q.config.Log.Info("[WORKER] claims tasks again")
		}
		// Nothing more is due, and an ended task makes nothing due: its hand need not ask.
		if count < room {
			q.mutex.Lock()
			q.more = false
			q.mutex.Unlock()
			q.sleep(ctx, q.untilNext(ctx))
			q.mutex.Lock()
			q.tried = 0 // however many were tried meanwhile, it was not at full speed
			q.mutex.Unlock()
		}
	}
}

// hearOut is ctx, whose end is told two seconds later. A claim that is under way when a process
// stops may have taken its tasks: heard out, they are given back, and do not wait for the end of
// their leases.
func hearOut(ctx context.Context) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(2*time.Second, cancel) })
	return later, func() { stop(); cancel() }
}

// room is how many tasks to claim: enough for the free hands, and a stock for as long as they empty
// it quickly. What only waits to be settled does not count, so that claiming and settling go on at
// the same time.
func (q *Queue) room() int {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	q.more = true // until a claim says otherwise
	stock := max(q.config.Workers, min(2*q.tried, q.config.Batch+q.config.Workers))
	q.stock = stock
	if q.apart() { // what it learns is waited for: a process with a free hand takes it
		stock, q.stock = q.config.Workers, 0
	}
	open := q.open - q.hands.blocked
	room := min(stock-open, q.config.Batch)
	q.low = max(stock/2, q.config.Workers-1)
	// A small claim costs as much as a large one: wait until half the stock is gone.
	if room < stock/2 && open > q.config.Workers {
		return 0
	}
	return max(room, 0)
}

// The lanes of a claim: all tasks, those of the urgent kinds, and those that go first.
const (
	laneAll = iota
	laneUrgent
	laneFirst
	lanes
)

// round is one turn of the merchants who have something due in a lane.
type round struct {
	waiting []uuid.UUID // not served yet
	share   int         // of each of them
	after   uuid.UUID   // of a crowd, up to whom it was looked
}

// sample is how many of the oldest due tasks are looked at for their merchants. Where fewer are
// due, that is cheaper than to go from merchant to merchant.
const sample = 200

// hops bounds how many merchants one look at a crowd passes: some milliseconds of PostgreSQL's.
const hops = 1000

// looksInVain bounds the looks of one claim that finds nothing: the next one goes on.
const looksInVain = 4

// longKind is the kind whose tasks take minutes where others take a second. TaskClaim leaves it
// out.
const longKind = "audit"

// claim takes room tasks at most, fewer where nothing more is to be had.
func (q *Queue) claim(ctx, alive context.Context, room int) (n int, err error) {
	q.mutex.Lock()
	q.tried, q.passed = 0, false
	q.mutex.Unlock()
	q.unsure = false
	ctx, cancel := q.bounded(ctx)
	defer cancel()
	if free := min(q.freeForLong(), room); free > 0 && !q.apart() {
		rows, err := q.queries.TaskClaimLong(ctx, db.TaskClaimLongParams{LeaseSeconds: q.config.Lease.Seconds(), Batch: int32(free)})
		if err != nil {
			return 0, err
		}
		for _, row := range rows {
			q.takeRow(alive, db.TaskClaimRow(row))
		}
		n = len(rows)
	}
	for _, lane := range q.config.lanes() {
		took, err := q.claimLane(ctx, alive, lane, room-n)
		n += took
		if err != nil || n == room {
			return n, err
		}
	}
	return n, nil
}

// freeForLong is how many tasks of the long kind may still begin.
func (q *Queue) freeForLong() int {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	return q.config.Long - q.long
}

func (q *Queue) takeRow(alive context.Context, row db.TaskClaimRow) {
	q.take(alive, &Task{
		MerchantID: row.MerchantID, ID: row.ID, Kind: row.Kind, Params: row.Params, SealedParams: row.SealedParams,
		Attempt: row.Attempts, Fence: row.Fence, FirstSentAt: row.FirstSentAt, RunAt: row.RunAt, First: row.First,
	})
}

// lanes are what a queue claims of, in this order.
func (c Config) lanes() []int {
	switch {
	case c.First:
		return []int{laneFirst}
	case c.Urgent:
		return []int{laneUrgent} // what goes first is among them, and has workers of its own
	}
	return []int{laneAll}
}

// claimLane serves the merchants in turns: each gets the same share of what there is room for, and
// the next claim goes on behind the last one served. So nobody waits for another's backlog.
func (q *Queue) claimLane(ctx, alive context.Context, lane, room int) (n int, err error) {
	r := &q.rounds[lane]
	all := false // those of the last look were all, and none of them has had anything
	for looks := 0; n < room; {
		if len(r.waiting) == 0 {
			if all || looks == looksInVain {
				q.unsure = q.unsure || !all
				return n, nil
			}
			looks++
			if all, err = q.look(ctx, lane, r); err != nil {
				return n, err
			}
			r.share = max((room-n)/max(len(r.waiting), 1), 1)
			if q.apart() {
				r.share = min(r.share, q.hands.most)
			}
			continue
		}
		turn := min(len(r.waiting), max((room-n)/r.share, 1))
		merchants := q.withoutSated(r.waiting[:turn])
		if len(merchants) == 0 {
			r.waiting = r.waiting[turn:]
			continue
		}
		rows, err := q.queries.TaskClaim(ctx, db.TaskClaimParams{
			LeaseSeconds: q.config.Lease.Seconds(), Merchants: merchants,
			First: lane == laneFirst, Urgent: lane == laneUrgent,
			Share: int32(r.share), Batch: int32(room - n),
		})
		if err != nil {
			return n, err
		}
		r.waiting = r.waiting[turn:]
		for _, row := range inTurns(rows) {
			q.takeRow(alive, row)
		}
		if n += len(rows); len(rows) > 0 {
			all, looks = false, 0
		}
	}
	return n, nil
}

// withoutSated leaves out who has enough of the hands and of the stock: what holds their tasks up
// must not fill it.
func (q *Queue) withoutSated(merchants []uuid.UUID) []uuid.UUID {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	var left []uuid.UUID
	for _, m := range merchants {
		if q.hands.sated(m, q.stock) {
			q.passed = true
		} else {
			left = append(left, m)
		}
	}
	return left
}

// look finds whose turn it is. It reports whether these are all who have something due.
func (q *Queue) look(ctx context.Context, lane int, r *round) (all bool, err error) {
	fromStart := r.after == uuid.Nil
	var few []uuid.UUID
	for range looksInVain { // on, where none of these merchants has anything due
		var crowd []uuid.UUID
		var crowded bool
		if few, crowd, crowded, err = q.lookOnce(ctx, lane, r); err != nil {
			return false, err
		}
		if !crowded {
			r.waiting = few
			return fromStart, nil
		}
		if r.waiting = crowd; len(crowd) > 0 || r.after == uuid.Nil {
			break
		}
	}
	if len(r.waiting) == 0 {
		r.waiting = few // the crowd's, of whom those that were passed are none
	}
	return fromStart && r.after == uuid.Nil, nil
}

// lookOnce names the merchants of the oldest due tasks, and, of a crowd, those behind the one up to
// whom it was looked.
func (q *Queue) lookOnce(ctx context.Context, lane int, r *round) (few, crowd []uuid.UUID, crowded bool, err error) {
	p := db.TaskDueMerchantsParams{
		After: r.after, First: lane == laneFirst, Urgent: lane == laneUrgent, Hops: hops,
	}
	if lane == laneAll {
		p.Sample = sample
	}
	rows, err := q.queries.TaskDueMerchants(ctx, p)
	if err != nil {
		return nil, nil, false, err
	}
	crowded, r.after = p.Sample == 0, uuid.Nil
	for _, row := range rows {
		switch {
		case row.Place == 0:
			few = append(few, row.MerchantID)
			continue
		case row.Due:
			crowd = append(crowd, row.MerchantID)
		}
		if crowded = true; row.Place == hops {
			r.after = row.MerchantID // the next look goes on from here
		}
	}
	return few, crowd, crowded, nil
}

// inTurns has merchants take turns in what the workers begin, each with their oldest first. A claim
// names its rows in any order.
func inTurns(rows []db.TaskClaimRow) []db.TaskClaimRow {
	slices.SortFunc(rows, func(a, b db.TaskClaimRow) int { return a.RunAt.Compare(b.RunAt) })
	turn, turns := map[uuid.UUID]int{}, make(map[uuid.UUID]int, len(rows))
	for _, row := range rows {
		turns[row.ID] = turn[row.MerchantID]
		turn[row.MerchantID]++
	}
	slices.SortStableFunc(rows, func(a, b db.TaskClaimRow) int { return cmp.Compare(turns[a.ID], turns[b.ID]) })
	return rows
}

func (q *Queue) secondsToNext(ctx context.Context) (float64, error) {
	ctx, cancel := q.bounded(ctx)
	defer cancel()
	switch {
	case q.config.First:
		return q.queries.TaskSecondsToNextFirst(ctx)
	case q.config.Urgent:
		return q.queries.TaskSecondsToNextUrgent(ctx)
	}
	return q.queries.TaskSecondsToNext(ctx, q.freeForLong() > 0)
}

// untilNext is how long the claim loop may sleep: until the next task is due, Poll at most.
func (q *Queue) untilNext(ctx context.Context) time.Duration {
	seconds, err := q.secondsToNext(ctx)
	if err != nil {
		return q.config.Poll
	}
	next := time.Duration(seconds * float64(time.Second))
	if q.passed { // what is due already waits for a hand, whose end wakes the loop
		next = max(next, lookAgain)
	}
	if q.unsure { // more may be due than was looked at
		next = min(next, lookAgain)
	}
	return max(min(next, q.config.Poll), time.Millisecond)
}
