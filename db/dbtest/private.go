package dbtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"phantom/db"
	"phantom/db/local"
)

// Private is a PostgreSQL of a test's own, which may be stopped in the middle. Unlike the shared one it waits for its disk, so that a
// crash takes nothing that was committed.
type Private struct {
	config local.Config
	server *local.Server // nil while it is down
}

// NewPrivate starts one with a migrated database. It is gone after the test.
func NewPrivate(t testing.TB) *Private {
	t.Helper()
	sweepPrivate()
	// Made by local, and not by MkdirTemp: the account that PostgreSQL runs as must be able to enter it.
	p := &Private{config: local.Config{Dir: fmt.Sprintf("%s%d-%d", privatePrefix(), os.Getpid(), time.Now().UnixNano())}}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(p.config.Dir)
	})
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Migrate(t.Context(), p.URL(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	setClock(t, p.URL())
	return p
}

// URL is the same before and after a restart.
func (p *Private) URL() string { return p.server.URL() }

// Restart ends the server, with all its sessions, and returns once it answers again: after a crash, which leaves it no moment to write
// anything down, or in order.
func (p *Private) Restart(crash bool) error {
	if crash {
		text, err := os.ReadFile(filepath.Join(p.config.Dir, "data", "postmaster.pid"))
		if err != nil {
			return err
		}
		line, _, _ := strings.Cut(string(text), "\n")
		pid, err := strconv.Atoi(line)
		if err != nil {
			return fmt.Errorf("read the server's process id: %w", err)
		}
		if err := signal(pid, syscall.SIGQUIT); err != nil { // pg_ctl stop -m immediate
			return fmt.Errorf("crash the server: %w", err)
		}
	}
	if err := p.stop(); err != nil {
		return err
	}
	return p.start()
}

func (p *Private) start() (err error) {
	p.server, err = local.Start(context.Background(), p.config)
	return err
}

func (p *Private) stop() error {
	if p.server == nil {
		return nil
	}
	return p.server.Stop(context.Background())
}

func privatePrefix() string {
	return filepath.Join(os.TempDir(), "phantom-private-"+strconv.Itoa(os.Geteuid())+"-")
}

// sweepPrivate stops and removes what killed tests have left.
func sweepPrivate() {
	folders, _ := filepath.Glob(privatePrefix() + "*")
	for _, folder := range folders {
		owner, _, _ := strings.Cut(strings.TrimPrefix(folder, privatePrefix()), "-")
		pid, err := strconv.Atoi(owner)
		if err != nil || !errors.Is(signal(pid, syscall.Signal(0)), os.ErrProcessDone) {
			continue
		}
		old := &Private{config: local.Config{Dir: folder}}
		if old.start() == nil && old.stop() == nil {
			_ = os.RemoveAll(folder)
		}
	}
}

func signal(pid int, s syscall.Signal) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return process.Signal(s)
}
