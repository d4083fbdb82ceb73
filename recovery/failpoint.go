//go:build !failpoints

package recovery

// failpoint is where a test build may end the process; here it is nothing.
func failpoint(string) {}

// unread is true in a test build that is to go red; here it never is.
const unread = false
