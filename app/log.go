package app

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// Logger writes lines for people, or JSON.
func (c *Config) Logger(w io.Writer) *slog.Logger {
	if c.jsonLog {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{TimeFormat: time.RFC3339, NoColor: c.noColor || !IsTerminal(w)}))
}

// LogAlone is the log of a command that is configured by its flags.
func LogAlone(getenv func(string) string, w io.Writer) (*slog.Logger, error) {
	c := &Config{}
	if err := c.loadLog(environment{getenv: getenv}); err != nil {
		return nil, err
	}
	return c.Logger(w), nil
}

// IsTerminal tells whether somebody sees what is written to w.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
