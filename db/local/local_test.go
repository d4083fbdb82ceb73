//go:build unix && !aix && !solaris

package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

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

func TestTimes(t *testing.T) { //nolint:paralleltest // it times a server
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
