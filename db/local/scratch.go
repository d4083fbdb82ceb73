//go:build unix && !aix && !solaris

package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	scratchLock  = "owner"          // in a scratch folder: held by the process that made it
	scratchLimit = 20 * time.Second // for what one killed process left behind
)

// Scratch makes a folder below os.TempDir for one run of this process, with a place for its
// server's Config.Dir in it. remove takes the folder away; the server must have stopped. A killed
// process cannot do that, so anyone who makes the next scratch folder of this name does: it stops
// the server in it and removes it. Only folders are touched that Scratch made for this user, and
// whose process is gone.
func Scratch(ctx context.Context, name string, log *slog.Logger) (folder string, remove func(), err error) {
	sweepScratch(ctx, os.TempDir(), name, log)
	// The folder gets its name when its lock is held, so that no sweep ever sees it without.
	side, err := os.MkdirTemp("", "new-"+name+"-")
	if err != nil {
		return "", nil, err
	}
	held, err := tryLock(filepath.Join(side, scratchLock), syscall.LOCK_EX)
	folder = filepath.Join(filepath.Dir(side), strings.TrimPrefix(filepath.Base(side), "new-"))
	if err == nil && held == nil {
		err = fmt.Errorf("%s is locked by another program", side)
	}
	if err == nil {
		err = os.Chmod(side, 0o711) //nolint:gosec // as root, PostgreSQL's own user must be able to pass through
	}
	if err == nil {
		err = os.Rename(side, folder)
	}
	if err != nil {
		held.release()
		_ = os.RemoveAll(side)
		return "", nil, err
	}
	return folder, func() { _ = os.RemoveAll(folder); held.release() }, nil
}

// ScratchDir is where in a scratch folder the server lives.
func ScratchDir(folder string) string { return filepath.Join(folder, "pg") }

func sweepScratch(ctx context.Context, parent, name string, log *slog.Logger) {
	entries, _ := os.ReadDir(parent)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), name+"-") {
			continue
		}
		folder := filepath.Join(parent, entry.Name())
		swept, err := clearScratch(ctx, folder)
		switch {
		case err != nil:
			log.Warn("[DATABASE] what a killed process left cannot be removed", "folder", folder, "cause", err)
		case swept:
			log.Info("[DATABASE] removed what a killed process left", "folder", folder)
		}
	}
}

// clearScratch removes a scratch folder of this user's if its process is gone.
func clearScratch(ctx context.Context, folder string) (cleared bool, err error) {
	info, err := os.Lstat(folder)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return false, nil
	}
	if uid, _ := owner(info); uid != uint32(os.Geteuid()) {
		return false, nil
	}
	mark := filepath.Join(folder, scratchLock)
	if info, err := os.Lstat(mark); err != nil || !info.Mode().IsRegular() {
		return false, nil // not ours
	}
	held, err := tryLock(mark, syscall.LOCK_EX)
	if err != nil || held == nil {
		return false, err
	}
	defer held.release()
	ctx, cancel := context.WithTimeoutCause(ctx, scratchLimit, fmt.Errorf("no result after %s", scratchLimit))
	defer cancel()
	if _, err := os.Stat(ScratchDir(folder)); err == nil {
		s, err := newServer(Config{Dir: ScratchDir(folder)})
		if err != nil {
			return false, err
		}
		s.socket = s.socketFolder()
		if err := s.exit(ctx); err != nil {
			return false, err
		}
		switch gone, err := tryLock(s.path("server"), syscall.LOCK_EX); {
		case err != nil:
			return false, err
		case gone == nil:
			return false, errors.New("its server has other users")
		default:
			gone.release()
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	return true, os.RemoveAll(folder)
}
