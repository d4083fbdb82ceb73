package task_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"phantom/db/dbtest"
	"phantom/state"
	"phantom/task"
)

// delayed is a URL over which the answer to the first statement that updates a row is kept until it
// is released. PostgreSQL has committed by then; held is closed once it has.
func delayed(t *testing.T, direct string) (through string, held chan struct{}, release func()) {
	t.Helper()
	config, err := pgx.ParseConfig(direct)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	held, released := make(chan struct{}), make(chan struct{})
	var first, last sync.Once
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	pass := func(to, from net.Conn, answers bool) {
		defer func() { _ = to.Close() }()
		for chunk := make([]byte, 64<<10); ; {
			n, err := from.Read(chunk)
			if answers && bytes.Contains(chunk[:n], []byte("UPDATE 1\x00")) {
				first.Do(func() { close(held); <-released })
			}
			if _, failed := to.Write(chunk[:n]); err != nil || failed != nil {
				return
			}
		}
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial(network, address)
			if err != nil {
				_ = client.Close()
				continue
			}
			go pass(server, client, false)
			go pass(client, server, true)
		}
	}()
	made, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	query := made.Query()
	query.Set("host", "localhost")
	query.Set("port", strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
	made.Host, made.RawQuery = "", query.Encode()
	release = func() { last.Do(func() { close(released) }) }
	t.Cleanup(release)
	return made.String(), held, release
}

// A stop may come when a claim has been committed and its answer is on its way. The task is given
// back as one that was never tried, and does not wait for the end of its lease.
func TestStopHearsAClaimOut(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(ctx context.Context, q *task.Queue, merchant, id uuid.UUID){
		"a queue":  func(ctx context.Context, q *task.Queue, _, _ uuid.UUID) { q.Run(ctx) },
		"one task": func(ctx context.Context, q *task.Queue, merchant, id uuid.UUID) { _ = q.RunOne(ctx, merchant, id) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			direct := b.pool.Config().ConnString()
			through, held, release := delayed(t, direct)
			queue, err := task.NewQueue(dbtest.Open(t, through, dbtest.Ring(t)), task.Config{
				ListenURL: direct, Log: slog.New(slog.DiscardHandler),
				Handlers: map[string]task.Handler{"note": func(ctx context.Context, _ *task.Task) error { return ctx.Err() }},
			})
			if err != nil {
				t.Fatal(err)
			}
			id := b.enqueue(task.New{Kind: "note"})
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { run(ctx, queue, b.merchant, id); close(ended) }()
			<-held
			if row := b.get(id); row.Status != state.TaskRunning {
				t.Fatalf("the task is %s before its claim is answered", row.Status)
			}
			stop()
			time.AfterFunc(200*time.Millisecond, release) // so that a claim which is not heard out has ended
			<-ended
			if row := b.get(id); row.Status == state.TaskRunning || row.Status == state.TaskPending && row.Attempts != 0 {
				t.Errorf("the task is %s after %d tries", row.Status, row.Attempts)
			}
		})
	}
}
