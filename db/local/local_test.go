//go:build unix && !aix && !solaris

package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestMain lets the test binary be another process that uses the server of a folder: `local.test use-server <folder> <binaries>`; a
// binaries of "scratch" has it make a scratch folder, and the server in it.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "use-server" {
		if err := useServer(os.Args[2], os.Args[3]); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// useServer says "started" or "adopted", waits for the end of stdin, stops and says "stopped".
func useServer(dir, binaries string) error {
	cfg := Config{Dir: dir, Unsafe: true}
	if binaries == "scratch" {
		scratch, remove, err := Scratch(context.Background(), "trial", slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		defer remove()
		cfg.Dir = ScratchDir(scratch)
	} else if binaries != "" {
		cfg.search = only(binaries)
	}
	s, err := Start(context.Background(), cfg)
	if err != nil {
		return err
	}
	fmt.Println(map[bool]string{false: "started", true: "adopted"}[s.Adopted()], s.URL())
	io.Copy(io.Discard, os.Stdin)
	if err := s.Stop(context.Background()); err != nil {
		return err
	}
	fmt.Println("stopped")
	return nil
}

// process is another user of a server.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Scanner
}

func spawn(t *testing.T, dir string, env ...string) *process {
	t.Helper()
	return spawnWith(t, dir, "", env...)
}

func spawnWith(t *testing.T, dir, binaries string, env ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], "use-server", dir, binaries)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return &process{cmd, stdin, bufio.NewScanner(stdout)}
}

// says returns the next line, without the URL that may follow its first word.
func (p *process) says(t *testing.T) (word, rest string) {
	t.Helper()
	if !p.out.Scan() {
		t.Errorf("the other process ended without a word")
	}
	word, rest, _ = strings.Cut(p.out.Text(), " ")
	return word, rest
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// folder makes a folder that the server's user may enter: t.TempDir is closed to all but its owner.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "local-test-")
	must(t, err)
	must(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() {
		filepath.WalkDir(dir, func(path string, entry fs.DirEntry, _ error) error {
			if filepath.Base(path) == "postmaster.pid" { // a failed test's server must not stay
				if pid := postmasterPID(filepath.Dir(filepath.Dir(path))); runs(pid) && t.Failed() {
					syscall.Kill(pid, syscall.SIGQUIT)
				}
			}
			return nil
		})
		os.RemoveAll(dir)
	})
	return dir
}

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.Unsafe = true
	return startAs(t, cfg)
}

func startAs(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), cfg)
	must(t, err)
	t.Cleanup(func() { s.Stop(context.Background()) })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	must(t, s.Stop(t.Context()))
}

func query(t *testing.T, s *Server, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL())
	must(t, err)
	defer conn.Close(t.Context())
	var result string
	must(t, conn.QueryRow(t.Context(), sql).Scan(&result))
	return result
}

func execute(t *testing.T, s *Server, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL())
	must(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), sql)
	must(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func postmasterPID(dir string) int {
	pid, _ := (&Server{dir: dir}).postmaster()
	return pid
}

// runs reports whether pid is a live process. A zombie is not: the init of a container may never collect it.
func runs(pid int) bool {
	if pid <= 0 || syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

// wantNothingLeft fails unless server pid, its socket and its folder are gone.
func wantNothingLeft(t *testing.T, s *Server, pid int) {
	t.Helper()
	if pid == 0 || runs(pid) {
		t.Errorf("after Stop process %d: runs", pid)
	}
	if _, err := os.Lstat(s.socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Stop %s is left (%v)", s.socket, err)
	}
	entries, err := os.ReadDir(s.dir)
	must(t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if want := []string{"data", "lock", "postgres.log", "server", "users"}; !slices.Equal(names, want) {
		t.Errorf("after Stop the folder holds %q, want %q", names, want)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

func TestStartQueryStop(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(folder(t), "made", "with parents, and a comma")
	s := start(t, Config{Dir: dir})
	pid := postmasterPID(dir)
	if s.Adopted() {
		t.Error("a first start says it adopted")
	}
	for sql, want := range map[string]string{
		"SELECT current_database()": "phantom",
		"SELECT current_user":       "postgres",
		"SHOW server_encoding":      "UTF8",
		"SHOW listen_addresses":     "",
		"SHOW fsync":                "off",
		"SHOW TimeZone":             "UTC",
		"SELECT datcollate FROM pg_database WHERE datname='phantom'": "C.UTF-8",
	} {
		if got := query(t, s, sql); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
	if group, err := syscall.Getpgid(pid); group != pid {
		t.Errorf("the server is in process group %d (%v), where ^C reaches it", group, err)
	}
	if psql, err := exec.LookPath("psql"); err != nil {
		t.Error(err)
	} else if out, err := exec.Command(psql, s.URL(), "-XAtc", "SELECT 'psql too'").CombinedOutput(); string(out) != "psql too\n" {
		t.Errorf("psql: %q (%v)", out, err)
	}
	stop(t, s)
	wantNothingLeft(t, s, pid)
	stop(t, s) // again: nothing
}

func TestSafeServerKeepsFsync(t *testing.T) {
	t.Parallel()
	s := startAs(t, Config{Dir: folder(t), Database: `odd "name"/?`})
	if got := query(t, s, "SELECT concat_ws(' ', current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'))"); got != "on on on" {
		t.Errorf("fsync, full_page_writes, synchronous_commit: %s", got)
	}
	if got := query(t, s, "SELECT current_database()"); got != `odd "name"/?` {
		t.Errorf("database %q", got)
	}
	stop(t, s)
}

func TestUsersShareOneServerInOneProcess(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	servers := make([]*Server, 8)
	var wg sync.WaitGroup
	for i := range servers {
		wg.Go(func() {
			s, err := Start(t.Context(), Config{Dir: dir, Unsafe: true})
			if err != nil {
				t.Error(err)
			}
			servers[i] = s
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	pid, started := postmasterPID(dir), 0
	for _, s := range servers {
		if !s.Adopted() {
			started++
		}
	}
	if started != 1 {
		t.Errorf("%d starts started a server, want 1", started)
	}
	for _, s := range servers[1:] {
		wg.Go(func() {
			if err := s.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	query(t, servers[0], "SELECT 'still there'")
	stop(t, servers[0])
	wantNothingLeft(t, servers[0], pid)
}

func TestProcessesShareOneServer(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	var processes []*process
	for range 8 {
		processes = append(processes, spawn(t, dir))
	}
	count := map[string]int{}
	for _, p := range processes {
		word, rest := p.says(t)
		count[word]++
		if word == "error" {
			t.Error(rest)
		}
	}
	if count["started"] != 1 || count["adopted"] != 7 {
		t.Errorf("eight processes: %v, want 1 started and 7 adopted", count)
	}
	s := start(t, Config{Dir: dir})
	pid := postmasterPID(dir)
	for _, p := range processes {
		p.stdin.Close()
	}
	for _, p := range processes {
		if word, rest := p.says(t); word != "stopped" {
			t.Errorf("%s %s", word, rest)
		}
	}
	query(t, s, "SELECT 'still there'")
	stop(t, s)
	wantNothingLeft(t, s, pid)
}

func TestLastProcessStopsServer(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	s := start(t, Config{Dir: dir})
	pid := postmasterPID(dir)
	other := spawn(t, dir)
	if word, rest := other.says(t); word != "adopted" {
		t.Fatal(word, rest)
	}
	stop(t, s)
	if !runs(pid) {
		t.Fatal("Stop took the server from another process")
	}
	other.stdin.Close()
	if word, rest := other.says(t); word != "stopped" {
		t.Fatal(word, rest)
	}
	wantNothingLeft(t, s, pid)
}

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
	// A backend that is too busy to notice its postmaster's death. It must be gone before the next server may live.
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

// TestServerStartedByHand: PostgreSQL's own check of its shared memory must hold, whatever we say about process ids.
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
	if !runs(hand.Process.Pid) || postmasterPID(dir) != hand.Process.Pid { // it stops when it misses its file
		t.Error("the server started by hand lost its process or its postmaster.pid")
	}
}

// slowRecovery makes the next server of a stopped one spend seconds in recovery, asking an archive for files.
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

func TestLocaleFallsBackToC(t *testing.T) {
	t.Parallel()
	installed := machine().folders()[0]
	bin := fakeInitdb(t, `case "$*" in *C.UTF-8*) echo 'initdb: error: invalid locale name "C.UTF-8"'; exit 1;; esac; exec `+installed+`/initdb "$@"`)
	for _, name := range []string{"postgres", "pg_ctl"} {
		must(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\nexec "+installed+"/"+name+` "$@"`), 0o755))
	}
	s := start(t, Config{Dir: folder(t), search: only(bin)})
	if got := query(t, s, "SELECT datcollate || pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'phantom'"); got != "CUTF8" {
		t.Errorf("collation and encoding %s", got)
	}
	pid := postmasterPID(s.dir)
	stop(t, s)
	wantNothingLeft(t, s, pid)
}

func TestLogIsQuoted(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	s := start(t, Config{Dir: dir})
	stop(t, s)
	path := filepath.Join(dir, "data", "postgresql.auto.conf")
	must(t, os.WriteFile(path, []byte("no_such_setting = 1\n"), 0o600))
	must(t, s.account.own(path))
	_, err := Start(t.Context(), Config{Dir: dir})
	wantError(t, err, "ended while starting", "exit status 1", "no_such_setting")
}

func TestLongPathUsesShortSocket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(folder(t), strings.Repeat("long/", 22))
	s := start(t, Config{Dir: dir})
	pid := postmasterPID(dir)
	if !strings.HasPrefix(s.socket, os.TempDir()+"/phantom-") {
		t.Errorf("socket in %s", s.socket)
	}
	other := spawn(t, dir, "TMPDIR="+folder(t)) // who has another TMPDIR finds the server, too
	if word, rest := other.says(t); word != "adopted" || rest != s.URL() {
		t.Errorf("%s %s, want adopted %s", word, rest, s.URL())
	}
	stop(t, s)
	other.stdin.Close()
	if word, rest := other.says(t); word != "stopped" {
		t.Error(word, rest)
	}
	wantNothingLeft(t, s, pid)
}

func TestSquattedSocketFolder(t *testing.T) {
	t.Parallel()
	for name, squat := range map[string]func(path string) error{
		"open to others": func(path string) error { return errors.Join(os.Mkdir(path, 0o777), os.Chmod(path, 0o777)) },
		"a symlink":      func(path string) error { return os.Symlink(filepath.Dir(path), path) },
		"another user's": func(path string) error { return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, 12345, 12345)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "another user's" {
				needsRoot(t)
			}
			s, err := newServer(Config{Dir: filepath.Join(folder(t), strings.Repeat("long/", 22))})
			must(t, err)
			squatted := s.socketFolder()
			must(t, squat(squatted))
			defer os.Remove(squatted)
			_, err = Start(t.Context(), Config{Dir: s.dir})
			wantError(t, err, squatted, "is not private to user")
		})
	}
}

func TestNotInstalled(t *testing.T) {
	t.Parallel()
	for manager, want := range map[string]string{
		"apt-get": "apt-get install -y postgresql",
		"dnf":     "dnf install -y postgresql-server",
		"apk":     "apk add postgresql",
		"pacman":  "pacman -S --noconfirm postgresql",
		"brew":    "brew install postgresql@17",
		"none":    "install version 14 or newer",
	} {
		lookPath := func(name string) (string, error) {
			if name == manager {
				return "/bin/" + name, nil
			}
			return "", exec.ErrNotFound
		}
		_, err := Start(t.Context(), Config{Dir: folder(t), search: search{lookPath: lookPath}})
		if missing := new(NotInstalledError); !errors.As(err, &missing) {
			t.Errorf("%s: %v, want a NotInstalledError", manager, err)
		}
		wantError(t, err, "PostgreSQL is not installed: ", want)
	}
}

// only looks into the given folders.
func only(globs ...string) search {
	return search{func(string) (string, error) { return "", exec.ErrNotFound }, globs}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	root, err := filepath.EvalSymlinks(folder(t))
	must(t, err)
	for _, version := range []string{"9.6", "13", "15", "16", "100"} {
		bin := filepath.Join(root, "pg", version, "bin")
		must(t, os.MkdirAll(bin, 0o755))
		for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
			if version != "16" || name != "initdb" { // 16 is incomplete
				must(t, os.WriteFile(filepath.Join(bin, name), nil, 0o755))
			}
		}
	}
	must(t, os.Symlink(filepath.Join(root, "pg/15/bin/pg_ctl"), filepath.Join(root, "pg_ctl")))
	inPath := func(name string) (string, error) {
		if name == "pg_ctl" {
			return filepath.Join(root, name), nil
		}
		return "", exec.ErrNotFound
	}
	version := func(folder string) (int, error) {
		return lastNumber(filepath.Dir(folder)), nil
	}
	glob := filepath.Join(root, "pg", "*", "bin")
	for _, test := range []struct {
		name   string
		search search
		major  int
		want   string // folder, or part of the error
	}{
		{"highest first, by number", only(glob), 0, "pg/100/bin"},
		{"PATH before the list, symlink resolved", search{inPath, []string{glob}}, 0, "pg/15/bin"},
		{"the data's version", search{inPath, []string{glob}}, 100, "pg/100/bin"},
		{"incomplete", only(glob), 16, "written by PostgreSQL 16, and installed is 100 ("},
		{"too old", only(filepath.Join(root, "pg", "[19][.3]*", "bin")), 0, "too old: install version 14"},
	} {
		at, err := test.search.choose(test.major, version)
		if got := fmt.Sprint(at.folder, err); !strings.Contains(got, test.want) {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestDataIsNeverTouched(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ file, content, want string }{
		"version not installed": {"PG_VERSION", "98\n", "install version 98"},
		"version too old":       {"PG_VERSION", "9.6\n", "version 14 is the oldest"},
		"something else":        {"precious", "file", "move it away"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t)
			path := filepath.Join(dir, "data", test.file)
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
			must(t, os.WriteFile(path, []byte(test.content), 0o600))
			if os.Geteuid() == 0 {
				_, err := Start(t.Context(), Config{Dir: dir})
				wantError(t, err, "belongs to root", "chown")
				must(t, os.Chown(filepath.Dir(path), 65534, 65534))
			}
			_, err := Start(t.Context(), Config{Dir: dir})
			wantError(t, err, test.want)
			if content, err := os.ReadFile(path); string(content) != test.content {
				t.Errorf("%s holds %q (%v)", path, content, err)
			}
		})
	}
}

// needsRoot skips at a desk and fails in CI, where nothing that should run is skipped.
func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("this test needs root")
	}
	t.Skip("this test needs root")
}

func TestRootNamesTheClosedFolder(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	closed := filepath.Join(folder(t), "closed")
	must(t, os.Mkdir(closed, 0o700))
	_, err := Start(t.Context(), Config{Dir: filepath.Join(closed, "below", "dir")})
	wantError(t, err, "user postgres", "may not enter "+closed+" (mode 0700)", "chmod a+x "+closed)
}

func TestRootFollowsOwnerOfData(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	dir := folder(t)
	s := start(t, Config{Dir: dir})
	stop(t, s)
	must(t, filepath.WalkDir(filepath.Join(dir, "data"), func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, 65534, 65534))
	}))
	again := start(t, Config{Dir: dir})
	info, err := os.Stat(fmt.Sprintf("/proc/%d", postmasterPID(dir)))
	must(t, err)
	if uid, _ := owner(info); uid != 65534 {
		t.Errorf("the server runs as %d, its data belongs to 65534", uid)
	}
	stop(t, again)
}

func TestEnvironmentDoesNotLeakIn(t *testing.T) {
	for name, value := range map[string]string{"PGPORT": "", "PGHOST": "nowhere.invalid", "PGDATA": "/nowhere", "PGUSER": "nobody",
		"PGSSLMODE": "verify-full", "PGDATABASE": "none", "LC_ALL": "xx_XX", "TZ": "Mars/Olympus"} {
		t.Setenv(name, value)
	}
	s := start(t, Config{Dir: folder(t)})
	if got := query(t, s, "SHOW TimeZone"); got != "UTC" {
		t.Errorf("time zone %q", got)
	}
	t.Setenv("PGPORT", "1")
	query(t, s, "SELECT 'the URL says it all'")
	stop(t, s)
}

func TestTimes(t *testing.T) {
	dir := folder(t)
	timed := func(what string) *Server {
		began := time.Now()
		s := start(t, Config{Dir: dir})
		t.Logf("%s: %s", what, time.Since(began).Round(time.Millisecond/10))
		return s
	}
	s := timed("new folder")
	stop(t, timed("adopting"))
	began := time.Now()
	stop(t, s)
	t.Logf("stopping: %s", time.Since(began).Round(time.Millisecond/10))
	stop(t, timed("existing folder"))
}

// eventually waits for a condition that another process brings about.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	for began := time.Now(); !condition(); time.Sleep(time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatal("waited 30 s in vain")
		}
	}
}
