//go:build unix && !aix && !solaris

package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lock is a held flock. It belongs to the open file, so two locks in one process exclude each other
// like those of two.
type lock struct{ file *os.File }

// tryLock locks path (made if missing) as syscall.LOCK_SH or LOCK_EX. It returns nil, nil when
// another holder is in the way.
func tryLock(path string, how int) (*lock, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		return &lock{file}, nil
	}
	file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// waitLock takes path for itself, waiting as long as ctx lasts.
func waitLock(ctx context.Context, path string) (*lock, error) {
	for {
		l, err := tryLock(path, syscall.LOCK_EX)
		if l != nil || err != nil {
			return l, err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, fmt.Errorf("wait for %s, which another start or stop holds: %w", path, err)
		}
	}
}

// release gives the lock back, also when a child being forked at this moment still has a copy of
// the descriptor: with a mere close the lock would last until that child's exec, and a last user
// would not see that it is the last.
func (l *lock) release() {
	if l != nil {
		_ = syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN)
		l.file.Close()
	}
}

// leave closes this process's descriptor and leaves the lock to the child that inherited it.
func (l *lock) leave() { l.file.Close() }

// pause waits for d or the end of ctx, whose cause it returns.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
