package dbtest

import (
	"os"

	"golang.org/x/sys/unix"
)

// memory is where Linux keeps files that no disk sees.
const memory = "/dev/shm"

// folder is where the tests' servers keep their data. TMPDIR names it. Without one it is memory,
// where that has room for all that tests write: beside a busy disk every statement may wait for
// seconds.
func folder() string {
	var disk unix.Statfs_t
	if os.Getenv("TMPDIR") == "" && unix.Statfs(memory, &disk) == nil && disk.Bavail*uint64(disk.Bsize) >= 6<<30 {
		return memory
	}
	return os.TempDir()
}
