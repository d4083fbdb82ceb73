//go:build unix && !aix && !solaris

package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const sidePrefix = "data.new-"

// launch starts a server, after an initdb if there is no data. It consumes alive, the lock that
// tells that no process of an earlier server lives: the new server inherits it. The server is not
// ready when launch returns.
func (s *Server) launch(ctx context.Context, gate, alive *lock) error {
	defer alive.leave()
	at, err := s.installation(ctx)
	if err != nil {
		return err
	}
	if err := s.initialise(ctx, at, gate); err != nil {
		return err
	}
	args := []string{
		"-D", s.path("data"),
		"-c", "listen_addresses=",
		"-c", "unix_socket_directories=" + s.socket,
		"-c", "unix_socket_permissions=0700",
		"-c", "port=" + port,
		"-c", "cluster_name=phantom",
	}
	if s.unsafe {
		args = append(args, "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off")
	}
	for _, setting := range s.settings { // of two of one name the last holds
		args = append(args, "-c", setting)
	}
	log, err := s.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	if info, err := log.Stat(); err == nil {
		s.logFrom = info.Size()
	}
	// postgres itself and not pg_ctl start: that would stand between us and the exit status, and
	// look only every 100 ms. outlives ctx
	cmd := s.account.command(context.WithoutCancel(ctx), at.program("postgres"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{alive.file}
	if pid, _ := s.postmaster(); pid != 0 {
		// PostgreSQL refuses to start while the id in a stale postmaster.pid is somebody else's
		// process. Named as its grandparent's the id is passed over, and the file stays for the
		// check that counts: is its shared memory in use?
		cmd.Env = append(cmd.Env, "PG_GRANDPARENT_PID="+strconv.Itoa(pid))
	}
	if err := s.makeSocketFolder(); err != nil {
		return fmt.Errorf("make the folder of the socket: %w", err)
	}
	if s.child, err = startChild(cmd); err != nil {
		removeSocket(s.socket)
	}
	return err
}

// installation finds the binaries for the data folder, or for a new one.
func (s *Server) installation(ctx context.Context) (installation, error) {
	major := 0
	content, err := os.ReadFile(s.path("data/PG_VERSION"))
	switch {
	case err == nil:
		text := strings.TrimSpace(string(content))
		if major, err = strconv.Atoi(text); err != nil || major < oldestMajor {
			return installation{}, fmt.Errorf("%s was written by PostgreSQL %q, and version %d is the oldest that serves: move it away to begin with an empty one",
				s.path("data"), text, oldestMajor)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return installation{}, err
	}
	return s.search.choose(major, func(folder string) (int, error) {
		cmd := s.account.command(ctx, installation{folder: folder}.program("postgres"), "--version")
		cmd.Dir = s.dir // tries the way to the data, too
		out, err := cmd.Output()
		if errors.Is(err, fs.ErrPermission) {
			for _, path := range []string{s.dir, folder} {
				if barrier := s.account.barrier(path); barrier != nil {
					return 0, barrier
				}
			}
		}
		if err != nil {
			return 0, fmt.Errorf("run as user %s: %w", s.account.name, err)
		}
		return parseVersion(string(out))
	})
}

// initialise makes the data folder unless there is one: in a side folder that is renamed when
// complete. The gate goes to initdb, so that the next start waits even for an initdb whose starter
// was killed.
func (s *Server) initialise(ctx context.Context, at installation, gate *lock) error {
	if err := s.sweep(); err != nil {
		return err
	}
	data := s.path("data")
	if _, err := os.Stat(s.path("data/PG_VERSION")); err == nil {
		return nil
	}
	if err := os.Remove(data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// an empty folder goes, any other stays
		return fmt.Errorf("%s is there but holds no PostgreSQL data (no PG_VERSION): move it away: %w", data, err)
	}
	s.log.Info("[DATABASE] making a private PostgreSQL", "folder", s.dir, "version", at.major)
	var failed error
	for _, locale := range []string{"C.UTF-8", "C"} { // not every system has the first
		side, err := os.MkdirTemp(s.dir, sidePrefix)
		if err != nil {
			return err
		}
		if err := s.account.own(side); err != nil {
			return err
		}
		cmd := s.account.command(ctx, at.program("initdb"), "-D", side, "-U", superuser,
			"-A", "trust", "-E", "UTF8", "--locale="+locale, "-N")
		cmd.ExtraFiles = []*os.File{gate.file}
		out, err := cmd.CombinedOutput()
		if err == nil {
			return os.Rename(side, data)
		}
		os.RemoveAll(side) // a leftover is swept by the next start
		if ctx.Err() != nil {
			return fmt.Errorf("make the data folder: %w", context.Cause(ctx))
		}
		failed = fmt.Errorf("make the data folder: initdb as user %s: %w%s", s.account.name, err, lastLines(out))
		if !bytes.Contains(out, []byte("invalid locale")) {
			break
		}
	}
	return failed
}

// sweep removes the side folders of killed initdbs. The gate is held, by an orphaned initdb too, so
// none is in use.
func (s *Server) sweep() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), sidePrefix) {
			if err := os.RemoveAll(s.path(entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// pgCtlStop asks the server to end its sessions and stop, and waits for its last checkpoint.
func (s *Server) pgCtlStop(ctx context.Context) error {
	at, err := s.installation(ctx)
	if err != nil {
		return err
	}
	log, err := s.openLog() // a pipe would be held open by anything pg_ctl leaves behind
	if err != nil {
		return err
	}
	defer log.Close()
	deadline, _ := ctx.Deadline()
	seconds := max(1, int(time.Until(deadline).Seconds()))
	cmd := s.account.command(ctx, at.program("pg_ctl"), "stop", "-D", s.path("data"), "-m", "fast", "-w", "-t", strconv.Itoa(seconds))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("pg_ctl stop: %w%s", err, s.logTail())
	}
	return nil
}

func (s *Server) openLog() (*os.File, error) {
	return os.OpenFile(s.path("postgres.log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
}

// logTail quotes the end of the server's log for an error, "" if there is none.
func (s *Server) logTail() string {
	file, err := os.Open(s.path("postgres.log"))
	if err != nil {
		return ""
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	const most = 4096
	from := max(s.logFrom, info.Size()-most)
	// what can be read will do
	tail, _ := io.ReadAll(io.NewSectionReader(file, from, info.Size()-from))
	return lastLines(tail)
}

func lastLines(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if lines[0] == "" {
		return ""
	}
	return "\n\t" + strings.Join(lines[max(0, len(lines)-8):], "\n\t")
}

// child is a postmaster that this process started.
type child struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed at its end
	err  error         // why it ended, once gone is closed
}

func startChild(cmd *exec.Cmd) (*child, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, gone: make(chan struct{})}
	go func() {
		defer close(c.gone)
		if c.err = cmd.Wait(); c.err == nil {
			c.err = errors.New("exit status 0")
		}
	}()
	return c, nil
}

// end stops a server that nobody uses yet: fast, then at once, then by force.
func (c *child) end() {
	for _, signal := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		_ = c.cmd.Process.Signal(signal) // gone already: so much the better
		select {
		case <-c.gone:
			return
		case <-time.After(5 * time.Second):
		}
	}
}
