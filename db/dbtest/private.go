package dbtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/db/local"
)

// Private is a PostgreSQL of a test's own, which may be stopped in the middle. Unlike the shared
// one it waits for its disk, so that a crash takes nothing that was committed.
type Private struct {
	config  local.Config
	server  *local.Server // nil while it is down
	url     string
	mounted bool // the folder is a disk of its own
}

// NewPrivate starts one with a migrated database, and with settings such as max_connections=40. It
// is gone after the test.
func NewPrivate(t testing.TB, settings ...string) *Private {
	t.Helper()
	p := newPrivate(t, settings)
	p.migrate(t)
	return p
}

// NewSmall is NewPrivate on a disk of its own of so many MiB. Where none can be mounted, why is an
// error.
func NewSmall(t testing.TB, size int, settings ...string) (p *Private, why error) {
	t.Helper()
	p = newPrivate(t, settings)
	if why := os.MkdirAll(p.config.Dir, 0o750); why != nil {
		return nil, why
	}
	options := fmt.Sprintf("size=%dm,mode=0755", size)
	if output, why := exec.Command("mount", "-t", "tmpfs", "-o", options, "phantom", p.config.Dir).CombinedOutput(); why != nil {
		return nil, fmt.Errorf("mount a disk: %w %s", why, output)
	}
	p.mounted = true
	p.migrate(t)
	return p, nil
}

func newPrivate(t testing.TB, settings []string) *Private {
	t.Helper()
	sweepPrivate()
	// Made by local, and not by MkdirTemp: the account that PostgreSQL runs as must be able to
	// enter it.
	dir := fmt.Sprintf("%s%d-%d", privatePrefix(), os.Getpid(), time.Now().UnixNano())
	p := &Private{config: local.Config{Dir: dir, Settings: settings}}
	t.Cleanup(func() {
		if err := p.Stop(false); err != nil {
			t.Error(err)
		}
		p.remove()
	})
	return p
}

func (p *Private) migrate(t testing.TB) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Migrate(t.Context(), p.URL(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	setClock(t, p.URL())
}

// remove removes a server that has stopped.
func (p *Private) remove() {
	if p.mounted {
		_ = exec.Command("umount", "--lazy", p.config.Dir).Run()
	}
	_ = os.RemoveAll(p.config.Dir)
}

// URL is the same before and after a restart. It leads there over a socket.
func (p *Private) URL() string { return p.url }

// Data is the data folder.
func (p *Private) Data() string { return filepath.Join(p.config.Dir, "data") }

// Set replaces the settings from the next start on.
func (p *Private) Set(settings ...string) { p.config.Settings = settings }

// Standby starts a hot standby of a server that runs.
func (p *Private) Standby(t testing.TB, settings ...string) *Private {
	t.Helper()
	standby := newPrivate(t, settings)
	if err := os.MkdirAll(standby.config.Dir, 0o711); err != nil { // for PostgreSQL's account
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	var folder string // of the programs
	if err := p.ask(t.Context(), "SELECT setting FROM pg_catalog.pg_config WHERE name = 'BINDIR'", &folder); err != nil {
		t.Fatal(err)
	}
	clone := exec.CommandContext(t.Context(), filepath.Join(folder, "pg_basebackup"), "-h", config.Host, "-U", config.User,
		"-D", standby.Data(), "-R", "-X", "stream", "-c", "fast")
	if output, err := clone.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v %s", err, output)
	}
	owner, err := os.Stat(p.Data())
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(standby.Data(), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return giveTo(path, owner)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := standby.Start(); err != nil {
		t.Fatal(err)
	}
	return standby
}

// Promote makes a standby the primary.
func (p *Private) Promote() error {
	var promoted bool
	err := p.ask(context.Background(), "SELECT pg_promote()", &promoted)
	if err == nil && !promoted {
		err = errors.New("it is not promoted within a minute")
	}
	return err
}

func (p *Private) ask(ctx context.Context, query string, into any) error {
	conn, err := pgx.Connect(ctx, p.URL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return conn.QueryRow(ctx, query).Scan(into)
}

// Restart ends the server, with all its sessions, and returns once it answers again: after a crash,
// which leaves it no moment to write anything down, or in order.
func (p *Private) Restart(crash bool) error {
	if err := p.Stop(crash); err != nil {
		return err
	}
	return p.Start()
}

// Start returns once the server answers.
func (p *Private) Start() (err error) {
	if p.server, err = local.Start(context.Background(), p.config); err == nil {
		p.url = p.server.URL()
	}
	return err
}

// Stop returns once the server has ended, as before a restart. One that has not started stays so.
func (p *Private) Stop(crash bool) error {
	if p.server == nil {
		return nil
	}
	if crash {
		text, err := os.ReadFile(filepath.Join(p.Data(), "postmaster.pid"))
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
	err := p.server.Stop(context.Background())
	if err == nil {
		p.server = nil
	}
	return err
}

func privatePrefix() string {
	return filepath.Join(folder(), "phantom-private-"+strconv.Itoa(os.Geteuid())+"-")
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
		old := &Private{config: local.Config{Dir: folder}, mounted: mounted(folder)}
		_ = os.Remove(old.ballast())
		if _, err := os.Stat(old.Data()); err == nil && (old.Start() != nil || old.Stop(false) != nil) {
			continue
		}
		old.remove()
	}
}

// ballast is what fills its disk.
func (p *Private) ballast() string { return filepath.Join(p.config.Dir, "ballast") }

// FillDisk leaves no room on the disk of a server that has one of its own.
func (p *Private) FillDisk() error {
	file, err := os.Create(p.ballast())
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	for block := make([]byte, 1<<20); err == nil; _, err = file.Write(block) {
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return nil
}

// FreeDisk takes that back.
func (p *Private) FreeDisk() error { return os.Remove(p.ballast()) }

// mounted says whether a folder is a disk of its own.
func mounted(folder string) bool {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	return strings.Contains(string(mounts), " "+folder+" ")
}

func signal(pid int, s syscall.Signal) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return process.Signal(s)
}
