// Package local runs a private PostgreSQL from the machine's own binaries: for `go run .` with
// nothing set, and for tests.
//
// # Layout of Config.Dir
//
//	data/          the data folder. Made once, never deleted
//	data.new-*/    an initdb under way; a leftover is swept by the next start
//	run/           the socket, mode 0700; below os.TempDir where this path is too long for one
//	postgres.log   what the server and initdb say
//	lock           the gate: anyone who starts or stops holds it
//	users          shared by all who use the server; who gets it alone was the last
//	server         held by the server's own processes, through a descriptor that they inherit
//
// # Who starts, who stops
//
// The three locks are flocks, so the kernel drops them when a process dies, however it dies. Starts
// and stops pass the gate one by one: the first starts the server and the others adopt it. The last
// user to stop takes the server down; a user that crashed leaves it running for the next start to
// adopt.
//
// Whether a server runs is asked by connecting. Without an answer the lock "server" tells one that
// is still starting, recovering or dying from none at all; a process id in a file tells neither,
// for ids are used again.
package local

import "log/slog"

// Config says where a private server lives and how it runs.
type Config struct {
	Dir      string // where data, log and locks live; made if missing
	Database string // database to make sure of; default "phantom"
	// fsync, full_page_writes and synchronous_commit off: for tests and the demo alone. An adopted
	// server keeps its own
	Unsafe bool
	Log    *slog.Logger // nil: discard
	// name=value, before all others: for tests. An adopted server keeps its own
	Settings []string

	search search // where binaries are looked for; zero: the machine's usual places
}

// NotInstalledError says that no PostgreSQL was found. Command installs it; empty when the package
// manager is not known.
type NotInstalledError struct{ Command string }

func (e *NotInstalledError) Error() string {
	if e.Command == "" {
		return "PostgreSQL is not installed: install version 14 or newer"
	}
	return "PostgreSQL is not installed: " + e.Command
}
