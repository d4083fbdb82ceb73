package purge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/internal/stage"
)

// purgerURL makes the test binary a process that purges the database it names, purgerBatch ghosts
// at a time.
const (
	purgerURL   = "PHANTOM_GHOST_TEST_PURGER"
	purgerBatch = "PHANTOM_GHOST_TEST_BATCH"
)

func purgerProcess(url string) int {
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
	service, _ := newService(pool)
	if batch, err := strconv.Atoi(os.Getenv(purgerBatch)); err == nil {
		service.batch = batch
	}
	if _, err := service.Purge(context.Background(), false, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Two processes purge the ghosts of three merchants and are killed -9 twenty times, at any moment.
// In the end a scan of every column finds nobody who expired and everybody else, and the budgets
// are those of one undisturbed purge. PHANTOM_GHOSTS sets another number of ghosts than 10,000.
func TestPurgeSurvivesKills(t *testing.T) {
	t.Parallel()
	number, batch := 10_000, 40
	if text := os.Getenv("PHANTOM_GHOSTS"); text != "" {
		var err error
		if number, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
		batch = 500
	}
	pool := dbtest.Pool(t)
	service, accounts := newService(pool)
	merchants := []uuid.UUID{stage.Merchant(t, pool, "acct_1"), stage.Merchant(t, pool, "acct_2"), stage.Merchant(t, pool, "acct_3")}
	start := time.Now()
	plants := make([]plant, number)
	for i := range plants {
		plants[i] = plant{merchant: merchants[i%3*(i%2)], number: i, expired: i%10 != i/10%10}
	}
	for from := 0; from < number; from += 50_000 {
		plantAll(t, pool, plants[from:min(from+50_000, number)])
	}
	dbtest.Exec(t, pool, "ANALYZE")
	planted := time.Since(start)
	before := scan(t, pool)
	scanned := time.Since(start) - planted

	processes := []*exec.Cmd{startPurger(t, pool.Config().ConnString(), batch), startPurger(t, pool.Config().ConnString(), batch)}
	defer func() {
		for _, process := range processes {
			_ = process.Process.Kill()
			_ = process.Wait()
		}
	}()
	const kills = 20
	expired := func() int64 {
		return dbtest.Count(t, pool, "SELECT count(*) FROM ghost_targets WHERE discovered_at <= phantom_now() - interval '2160 hours'")
	}
	began := time.Now()
	total := expired()
	for killed := 0; killed < kills; {
		left := expired()
		if left == 0 {
			t.Fatalf("all was purged after %d kills: take a smaller batch", killed)
		}
		if total-left < total*int64(killed)/(kills+1) {
			// between two looks at the progress
			time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
			continue
		}
		// the moment is meant to be random
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		victim := rand.IntN(len(processes))
		_ = processes[victim].Process.Kill()
		var exit *exec.ExitError
		if err := processes[victim].Wait(); errors.As(err, &exit) && !exit.Exited() {
			killed++
		} else {
			t.Fatalf("a process ended by itself while %d ghosts were left: %v", left, err)
		}
		processes[victim] = startPurger(t, pool.Config().ConnString(), batch)
	}
	for _, process := range processes {
		if err := process.Wait(); err != nil {
			t.Errorf("a process that nobody killed: %v", err)
		}
	}
	purged := time.Since(began)
	last, err := service.Purge(t.Context(), false, nil)
	if err != nil || last.Ghosts != 0 || last.Left != 0 || last.Tasks != 0 {
		t.Errorf("after the two processes there was still something to do: %+v, %v", last, err)
	}
	assertPurged(t, before, scan(t, pool))
	assertBudgets(t, pool, accounts, plants)
	t.Logf("%d ghosts, %d of them expired, %d kills: planted in %.1f s, scanned in %.1f s, purged in %.1f s", number, total, kills,
		planted.Seconds(), scanned.Seconds(), purged.Seconds())
}

func startPurger(t testing.TB, url string, batch int) *exec.Cmd {
	t.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), purgerURL+"="+url, purgerBatch+"="+strconv.Itoa(batch))
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command
}
