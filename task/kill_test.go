package task_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/state"
	"phantom/task"
)

// workerURL makes the test binary a worker process on the database it names.
const workerURL = "PHANTOM_TASK_TEST_WORKER"

const workerLease = 2 * time.Second

// workerProcess works until it is killed.
func workerProcess(url string) int {
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
	queue, err := task.NewQueue(pool, task.Config{
		ListenURL: url, Workers: 5, Batch: 100, Lease: workerLease, RetryBase: 10 * time.Millisecond, Poll: 200 * time.Millisecond,
		Log: slog.New(slog.DiscardHandler),
		Handlers: map[string]task.Handler{
			"count": func(context.Context, *task.Task) error { time.Sleep(time.Millisecond); return nil },
			// takes its whole process along
			"poison": func(context.Context, *task.Task) error { os.Exit(3); return nil },
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("works") // who kills it waits for this, so that a slow machine kills less often
	queue.Run(context.Background())
	return 0
}

// Three processes are killed -9 at random and started again while they work. Every task is settled
// exactly once and none is lost. None stays with a dead process longer than its lease and what a
// busy machine may add; PHANTOM_TASKS, which sets another number of tasks than 10,000, allows the
// lease alone. One task that kills its process each time harms no other.
func TestKilledProcesses(t *testing.T) {
	t.Parallel()
	tasks := 10_000
	if text := os.Getenv("PHANTOM_TASKS"); text != "" {
		var err error
		if tasks, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	ctx, b := t.Context(), setup(t)
	// Every transition into a final or reviewed state is written down by the database itself.
	if _, err := b.pool.Exec(ctx, `
		CREATE TABLE settled (id uuid, status text);
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO settled VALUES (NEW.id, NEW.status); RETURN NULL; END $$;
		CREATE TRIGGER note AFTER UPDATE ON scheduled_tasks FOR EACH ROW
			WHEN (NEW.status NOT IN ('pending', 'running') AND OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION note()`); err != nil {
		t.Fatal(err)
	}
	ids, merchants, params, times := make([]uuid.UUID, tasks), make([]uuid.UUID, tasks), make([][]byte, tasks), make([]time.Time, tasks)
	for i := range ids {
		ids[i], merchants[i], params[i], times[i] = uuid.Must(uuid.NewV7()), b.merchant, []byte("{}"), time.Now()
	}
	if _, err := db.New(b.pool).TaskEnqueueMany(ctx, db.TaskEnqueueManyParams{Kind: "count", MerchantIds: merchants, Ids: ids, Params: params, RunAts: times}); err != nil {
		t.Fatal(err)
	}
	poison := b.enqueue(task.New{Kind: "poison"})

	worker := func() *exec.Cmd {
		command := exec.Command(os.Args[0])
		command.Env = append(os.Environ(), workerURL+"="+b.pool.Config().ConnString())
		command.Stderr = os.Stderr
		works, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(works).ReadString('\n'); err != nil {
			t.Fatal("a worker does not start: ", err)
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
	watch, err := pgx.Connect(ctx, b.pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Close(context.Background()) }()
	kills, live, longest := 0, tasks+1, 0.0
	for deadline := time.Now().Add(5 * time.Minute); live > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d tasks are still live after five minutes", live)
		}
		// the moment is meant to be random
		time.Sleep(time.Duration(20+rand.IntN(150)) * time.Millisecond)
		victim := rand.IntN(len(processes))
		end(processes[victim])
		kills++
		processes[victim] = worker()
		var overdue float64
		if err := watch.QueryRow(ctx, `SELECT count(*), coalesce(max(extract(epoch FROM clock_timestamp() - lease_until)), 0)::float8
			FROM scheduled_tasks WHERE status IN ('pending', 'running')`).Scan(&live, &overdue); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, overdue)
	}
	var once, twice, review int
	if err := watch.QueryRow(ctx, `SELECT count(*) FILTER (WHERE n = 1), count(*) FILTER (WHERE n > 1), count(*) FILTER (WHERE bad)
		FROM (SELECT id, count(*) AS n, bool_or(status = 'needs_review') AS bad FROM settled GROUP BY id) AS s`).Scan(&once, &twice, &review); err != nil {
		t.Fatal(err)
	}
	if once != tasks+1 || twice != 0 {
		t.Errorf("%d tasks were settled once and %d more than once, there are %d", once, twice, tasks+1)
	}
	if row := b.get(poison); row.Status != state.TaskNeedsReview || review != 1 {
		t.Errorf("the poison task is %s; %d tasks are for review, want it alone", row.Status, review)
	}
	most := 30 * time.Second // as a machine that stands still for a while may need
	if os.Getenv("PHANTOM_TASKS") != "" {
		most = workerLease
	}
	if longest > most.Seconds() {
		t.Errorf("a task lay with a dead process for %.1f s beyond its lease", longest)
	}
	t.Logf("%d tasks, %d kills; %d for review; at most %.2f s beyond a lease", tasks, kills, review, longest)
}
