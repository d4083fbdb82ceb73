//go:build unix && !aix && !solaris

package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestStartAdoptsServerOfKilledProcess(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	other := spawn(t, dir)
	if word, rest := other.says(t); word != "started" {
		t.Fatal(word, rest)
	}
	pid := postmasterPID(dir)
	other.kill()
	s := start(t, Config{Dir: dir})
	if !s.Adopted() || postmasterPID(dir) != pid {
		t.Errorf("adopted %t, process %d, want the left one, %d", s.Adopted(), postmasterPID(dir), pid)
	}
	stop(t, s)
	wantNothingLeft(t, s, pid)
}

func TestStartRecoversFromKilledServer(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	before := startAs(t, Config{Dir: dir}) // an unsafe one may lose what it committed
	execute(t, before, "CREATE TABLE kept AS SELECT 'data' AS what")
	// A backend that is too busy to notice its postmaster's death. It must be gone before the next
	// server may live.
	busy, err := pgx.Connect(t.Context(), before.URL())
	must(t, err)
	ended := make(chan struct{})
	go func() {
		busy.Exec(t.Context(), "DO $$ BEGIN WHILE clock_timestamp() < now() + interval '1 s' LOOP END LOOP; END $$")
		close(ended)
	}()
	eventually(t, func() bool {
		return query(t, before, "SELECT count(*)::text FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO%'") == "1"
	})
	killed := postmasterPID(dir)
	must(t, syscall.Kill(killed, syscall.SIGKILL))
	after := start(t, Config{Dir: dir})
	<-ended
	if after.Adopted() || postmasterPID(dir) == killed {
		t.Error("the killed server was taken for a running one")
	}
	if got := query(t, after, "SELECT what FROM kept"); got != "data" {
		t.Errorf("kept %q", got)
	}
	pid := postmasterPID(dir)
	stop(t, after)
	query(t, before, "SELECT 'the first user is still one'")
	stop(t, before)
	wantNothingLeft(t, before, pid)
}

func TestStopAfterKilledServer(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Dir: folder(t)})
	pid := postmasterPID(s.dir)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	stop(t, s)
	wantNothingLeft(t, s, pid)
}

func TestStalePostmasterPID(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	s := start(t, Config{Dir: dir})
	content, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	must(t, err)
	stop(t, s)

	// The machine crashed, and the id now belongs to another program of the same user.
	sleeper := s.account.command(t.Context(), "/bin/sleep", "1000")
	must(t, sleeper.Start())
	defer func() { sleeper.Process.Kill(); sleeper.Wait() }()
	_, rest, _ := strings.Cut(string(content), "\n")
	stale := fmt.Appendf(nil, "%d\n%s", sleeper.Process.Pid, rest)
	must(t, os.Mkdir(s.socket, 0o700))
	must(t, s.account.own(s.socket))
	for _, path := range []string{filepath.Join(dir, "data", "postmaster.pid"), s.socket + sockName + ".lock"} {
		must(t, os.WriteFile(path, stale, 0o600))
		must(t, s.account.own(path))
	}

	again := start(t, Config{Dir: dir})
	if again.Adopted() {
		t.Error("a stale postmaster.pid was taken for a server")
	}
	pid := postmasterPID(dir)
	stop(t, again)
	wantNothingLeft(t, again, pid)
	if !runs(sleeper.Process.Pid) {
		t.Error("the innocent program was killed")
	}
}

// TestServerStartedByHand: PostgreSQL's own check of its shared memory must hold, no matter what we
// say about process ids.
func TestServerStartedByHand(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	s := start(t, Config{Dir: dir})
	at, err := s.installation(t.Context())
	must(t, err)
	stop(t, s)
	elsewhere := filepath.Join(dir, "elsewhere")
	must(t, os.Mkdir(elsewhere, 0o700))
	must(t, s.account.own(elsewhere))
	hand := s.account.command(t.Context(), at.program("postgres"), "-D", s.path("data"), "-k", elsewhere, "-c", "listen_addresses=")
	must(t, hand.Start())
	defer func() { hand.Process.Signal(syscall.SIGINT); hand.Wait() }()
	eventually(t, func() bool { _, err := os.Stat(elsewhere + sockName); return err == nil })
	_, err = Start(t.Context(), Config{Dir: dir, Unsafe: true})
	wantError(t, err, "ended while starting", "shared memory block", "in use")
	if !runs(hand.Process.Pid) || postmasterPID(dir) != hand.Process.Pid {
		// it stops when it misses its file
		t.Error("the server started by hand lost its process or its postmaster.pid")
	}
}

// slowRecovery makes the next server of a stopped one spend seconds in recovery, asking an archive
// for files.
func slowRecovery(t *testing.T, s *Server, command string) {
	t.Helper()
	for name, text := range map[string]string{"recovery.signal": "", "postgresql.auto.conf": "restore_command = '" + command + "'\n"} {
		path := filepath.Join(s.dir, "data", name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		must(t, s.account.own(path))
	}
}

func TestStartAdoptsServerInRecovery(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	s := start(t, Config{Dir: dir})
	stop(t, s)
	slowRecovery(t, s, "sleep 1; false")
	other := spawn(t, dir)
	eventually(t, func() bool { state, _ := s.connect(t.Context(), s.socket); return state == busy })
	other.kill()
	pid := postmasterPID(dir)
	again := start(t, Config{Dir: dir})
	if !again.Adopted() || postmasterPID(dir) != pid {
		t.Errorf("adopted %t, process %d, want the recovering one, %d", again.Adopted(), postmasterPID(dir), pid)
	}
	stop(t, again)
	wantNothingLeft(t, again, pid)
}

func TestCanceledStartLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	s := start(t, Config{Dir: dir})
	stop(t, s)
	slowRecovery(t, s, "sleep 2; false")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error)
	go func() {
		_, err := Start(ctx, Config{Dir: dir, Unsafe: true})
		done <- err
	}()
	eventually(t, func() bool { state, _ := s.connect(t.Context(), s.socket); return state == busy })
	pid := postmasterPID(dir)
	cancel(errors.New("asked to leave"))
	wantError(t, <-done, "asked to leave", "starting up")
	wantNothingLeft(t, s, pid)
}

func TestStartWaitsAtTheGate(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	gate, err := tryLock(filepath.Join(dir, "lock"), syscall.LOCK_EX)
	must(t, err)
	defer gate.release()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = Start(ctx, Config{Dir: dir})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline", err)
	}
	wantError(t, err, filepath.Join(dir, "lock"))
}

func TestKilledInitdb(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	other := spawn(t, dir)
	side := func() []string {
		found, _ := filepath.Glob(filepath.Join(dir, sidePrefix+"*", "PG_VERSION"))
		return found
	}
	eventually(t, func() bool { return len(side()) == 1 })
	other.kill() // its initdb may live on, and holds the gate if it does
	s := start(t, Config{Dir: dir})
	if s.Adopted() {
		t.Error("adopted a server that cannot be")
	}
	pid := postmasterPID(dir)
	query(t, s, "SELECT 'usable'")
	stop(t, s)
	wantNothingLeft(t, s, pid) // the side folder is swept
}

// fakeInitdb makes a folder of binaries whose initdb is a script; "$2" is the folder it shall fill.
func fakeInitdb(t *testing.T, script string) string {
	t.Helper()
	bin := folder(t)
	for name, text := range map[string]string{"postgres": "echo 'postgres (PostgreSQL) 99.1'", "pg_ctl": "", "initdb": script} {
		path := filepath.Join(bin, name)
		must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
		must(t, os.Chmod(path, 0o755))
	}
	return bin
}

func TestStartWaitsForOrphanedInitdb(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	other := spawnWith(t, dir, fakeInitdb(t, `: > "$2/begun"; while [ -e "$2/begun" ] && [ ! -e "$2/end" ]; do sleep 0.05; done`))
	var begun []string
	eventually(t, func() bool {
		begun, _ = filepath.Glob(filepath.Join(dir, sidePrefix+"*", "begun"))
		return len(begun) == 1
	})
	end := func() { os.WriteFile(filepath.Join(filepath.Dir(begun[0]), "end"), nil, 0o644) }
	defer end()
	other.kill()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := Start(ctx, Config{Dir: dir, Unsafe: true})
	wantError(t, err, filepath.Join(dir, "lock"))
	if _, err := os.Stat(begun[0]); err != nil {
		t.Fatalf("the folder of a running initdb was swept: %v", err)
	}
	end()
	stop(t, start(t, Config{Dir: dir}))
}

func TestFailedInitdbQuotesIt(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Config{Dir: folder(t), search: only(fakeInitdb(t, "echo no space on the moon; exit 3"))})
	wantError(t, err, "initdb", "exit status 3", "no space on the moon")
}
