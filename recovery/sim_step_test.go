//go:build failpoints

package recovery

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// simWorker is one try at one task, in a goroutine that goes on only while the scheduler waits for
// it.
type simWorker struct {
	label, key string
	merchant   *simMerchant
	object     string    // that it is about to change
	in         chan bool // false: die
	out        chan struct{}
	ended      bool
	wake       time.Time // not before
	sequential bool      // its reads come one after the other, so that it may pause between them
}

const (
	simSlots = 3
	// Of what comes back without an end, or at once. The end of a window asks every ten minutes for
	// a charge that waits three days for its event, and a charge above the daily cap every hour of
	// a window of a month: that is no more than 750 times. A day of minutes is more.
	mostTries, mostAtOnce = 1000, 20
)

// simTask is a live task, as the scheduler sees it.
type simTask struct {
	merchant, id        uuid.UUID
	kind, subject, what string
	status              string
	runAt               time.Time
	lease               *time.Time
	sent                *time.Time
	attempts            int
	reason              string
}

func (t simTask) String() string { return fmt.Sprintf("%s %s %s", t.kind, t.what, t.subject) }

const simTaskQuery = `SELECT t.merchant_id, t.id, t.kind, coalesce(t.params ->> 'object',
	g.stripe_invoice_id, t.params ->> 'subscription',
		t.params ->> 'invoice', m.stripe_user_id), coalesce(t.params ->> 'do', ''), t.status, t.run_at,
			t.lease_until, t.first_sent_at,
		t.attempts, coalesce(t.last_error, '')
	FROM scheduled_tasks t JOIN merchants m ON m.id = t.merchant_id
	LEFT JOIN hunts h ON h.merchant_id = t.merchant_id AND h.id = (t.params ->> 'hunt')::uuid
	LEFT JOIN ghost_targets g ON g.merchant_id = h.merchant_id AND g.id = h.ghost_id
	WHERE t.status = ANY ($1)`

// tasks are those in these states, in an order that does not rest on their ids alone.
func (s *sim) tasks(statuses ...string) []simTask {
	rows, err := s.database.pool.Query(s.ctx, simTaskQuery, statuses)
	s.must(err)
	return s.read(rows)
}

// goOn moves the clocks and reads the live tasks, in one round trip.
func (s *sim) goOn(to time.Time) {
	var batch pgx.Batch
	batch.Queue(simMoveQuery, s.clocks(to)...)
	batch.Queue(simTaskQuery, simLive)
	results := s.database.pool.SendBatch(s.ctx, &batch)
	_, err := results.Exec()
	s.must(err)
	rows, err := results.Query()
	s.must(err)
	s.live, s.stale = s.read(rows), false
	s.must(results.Close())
}

var simLive = []string{"pending", "running"}

func (s *sim) read(rows pgx.Rows) (list []simTask) {
	defer rows.Close()
	for rows.Next() {
		var t simTask
		s.must(rows.Scan(&t.merchant, &t.id, &t.kind, &t.subject, &t.what, &t.status, &t.runAt, &t.lease,
			&t.sent, &t.attempts, &t.reason))
		list = append(list, t)
	}
	s.must(rows.Err())
	slices.SortFunc(list, func(a, b simTask) int {
		return cmp.Or(a.runAt.Compare(b.runAt), cmp.Compare(a.kind, b.kind), cmp.Compare(a.subject,
			b.subject), cmp.Compare(a.what, b.what),
			cmp.Compare(a.id.String(), b.id.String()))
	})
	return list
}

// act is something that happens at a moment by itself.
type act struct {
	at   time.Time
	nth  int
	name string
	do   func()
}

func (s *sim) plan(at time.Time, name string, do func()) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.planned++
	s.acts = append(s.acts, act{at, s.planned, name, do})
	slices.SortFunc(s.acts, func(a, b act) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.nth,
			b.nth))
	})
}

// turn lets the world go on until a moment, or until nothing is left to be done before it.
func (s *sim) turn(until time.Time, most int) {
	for n := 0; ; n++ {
		if n > most {
			s.breach("I5", "no rest after %d steps", n)
			return
		}
		if len(s.broken) > 0 && !simGoOn {
			return
		}
		if !s.step(until) {
			return
		}
	}
}

// step does one thing. It reports false where nothing is left before the moment.
func (s *sim) step(until time.Time) bool {
	s.steps++
	if s.stale {
		s.live, s.stale = s.tasks(simLive...), false
	}
	var due []simTask
	next := until.Add(time.Second)
	soon := func(at time.Time) {
		if at.After(s.now) && at.Before(next) {
			next = at
		}
	}
	dead := false
	for _, t := range s.live {
		switch {
		case t.status == "running":
			dead = dead || t.lease.Before(s.now)
			soon(t.lease.Add(time.Second))
		case t.runAt.After(s.now):
			soon(t.runAt)
		default:
			due = append(due, t)
		}
	}
	if dead {
		s.say("rescue")
		s.count("task given back after its worker died")
		s.must(s.queue.Rescue(s.ctx))
		s.stale = true
		return true
	}
	var ready []func()
	for _, w := range s.workers {
		if w.wake.After(s.now) {
			soon(w.wake)
			continue
		}
		ready = append(ready, func() { s.resume(w, true) })
	}
	for _, a := range s.acts {
		if a.at.After(s.now) {
			soon(a.at)
			break
		}
	}
	if len(s.acts) > 0 && !s.acts[0].at.After(s.now) {
		ready = append(ready, func() {
			a := s.acts[0]
			s.acts = s.acts[1:]
			s.say("* %s", a.name)
			a.do()
			s.listen()
		})
	}
	if len(s.workers) < simSlots && len(due) > 0 {
		t := due[s.r.IntN(min(len(due), 3))]
		ready = append(ready, func() {
			if s.backup > 0 && Mutates(t.kind) {
				s.keepBackup()
			}
			s.start(t)
		})
	}
	if len(ready) == 0 {
		if next.After(until) {
			return false
		}
		s.move(next)
		s.listen()
		return true
	}
	ready[s.r.IntN(len(ready))]()
	s.goOn(s.now.Add(time.Duration(1+s.r.IntN(40)) * time.Millisecond))
	return true
}

// start gives a task to a worker.
func (s *sim) start(t simTask) {
	w := &simWorker{label: t.String(), key: "task_" + t.id.String(),
		in: make(chan bool), out: make(chan struct{}), sequential: Mutates(t.kind) || t.kind == KindHunt}
	for _, m := range s.merchant {
		if m.id == t.merchant && Mutates(t.kind) {
			w.merchant, w.object = m, t.subject
		}
	}
	s.say("start %s", w.label)
	if s.tries[w.label]++; s.tries[w.label] == mostTries {
		s.breach("I5 rest", "%s is tried %d times", w.label, mostTries)
	}
	minute := w.label + s.now.Format(" 2 15:04")
	if s.tries[minute]++; s.tries[minute] == mostAtOnce {
		s.breach("I5 rest", "%s is tried %d times within a minute", w.label, mostAtOnce)
	}
	s.workers = append(s.workers, w)
	go func() {
		defer func() {
			w.ended = true
			w.out <- struct{}{}
		}()
		if <-w.in {
			s.must(s.queue.Step(s.ctx, t.merchant, t.id))
		}
	}()
	s.resume(w, true)
	s.listen()
}

// resume lets a worker go on to its next pause, or has it die where it stands.
func (s *sim) resume(w *simWorker, alive bool) {
	s.running = w
	w.in <- alive
	<-w.out
	s.running = nil
	if w.ended {
		s.say("  end of %s", w.label)
		s.checkParked(w)
		s.workers = slices.DeleteFunc(s.workers, func(o *simWorker) bool { return o == w })
	}
}

// pause gives the hand back to the scheduler, in the worker's goroutine.
func (s *sim) pause(w *simWorker, d time.Duration) {
	w.wake = s.now.Add(d)
	w.out <- struct{}{}
	if !<-w.in {
		runtime.Goexit()
	}
}

// point is what a worker meets at a failpoint. Inside a transaction it may die, but nobody else
// goes on.
func (s *sim) point(name string) {
	w := s.running
	if w == nil || s.draining {
		return
	}
	dice := s.dice("point " + name + " " + w.label)
	if dice.Float64() < s.weather.crashes {
		s.count("crash at " + name)
		s.say("  crash at %s", name)
		runtime.Goexit()
	}
	if name == "marking" || name == "ending" {
		return
	}
	switch {
	case dice.Float64() < s.weather.stalls:
		s.count("stall")
		s.say("  stall at %s", name)
		s.pause(w, time.Duration(dice.IntN(300))*time.Second)
	case dice.Float64() < 0.15:
		s.pause(w, time.Duration(dice.IntN(200))*time.Millisecond)
	}
}

// killAll ends all workers where they stand.
func (s *sim) killAll() {
	for len(s.workers) > 0 {
		s.resume(s.workers[0], false)
	}
}
