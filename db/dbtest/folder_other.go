//go:build !linux

package dbtest

import "os"

// folder is where the tests' servers keep their data.
func folder() string { return os.TempDir() }
