package cli

import (
	"context"
	"fmt"

	"phantom/app"
	"phantom/db"
	"phantom/trail"
)

func forget(ctx context.Context, call Call) error {
	flags := newFlags("purge")
	dryRun := flags.Bool("dry-run", false, "only count what would be purged")
	if err := call.parse(flags); err != nil {
		return err
	}
	a, err := call.open(ctx, app.Needs{Database: true, Key: true})
	if err != nil {
		return err
	}
	defer a.Close()

	if !*dryRun {
		if err := recordCommand(ctx, a.Pool, "purge", trail.Change{Action: "purge.run"}); err != nil {
			return err
		}
	}
	purged, err := a.NewServices().Purges.Purge(ctx, *dryRun, progress(call.Stderr, "purge", "ghosts"))
	switch {
	case err != nil:
		return fmt.Errorf("[DATABASE] %d ghosts purged, then: %s: run phantom purge again to go on", purged.Ghosts, db.Describe(err))
	case *dryRun:
		_, err = fmt.Fprintf(call.Stdout, "%d ghosts would be purged\n", purged.Ghosts)
		return err
	}
	if purged.Left > 0 {
		a.Log.Warn("[WORKER] ghosts that running or recent tasks name stay until the next purge", "ghosts", purged.Left)
	}
	_, err = fmt.Fprintf(call.Stdout, "%d ghosts purged\n", purged.Ghosts)
	return err
}
