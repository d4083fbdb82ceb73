package ghost

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/connect"
	"phantom/db"
	"phantom/db/dbtest"
	"phantom/sandbox"
	"phantom/state"
	"phantom/task"
)

// workerEnv makes the test binary a worker process: the database's URL, a space, and the sandbox's.
const workerEnv = "PHANTOM_GHOST_TEST_WORKER"

const (
	workerLease = time.Second
	workerLimit = 150 // requests a second and account
)

// workerProcess works until it is killed.
func workerProcess(setting string) int {
	url, stripe, _ := strings.Cut(setting, " ")
	ring, err := dbtest.NewRing()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	pool, err := db.Open(context.Background(), url, ring)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	account := connect.New(connect.Config{
		SecretKey: sandbox.SecretKey, ClientID: sandbox.ClientID, APIBase: stripe, ConnectBase: stripe, RateLimit: workerLimit,
		Log: slog.New(slog.DiscardHandler),
	}, pool)
	queue, err := task.NewQueue(pool, task.Config{
		ListenURL: url, Handlers: New(pool, account, slog.New(slog.DiscardHandler)).Handlers(), Lease: workerLease,
		Poll: 200 * time.Millisecond, RetryBase: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	queue.Run(context.Background())
	return 0
}

// traffic counts what reaches the sandbox.
type traffic struct {
	next  http.Handler
	mutex sync.Mutex
	times []time.Time
	pages map[string]int
}

func (c *traffic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		c.mutex.Lock()
		c.times = append(c.times, time.Now())
		if r.URL.Query().Has("limit") {
			c.pages[r.URL.RequestURI()]++
		}
		c.mutex.Unlock()
	}
	c.next.ServeHTTP(w, r)
}

// peak is the most requests of any second.
func (c *traffic) peak() int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	most, first := 0, 0
	for last, at := range c.times {
		for at.Sub(c.times[first]) >= time.Second {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}

// Three processes share audits and are killed -9 at random while these run. What is found equals
// what an undisturbed audit finds, every object is counted once, what is read again is bounded by
// what was in flight, and the rate limit holds over all processes. PHANTOM_AUDIT_KILLS sets another
// number of kills than 40.
func TestKilledAudits(t *testing.T) { //nolint:paralleltest // it takes the whole machine
	kills := 40
	if text := os.Getenv("PHANTOM_AUDIT_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	ctx, b := t.Context(), setup(t, sandbox.Config{Charges: 25_000})
	undisturbed := b.audit()
	want := b.versionless()
	b.assertTruth()
	slow := &traffic{next: b.world, pages: make(map[string]int)}
	server := httptest.NewServer(slow)
	defer server.Close()

	worker := func() *exec.Cmd {
		command := exec.Command(os.Args[0])
		command.Env = append(os.Environ(), workerEnv+"="+b.pool.Config().ConnString()+" "+server.URL)
		command.Stderr = os.Stderr
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		return command
	}
	end := func(command *exec.Cmd) {
		_ = command.Process.Kill()
		_ = command.Wait()
	}
	processes := []*exec.Cmd{worker(), worker(), worker()}
	defer func() {
		for _, process := range processes {
			end(process)
		}
	}()
	killed, audits := 0, 0
	for deadline := time.Now().Add(10*time.Minute + time.Duration(kills)*5*time.Second); killed < kills; audits++ {
		if _, err := b.pool.Exec(ctx, "DELETE FROM ghost_targets"); err != nil {
			t.Fatal(err)
		}
		slow.mutex.Lock()
		clear(slow.pages)
		slow.mutex.Unlock()
		before := killed
		id, err := b.s.StartAudit(ctx, b.merchant, nil)
		if err != nil {
			t.Fatal(err)
		}
		for !b.ended(id) {
			if time.Now().After(deadline) {
				t.Fatalf("audit %d has not ended after %d kills\n%s", audits+1, killed, b.state(id))
			}
			// the moment is meant to be random
			time.Sleep(time.Duration(50+rand.IntN(400)) * time.Millisecond)
			if killed < kills {
				victim := rand.IntN(len(processes))
				end(processes[victim])
				processes[victim] = worker()
				killed++
			}
		}
		row, err := b.queries.AuditGet(ctx, db.AuditGetParams{MerchantID: b.merchant, ID: id})
		if err != nil {
			t.Fatal(err)
		}
		if row.State != state.AuditSucceeded || row.Objects != undisturbed.Objects {
			t.Errorf("audit %s with %d objects, undisturbed %d", row.State, row.Objects, undisturbed.Objects)
		}
		if got := b.versionless(); !slices.Equal(got, want) {
			t.Errorf("%d ghosts, undisturbed %d, or they differ", len(got), len(want))
		}
		again, pages := 0, 0
		slow.mutex.Lock()
		for page, count := range slow.pages {
			pages++
			again += count - 1
			if count > 1+killed-before {
				t.Errorf("%s was read %d times in an audit with %d kills", page, count, killed-before)
			}
		}
		slow.mutex.Unlock()
		// A reader reads again at most what it had not stored.
		if most := (killed - before) * readers * pagesPerCheckpoint; again > most {
			t.Errorf("%d of %d pages were read again after %d kills, at most %d were in flight", again, pages, killed-before, most)
		}
		t.Logf("audit %d: %d kills, %d pages, %d read again", audits+1, killed-before, pages, again)
	}
	b.assertTruth()
	if peak := slow.peak(); peak > workerLimit {
		t.Errorf("%d requests in one second, the limit is %d", peak, workerLimit)
	} else {
		t.Logf("%d kills over %d audits; at most %d requests in a second, limit %d", killed, audits, peak, workerLimit)
	}
}

func (b *bench) ended(id uuid.UUID) bool {
	b.t.Helper()
	row, err := b.queries.TaskGet(b.t.Context(), db.TaskGetParams{MerchantID: b.merchant, ID: id})
	if err != nil {
		b.t.Fatal(err)
	}
	return row.Status != state.TaskPending && row.Status != state.TaskRunning
}

func (b *bench) state(id uuid.UUID) string {
	p, _ := b.queries.AuditProgress(b.t.Context(), db.AuditProgressParams{MerchantID: b.merchant, ID: id})
	return fmt.Sprintf("%+v", p)
}

// versionless describes every ghost by what an audit finds of it.
func (b *bench) versionless() (all []string) {
	for _, g := range b.ghosts() {
		all = append(all, fmt.Sprintf("%s %s %s %d %s %s %t %s %s %d %d %x %v %v %s %s", g.StripeCustomerID, g.StripeSubscriptionID,
			g.StripeInvoiceID, g.Amount, g.Currency, g.Status, g.Hidden, g.DeclineClass, text0(g.DeclineCode), g.AttemptCount, g.CardAttempts,
			g.Card, g.FirstFailedAt, g.LastFailedAt, text0(g.Zone), Email(g.ID, g.Email)))
	}
	slices.Sort(all)
	return all
}
