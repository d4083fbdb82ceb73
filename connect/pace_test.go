package connect

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/internal/stage"
	"phantom/task"
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
	t.Helper()
	p := newPace(t, 40)
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

// A task whose turn is far away goes back to the queue until then, each at a turn of its own; a few
// wait, so that every turn is used. What must not begin anew waits.
func TestFarTurnsHoldNoHand(t *testing.T) {
	t.Parallel()
	p := newPace(t, 4)
	if err := p.wait(hurried(t.Context())); err != nil { // the spacing is known from now on
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	delays := make(chan time.Duration, 40)
	var served atomic.Int64
	var tasks sync.WaitGroup
	began := time.Now()
	for range cap(delays) {
		tasks.Go(func() {
			err := p.wait(hurried(ctx))
			if delay, is := task.Snoozed(err); is {
				delays <- delay
			} else if err == nil {
				served.Add(1)
			}
		})
	}
	tasks.Wait()
	close(delays)
	if n := served.Load(); n == 0 || n > 8 {
		t.Errorf("%d of 40 waited for their turn", n)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the 40 held their hands for %s", took)
	}
	var all []time.Duration
	for d := range delays {
		all = append(all, d)
	}
	slices.Sort(all)
	// They come back at the pace of four requests each: one a second.
	if len(all) < 30 || all[len(all)-1]-all[0] < time.Duration(len(all)-10)*time.Second {
		t.Errorf("%d tasks come back between %s and %s", len(all), all[0], all[len(all)-1])
	}
	// Stripe asks for a pause.
	if err := p.slow(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, ctx := range []context.Context{hurried(ctx), First(hurried(ctx))} {
		if delay, is := task.Snoozed(p.wait(ctx)); !is || delay < 30*time.Second {
			t.Errorf("amid a pause of a minute a task comes back after %s", delay)
		}
	}
	patient, stop := context.WithTimeout(Patient(hurried(ctx)), 100*time.Millisecond)
	defer stop()
	if err := p.wait(patient); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("what must not begin anew does not wait: %v", err)
	}
}

// While one that must not begin anew waits for the end of a pause, the others do not wait behind
// it.
func TestAPauseIsSeenBesideWhoWaits(t *testing.T) {
	t.Parallel()
	p := newPace(t, 40)
	if err := p.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.slow(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 40*time.Second)
	defer stop()
	patient, end := context.WithCancel(ctx)
	waited := make(chan error, 1)
	go func() { waited <- p.wait(Patient(patient)) }()
	for p.starts.Load() < time.Now().Add(30*time.Second).UnixNano() {
		if ctx.Err() != nil {
			t.Fatal("nobody waits for the end of the pause")
		}
		time.Sleep(time.Millisecond)
	}
	for _, ctx := range []context.Context{hurried(ctx), Urgent(hurried(ctx)), First(hurried(ctx))} {
		if delay, is := task.Snoozed(p.wait(ctx)); !is || delay < 20*time.Second {
			t.Errorf("amid a pause a task comes back after %s", delay)
		}
	}
	end()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// amidACrowd is a task that has begun, while a dozen others wait that must not begin anew.
func amidACrowd(ctx context.Context, t *testing.T, p *pace) (mine context.Context, others *sync.WaitGroup) {
	t.Helper()
	mine, others = hurried(ctx), new(sync.WaitGroup)
	if err := p.wait(mine); err != nil {
		t.Fatal(err)
	}
	for range 12 {
		others.Go(func() { _ = p.wait(ctx) })
	}
	for p.waiting[rankOther].Load() < 10 {
		time.Sleep(time.Millisecond)
	}
	return mine, others
}

// A task that has begun goes on, though many have come since.
func TestWhatHasBegunGoesOn(t *testing.T) {
	t.Parallel()
	p := newPace(t, 4)
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	mine, others := amidACrowd(ctx, t, p)
	if err := p.wait(mine); err != nil {
		t.Errorf("it begins anew: %v", err)
	}
	others.Wait()
}

// Tasks that came while the pace was quick hold no hand once Stripe has slowed it down: but for two
// they go away at once.
func TestWhoCameEarlierSeesTheNewPace(t *testing.T) {
	t.Parallel()
	p := newPace(t, 40)
	p.turn <- struct{}{} // nobody begins
	var served, away atomic.Int64
	var tasks sync.WaitGroup
	for range 15 {
		tasks.Go(func() {
			err := p.wait(hurried(t.Context()))
			if _, is := task.Snoozed(err); is {
				away.Add(1)
			} else if err == nil {
				served.Add(1)
			}
		})
	}
	for p.waiting[rankOther].Load() < 15 {
		time.Sleep(time.Millisecond)
	}
	if first := p.reserve(t.Context(), 1); first.err != nil {
		t.Fatal(first.err)
	}
	p.most = 1 // half of it is the slowest there is
	if err := p.slow(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	<-p.turn
	tasks.Wait()
	if served.Load() > 3 || served.Load()+away.Load() != 15 {
		t.Errorf("%d of 15 hold their hands until they are served, %d go away", served.Load(), away.Load())
	}
}

// What Stripe has refused has not begun: it does not hold its hand behind a long queue.
func TestWhatWasRefusedGoesAway(t *testing.T) {
	t.Parallel()
	p := newPace(t, 4)
	ctx, stop := context.WithCancel(t.Context())
	mine, others := amidACrowd(ctx, t, p)
	if err := p.slow(mine, 0); err != nil {
		t.Fatal(err)
	}
	if _, is := task.Snoozed(p.wait(mine)); !is {
		t.Error("it waits behind all the others")
	}
	stop()
	others.Wait()
}

// newPace is the pace of a merchant, of so many requests a second.
func newPace(t *testing.T, rate int) *pace {
	t.Helper()
	pool := dbtest.Pool(t)
	id := stage.Merchant(t, pool, "acct_1")
	service := Service{config: Config{RateLimit: rate}, queries: db.New(pool), paces: map[uuid.UUID]*pace{}}
	return service.paceOf(id)
}
