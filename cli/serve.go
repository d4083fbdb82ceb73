package cli

import (
	"context"
	"fmt"

	"phantom/app"
	"phantom/web"
)

// everything is what a server or a worker needs.
var everything = app.Needs{Database: true, Key: true, Stripe: true}

func serve(ctx context.Context, call Call) error {
	if err := call.parse(newFlags("serve")); err != nil {
		return err
	}
	need := everything
	need.Serves = true
	c, err := app.Load(call.Getenv, need)
	if err != nil {
		return err
	}
	a, err := call.boot(ctx, c)
	if err != nil || a == nil {
		return err
	}
	defer a.Close()
	listener, err := web.Listen(ctx, a.Host(), a.Port)
	if err != nil {
		return fmt.Errorf("[SERVER] cannot listen on port %d: %w: set PORT to a free one", a.Port, err)
	}
	stopMetrics, err := a.StartMetrics(ctx)
	if err != nil {
		return err
	}
	defer stopMetrics()
	services := a.NewServices()
	verdicts := a.NewVerdicts(services)
	server := a.NewServer(services, verdicts.Handler)
	if err := a.ConnectOwn(ctx, services); err != nil {
		return err
	}
	sayWhoMayConnect(a)
	working, stopWorkers := context.WithCancel(ctx)
	defer stopWorkers()
	waitForWorkers, err := a.StartWorkers(working, services)
	if err != nil {
		return err
	}
	following, stopFollowing := context.WithCancel(context.WithoutCancel(ctx))
	waitForFeed := verdicts.Start(following, server.Draining)
	defer func() {
		stopFollowing()
		waitForFeed()
	}()
	a.Log.Info("[SERVER] ready", "url", a.PublicURL.String(), "port", a.Port, "version", call.Version)
	err = server.Serve(ctx, listener)
	stopWorkers() // if it was not ctx that ended the server
	waitForWorkers()
	if err != nil {
		return fmt.Errorf("[SERVER] %w", err)
	}
	a.Log.Info("[SERVER] stopped")
	return nil
}

func sayWhoMayConnect(a *app.App) {
	switch {
	case a.StripeClientID == "":
		a.Log.Info("[STRIPE] no account connects by a browser: there is no Connect platform")
	case len(a.ConnectAccounts) == 0:
		a.Log.Info("[STRIPE] any account may connect: CONNECT_ACCOUNTS is not set")
	default:
		a.Log.Info("[STRIPE] only listed accounts may connect", "accounts", len(a.ConnectAccounts))
	}
	if len(a.WebhookSecrets) == 0 && a.StripeClientID != "" {
		a.Log.Warn("[STRIPE] STRIPE_WEBHOOK_SECRET is not set: webhooks get 503, and ghosts change by audits alone")
	}
}

// boot opens what a process that stays needs; its log is standard output. A boot that a signal has
// ended is no failure: there is neither an app nor an error.
func (call Call) boot(ctx context.Context, c *app.Config) (*app.App, error) {
	log := c.Logger(call.Stdout)
	app.LimitMemory(log)
	a, err := c.Open(ctx, log)
	if err != nil && ctx.Err() != nil {
		log.Info("[SERVER] stopped before it was ready", "cause", context.Cause(ctx))
		return nil, nil //nolint:nilerr // a signal ended it, which is no failure
	}
	return a, err
}
