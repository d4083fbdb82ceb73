package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"phantom/app"
	"phantom/db"
	"phantom/trail"
)

func rewrap(ctx context.Context, call Call) error {
	if err := call.parse(newFlags("rewrap")); err != nil {
		return err
	}
	a, err := call.open(ctx, app.Needs{Database: true, Key: true})
	if err != nil {
		return err
	}
	defer a.Close()

	if err := recordCommand(ctx, a.Pool, "rewrap", trail.Change{Action: "secrets.rewrap", After: struct {
		KeyID string `json:"key_id"`
	}{a.Ring.KeyID()}}); err != nil {
		return err
	}
	result, err := db.Rewrap(ctx, a.Pool, a.Ring, progress(call.Stderr, "rewrap", "values"))
	var damaged db.DamagedError
	if errors.As(err, &damaged) {
		return fmt.Errorf("[SECURITY] %d values rewrapped; %w; then run phantom rewrap again", result.Values, damaged)
	}
	if err != nil {
		return fmt.Errorf("[SECURITY] %d values rewrapped, then: %s: run phantom rewrap again to go on", result.Values, db.Describe(err))
	}
	text := fmt.Sprintf("%d values rewrapped under key id %s", result.Values, a.Ring.KeyID())
	if len(result.Retired) > 0 {
		text += fmt.Sprintf("; %s may be taken out of ENCRYPTION_KEYS_PREVIOUS", strings.Join(result.Retired, ", "))
	}
	_, err = fmt.Fprintln(call.Stdout, text)
	return err
}
