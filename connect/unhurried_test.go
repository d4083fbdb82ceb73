package connect

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"phantom/task"
)

// What passes is waited for. What does not is a failed try, which a person hears of in the end.
func TestUnhurried(t *testing.T) {
	t.Parallel()
	ended, end := context.WithCancel(t.Context())
	end()
	outageError := &ReadError{Err: errors.New("stripe answered 500")}
	for name, test := range map[string]struct {
		ctx  context.Context
		err  error
		want error // nil: the error itself
	}{
		"nothing failed":               {t.Context(), nil, nil},
		"an outage":                    {t.Context(), fmt.Errorf("read: %w", outageError), task.Snooze(outage)},
		"a wish for fewer requests":    {t.Context(), &ReadError{Err: errors.New("429"), SlowDown: true}, task.Snooze(slowDown)},
		"a refused request":            {t.Context(), &ReadError{Err: fmt.Errorf("%w: 400", ErrRefused)}, nil},
		"a permission that is missing": {t.Context(), &ReadError{Err: ErrForbidden}, nil},
		"an object that is gone":       {t.Context(), &ReadError{Err: ErrNotFound}, nil},
		"a merchant who has left":      {t.Context(), &ReadError{Err: ErrRevoked}, nil},
		"a fault of the database":      {t.Context(), errors.New("connection refused"), nil},
		"a process that ends":          {ended, outageError, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Unhurried(test.ctx, test.err)
			if test.want == nil {
				test.want = test.err
			}
			if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", test.want) {
				t.Errorf("%#v, want %#v", got, test.want)
			}
		})
	}
}
