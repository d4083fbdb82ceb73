//go:build !failpoints

package recovery

// failpoint is where a test build may end the process; here it is nothing.
func failpoint(string) {}
