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
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestMain lets the test binary be another process that uses the server of a folder: `local.test
// use-server <folder> <binaries>`; a binaries of "scratch" has it make a scratch folder, and the
// server in it.
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

// runs reports whether pid is a live process. A zombie is not: the init of a container may never
// collect it.
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

// eventually waits for a condition that another process brings about.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	for began := time.Now(); !condition(); time.Sleep(time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatal("waited 30 s in vain")
		}
	}
}
