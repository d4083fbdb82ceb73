package app

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"phantom/db/dbtest"
)

// A failed self-test names its step and ends the process before the database is touched.
func TestFailedSelfTestEndsTheBoot(t *testing.T) {
	t.Parallel()
	started := time.Now()
	ring := dbtest.Ring(t)
	if err := proveVault(ring, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	err := proveVault(brokenRing{}, slog.New(slog.DiscardHandler))
	if want := "[SECURITY] Vault self-test failed: known answer: broken: this binary or machine must not hold secrets"; err == nil || err.Error() != want {
		t.Errorf("%v after %s", err, time.Since(started))
	}
}

type brokenRing struct{}

func (brokenRing) SelfTest() error { return errors.New("known answer: broken") }
