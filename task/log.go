package task

import (
	"context"
	"log/slog"
)

// running is the key of the task that a context belongs to.
type running struct{}

// Log returns log with the id of the task that ctx belongs to, so that all lines of one task can be
// found. Outside of a task it is log as it is.
func Log(ctx context.Context, log *slog.Logger) *slog.Logger {
	if t, ok := ctx.Value(running{}).(*Task); ok {
		return log.With("task", t.ID)
	}
	return log
}
