//go:build unix && !aix && !solaris

package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	// the whole of Start, the wait for other starts and for a crash recovery included
	startLimit = 60 * time.Second
	stopLimit  = 60 * time.Second // the whole of Stop, the last checkpoint included
)

// Server is one use of the private server of a folder. Its methods may be called from several
// goroutines.
type Server struct {
	dir      string // absolute, no symlinks: every process derives the same socket from it
	database string
	unsafe   bool
	settings []string
	log      *slog.Logger
	search   search
	account  account
	socket   string // the folder of the socket; fixed after Start, like all above the mutex
	adopted  bool

	mu      sync.Mutex // guards the rest
	users   *lock      // nil once given back
	stopped bool
	child   *child // the postmaster, if this Start started it
	logFrom int64  // where its part of the log begins
}

// Start adopts the server that runs on cfg.Dir (left by a crash, or shared with another process) or
// starts one, and makes sure of the database. A server that is starting or recovering is waited
// for. Every Start that succeeds needs its Stop; several in one process are fine.
//
// Errors: *NotInstalledError; the end of ctx, or of 60 seconds; a folder that the server's user may
// not enter; data of a version that is not installed; and what PostgreSQL itself says, with the
// last lines of its log. A failed Start leaves no server of its own behind, and never deletes data.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("no result after %s", startLimit))
	defer cancel()
	s, err := newServer(cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare %s for PostgreSQL: %w", cfg.Dir, err)
	}
	if err := s.enter(ctx); err != nil {
		return nil, fmt.Errorf("start PostgreSQL in %s: %w", s.dir, err)
	}
	s.log.Info("[DATABASE] private PostgreSQL is ready", "folder", s.dir, "adopted", s.adopted, "took", time.Since(began))
	return s, nil
}

func newServer(cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("no folder is given")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{
		database: cmp.Or(cfg.Database, "phantom"),
		unsafe:   cfg.Unsafe,
		settings: cfg.Settings,
		log:      cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)),
		search:   cfg.search,
	}
	if s.search.lookPath == nil {
		s.search = machine()
	}
	if s.account, err = serverAccount(filepath.Join(dir, "data")); err != nil {
		return nil, err
	}
	if err = s.account.makeFolder(dir); err != nil {
		return nil, err
	}
	s.dir, err = filepath.EvalSymlinks(dir)
	return s, err
}

// enter makes this a user of a running server, or leaves everything as it was.
func (s *Server) enter(ctx context.Context) error {
	gate, err := waitLock(ctx, s.path("lock"))
	if err != nil {
		return err
	}
	defer gate.release()
	if s.users, err = tryLock(s.path("users"), syscall.LOCK_SH); err != nil {
		return err
	}
	if s.users == nil {
		return fmt.Errorf("%s is locked by a program that is not PHANTOM", s.path("users"))
	}
	if err = s.up(ctx, gate); err != nil {
		if s.child != nil {
			s.child.end()
			removeSocket(s.socket)
		}
		s.users.release()
	}
	return err
}

// up connects until the server answers, and starts one if none lives. The gate is held.
func (s *Server) up(ctx context.Context, gate *lock) error {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		s.socket = s.socketFolder()
		state, err := s.connect(ctx, s.socket)
		if state == ready {
			s.adopted = s.child == nil
			return nil
		}
		if state == refusing {
			return err
		}
		if state == silent && s.child == nil && ctx.Err() == nil {
			// Nobody answers. Who holds the lock is starting, or an orphan of a killed server about
			// to go.
			alive, lockErr := tryLock(s.path("server"), syscall.LOCK_EX)
			if lockErr != nil {
				return lockErr
			}
			if alive != nil {
				if err := s.launch(ctx, gate, alive); err != nil {
					return err
				}
			}
		}
		var gone <-chan struct{}
		if s.child != nil {
			gone = s.child.gone
		}
		select {
		case <-time.After(wait):
		case <-gone:
			return fmt.Errorf("the server ended while starting (%w)%s", s.child.err, s.logTail())
		case <-ctx.Done():
			return fmt.Errorf("wait for the server: %w (last: %w)%s", context.Cause(ctx), err, s.logTail())
		}
	}
}

// URL is the postgres:// URL of the database over the Unix socket, for pgx and psql.
func (s *Server) URL() string { return socketURL(s.socket, s.database) }

// Adopted reports whether the server was running before Start.
func (s *Server) Adopted() bool { return s.adopted }

// Stop ends this use of the server. The last user stops it, waits for its end and leaves no
// process, socket or temporary folder; others leave it running. Connections should be closed
// before: the stop ends them. ctx bounds the wait, as do 60 seconds: give it a fresh one at
// shutdown. After an error Stop may be called again; after success it does nothing.
func (s *Server) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stopLimit, fmt.Errorf("no result after %s", stopLimit))
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	if err := s.exit(ctx); err != nil {
		return fmt.Errorf("stop PostgreSQL in %s: %w", s.dir, err)
	}
	s.stopped = true
	return nil
}

func (s *Server) exit(ctx context.Context) error {
	gate, err := waitLock(ctx, s.path("lock"))
	if err != nil {
		return err
	}
	defer gate.release()
	s.users.release()
	s.users = nil
	// Nobody comes in while the gate is held, so who gets the lock alone is the last.
	last, err := tryLock(s.path("users"), syscall.LOCK_EX)
	if err != nil {
		return err
	}
	if last == nil {
		s.log.Info("[DATABASE] private PostgreSQL is left to its other users", "folder", s.dir)
		return nil
	}
	defer last.release()
	if err := s.down(ctx); err != nil {
		return err
	}
	if s.child != nil {
		<-s.child.gone // reaped: no zombie is left either
	}
	s.log.Info("[DATABASE] private PostgreSQL is stopped", "folder", s.dir)
	return nil
}

// down stops the server and waits until its last process is gone.
func (s *Server) down(ctx context.Context) error {
	socket := s.socket
	for {
		derived := s.socketFolder() // a later start may have moved it
		err := s.ask(ctx, derived, maintenance)
		if ctx.Err() != nil {
			return fmt.Errorf("wait for the server's end: %w (last: %w)%s", context.Cause(ctx), err, s.logTail())
		}
		if answered(err) { // so the id in postmaster.pid is the server's
			socket = derived
			if err := s.pgCtlStop(ctx); err != nil && answered(s.ask(ctx, derived, maintenance)) {
				return err
			}
			continue
		}
		if stateOf(err) == refusing {
			return err
		}
		alive, lockErr := tryLock(s.path("server"), syscall.LOCK_EX)
		if lockErr != nil {
			return lockErr
		}
		if alive != nil {
			removeSocket(socket)
			alive.release()
			return nil
		}
		_ = pause(ctx, 5*time.Millisecond) // the end of ctx shows above
	}
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }
