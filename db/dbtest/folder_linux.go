package dbtest

import (
	"os"

	"golang.org/x/sys/unix"
)

// sharedMemory is where Linux keeps files that no disk sees.
const sharedMemory = "/dev/shm"

// folder is where the tests' servers keep their data. TMPDIR names it. Without one it is in memory,
// where that is large: beside a busy disk every statement may wait for seconds. It goes by the size
// and not by what is free now, so that all tests of a machine take the same.
func folder() string {
	var disk unix.Statfs_t
	if os.Getenv("TMPDIR") == "" && unix.Statfs(sharedMemory, &disk) == nil && disk.Blocks*uint64(disk.Bsize) >= 6<<30 {
		return sharedMemory
	}
	return os.TempDir()
}
