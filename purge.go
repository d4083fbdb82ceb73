package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"phantom/connect"
	"phantom/db"
	"phantom/ghost"
	"phantom/recovery"
)

func purge(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	flags := newFlags("purge")
	dryRun := flags.Bool("dry-run", false, "only count what would be purged")
	if err := parseFlags(flags, args, stderr); err != nil {
		return err
	}
	c, err := loadConfig(getenv, needs{database: true, key: true})
	if err != nil {
		return err
	}
	log := newLogger(c, stderr)
	stop, err := c.standIn(ctx, log)
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
		progressbar.OptionSetWriter(stderr), progressbar.OptionSetDescription("purge"), progressbar.OptionShowCount(),
		progressbar.OptionShowIts(), progressbar.OptionSetItsString("ghosts"), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetVisibility(isTerminal(stderr)), progressbar.OptionOnCompletion(func() { fmt.Fprintln(stderr) }))
	// It asks nothing of Stripe: connect is here for the merchants' salts.
	account := connect.New(connect.Config{Log: log}, pool)
	service := ghost.New(pool, account, log)
	service.Hunts = recovery.New(pool, account, nil, recovery.Config{Log: log}) // the hunts of who is purged end
	purged, err := service.Purge(ctx, *dryRun, func(done, total int64) {
		if bar.GetMax64() != total {
			bar.ChangeMax64(total)
		}
		_ = bar.Set64(min(done, total))
	})
	switch {
	case err != nil:
		return fmt.Errorf("[DATABASE] %d ghosts purged, then: %s: run phantom purge again to go on", purged.Ghosts, db.Describe(err))
	case *dryRun:
		_, err = fmt.Fprintf(stdout, "%d ghosts would be purged\n", purged.Ghosts)
		return err
	}
	if purged.Left > 0 {
		log.Warn("[WORKER] ghosts that running or recent tasks name stay until the next purge", "ghosts", purged.Left)
	}
	_, err = fmt.Fprintf(stdout, "%d ghosts purged\n", purged.Ghosts)
	return err
}
