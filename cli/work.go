package cli

import (
	"context"
	"fmt"

	"phantom/app"
)

// work runs workers and no server: any number of such processes share the tasks.
func work(ctx context.Context, call Call) error {
	if err := call.parse(newFlags("work")); err != nil {
		return err
	}
	c, err := app.Load(call.Getenv, everything)
	if err != nil {
		return err
	}
	if c.Workers == 0 {
		return fmt.Errorf("[WORKER] WORKERS is 0: phantom work would do nothing; provide a number from 1 to %d", app.MaxWorkers)
	}
	a, err := call.boot(ctx, c)
	if err != nil || a == nil {
		return err
	}
	defer a.Close()
	stopMetrics, err := a.StartMetrics(ctx)
	if err != nil {
		return err
	}
	defer stopMetrics()
	wait, err := a.StartWorkers(ctx, a.NewServices())
	if err != nil {
		return err
	}
	a.Log.Info("[WORKER] ready", "workers", a.Workers, "version", call.Version)
	<-ctx.Done()
	a.Log.Info("[WORKER] stopping", "cause", context.Cause(ctx))
	wait()
	a.Log.Info("[WORKER] stopped")
	return nil
}
