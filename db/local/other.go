//go:build !unix || aix || solaris

package local

import (
	"context"
	"errors"
	"log/slog"
)

// Server is not available on this system.
type Server struct{}

// Start returns an error: this system has no flock.
func Start(context.Context, Config) (*Server, error) {
	return nil, errors.New("a private PostgreSQL is not supported on this system: set DATABASE_URL")
}

// URL returns "".
func (*Server) URL() string { return "" }

// Adopted returns false.
func (*Server) Adopted() bool { return false }

// Stop does nothing.
func (*Server) Stop(context.Context) error { return nil }

// Scratch returns an error: there is no server to make room for.
func Scratch(context.Context, string, *slog.Logger) (folder string, remove func(), err error) {
	return "", nil, errors.New("a private PostgreSQL is not supported on this system: set DATABASE_URL")
}

// ScratchDir returns folder.
func ScratchDir(folder string) string { return folder }
