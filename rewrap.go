package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"phantom/db"
)

func rewrap(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if err := parseFlags(newFlags("rewrap"), args, stderr); err != nil {
		return err
	}
	c, err := loadConfig(getenv, needs{database: true, key: true})
	if err != nil {
		return err
	}
	stop, err := c.standIn(ctx, newLogger(c, stderr))
	if err != nil {
		return err
	}
	defer stop()
	pool, err := c.openPool(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()

	bar := progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(stderr), progressbar.OptionSetDescription("rewrap"), progressbar.OptionShowCount(),
		progressbar.OptionShowIts(), progressbar.OptionSetItsString("values"), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetVisibility(isTerminal(stderr)), progressbar.OptionOnCompletion(func() { fmt.Fprintln(stderr) }))
	result, err := db.Rewrap(ctx, pool, c.ring, func(done, total int64) {
		if bar.GetMax64() != total {
			bar.ChangeMax64(total)
		}
		_ = bar.Set64(min(done, total))
	})
	var damaged db.DamagedError
	if errors.As(err, &damaged) {
		return fmt.Errorf("[SECURITY] %d values rewrapped; %w; then run phantom rewrap again", result.Values, damaged)
	}
	if err != nil {
		return fmt.Errorf("[SECURITY] %d values rewrapped, then: %s: run phantom rewrap again to go on", result.Values, db.Describe(err))
	}
	text := fmt.Sprintf("%d values rewrapped under key id %s", result.Values, c.ring.KeyID())
	if len(result.Retired) > 0 {
		text += fmt.Sprintf("; %s may be taken out of ENCRYPTION_KEYS_PREVIOUS", strings.Join(result.Retired, ", "))
	}
	_, err = fmt.Fprintln(stdout, text)
	return err
}
