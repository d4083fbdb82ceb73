package connect

import (
	"context"
	"errors"
	"time"

	"phantom/task"
)

const (
	// slowDown is how long a task waits whose account Stripe will not let us read for now.
	slowDown = 30 * time.Second
	// outage is how long a task waits that Stripe gives no usable answer, after all that the reader
	// has tried.
	outage = time.Minute
)

// Unhurried lets a task wait where Stripe fails or asks for fewer requests: that is no failed try.
// Eight of those would leave the task to a person after a quarter of an hour, and what it was to
// bring, the end of a hunt among it, would not come any more. What Stripe refuses for good is a
// failed try, because waiting changes nothing and a person can: [ErrRefused], of which
// [ErrForbidden] is one, [ErrNotFound] and [ErrRevoked]. What a process that ends has broken off is
// returned as it is.
func Unhurried(ctx context.Context, err error) error {
	var read *ReadError
	switch {
	case ctx.Err() != nil, !errors.As(err, &read),
		errors.Is(err, ErrRevoked), errors.Is(err, ErrNotFound), errors.Is(err, ErrRefused):
		return err
	case read.SlowDown:
		return task.Snooze(slowDown)
	}
	return task.Snooze(outage)
}
