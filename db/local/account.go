//go:build unix && !aix && !solaris

package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// account is whom PostgreSQL's processes run as: oneself, but never root, which PostgreSQL refuses.
type account struct {
	name     string
	uid, gid uint32
	drop     bool // this process is root and its children become the account
}

// serverAccount chooses the account for a data folder: oneself; as root the folder's owner, or for
// a new folder postgres or nobody.
func serverAccount(data string) (account, error) {
	if uid := os.Geteuid(); uid != 0 {
		return account{name: strconv.Itoa(uid), uid: uint32(uid), gid: uint32(os.Getegid())}, nil
	}
	info, err := os.Stat(data)
	switch {
	case err == nil:
		uid, gid := owner(info)
		if uid == 0 {
			return account{}, fmt.Errorf("%s belongs to root, and PostgreSQL does not run as root: chown -R postgres %[1]s", data)
		}
		name := strconv.Itoa(int(uid))
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		return account{name, uid, gid, true}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return account{}, err
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil && uid != 0 {
			return account{name, uint32(uid), uint32(gid), true}, nil
		}
	}
	return account{}, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody: run as another user")
}

// command prepares a program to run as the account, away from the terminal's ^C and from this
// process's environment: an empty PGPORT breaks initdb, a foreign LC_ALL the server. The end of ctx
// kills it with all its children.
func (a account) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = "/" // the working directory may be closed to the account
	cmd.Env = []string{"PATH=" + filepath.Dir(program) + ":/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if a.drop {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// makeFolder makes path and its missing parents, so that the account can pass through them, no
// matter what the umask is.
func (a account) makeFolder(path string) error {
	mode := fs.FileMode(0o700)
	if a.drop {
		mode = 0o711
	}
	err := os.Mkdir(path, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := a.makeFolder(filepath.Dir(path)); err != nil {
			return err
		}
		err = os.Mkdir(path, mode)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// own gives a folder that this process has just made to the account.
func (a account) own(path string) error {
	if !a.drop {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// barrier returns an error that names the first folder on the way to path that the account may not
// enter; nil if it sees none.
func (a account) barrier(path string) error {
	if parent := filepath.Dir(path); parent != path {
		if err := a.barrier(parent); err != nil {
			return err
		}
	}
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return err
	}
	bit := fs.FileMode(0o001)
	switch uid, gid := owner(info); {
	case uid == a.uid:
		bit = 0o100
	case gid == a.gid:
		bit = 0o010
	}
	if info.Mode()&bit != 0 {
		return nil
	}
	return fmt.Errorf("user %s, whom PostgreSQL runs as, may not enter %s (mode %04o): chmod a+x %[2]s, or choose a folder elsewhere",
		a.name, path, info.Mode().Perm())
}

func owner(info fs.FileInfo) (uid, gid uint32) {
	stat := info.Sys().(*syscall.Stat_t)
	return stat.Uid, stat.Gid
}
