package cli

import (
	"context"
	"fmt"

	"phantom/app"
	"phantom/db"
)

func migrate(ctx context.Context, call Call) error {
	flags := newFlags("migrate")
	runtime := flags.String("runtime", "", "let this `role` read and write rows, and nothing else: the servers' (docs/roles.md)")
	if err := call.parse(flags); err != nil {
		return err
	}
	c, err := app.Load(call.Getenv, app.Needs{Database: true})
	if err != nil {
		return err
	}
	log := c.Logger(call.Stderr)
	stop, err := c.StandIn(ctx, log)
	if err != nil {
		return err
	}
	defer stop()
	ran, err := c.Migrate(ctx, log)
	if err != nil {
		return err
	}
	if *runtime != "" {
		if err := db.GrantRuntime(ctx, c.DatabaseDirectURL, *runtime); err != nil {
			return fmt.Errorf("[DATABASE] --runtime: %s", db.Describe(err))
		}
	}
	if _, err := fmt.Fprintf(call.Stdout, "%d migrations run, the schema is current\n", ran); err != nil || *runtime == "" {
		return err
	}
	_, err = fmt.Fprintf(call.Stdout, "the role %s may read and write rows, and nothing else\n", *runtime)
	return err
}
