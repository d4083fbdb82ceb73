package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"

	"phantom/sandbox"
)

func runSandbox(ctx context.Context, call Call) error {
	flags := newFlags("sandbox")
	address := flags.String("addr", "127.0.0.1:12111", "address to listen on; keep it on the loopback interface")
	seed := flags.Uint64("seed", 1, "the same seed makes the same merchants")
	merchants := flags.Int("merchants", 3, "how many merchants there are")
	charges := flags.Int("charges", 0, "the first merchant's history has about so many charges, up to 1000000 (default: a small one)")
	truth := flags.String("truth", "", "write who is a ghost and why to this file, as a JSON array, before serving")
	rateLimit := flags.Int("rate-limit", 0, "requests a second and merchant beyond which it answers 429 (default: no limit)")
	sameIDs := flags.Bool("same-ids", false, "give the customers, subscriptions and invoices of all merchants the same ids")
	webhook := flags.String("webhook", "", "http:// URL on the loopback interface to which events are sent")
	webhookSecret := flags.String("webhook-secret", "", "whsec_… with which they are signed")
	state := flags.String("state", "", "file that keeps the tokens it gave over a restart (default: memory)")
	consent := flags.Bool("consent", false, "ask on a page which merchant connects, instead of connecting the first at once")
	if err := call.parse(flags); err != nil {
		return err
	}
	world, err := sandbox.New(sandbox.Config{
		Seed: *seed, Merchants: *merchants, Charges: *charges, StateFile: *state, Consent: *consent,
		RateLimit: *rateLimit, SameIDs: *sameIDs, Webhook: sandbox.Webhook{URL: *webhook, Secret: *webhookSecret},
	})
	if err != nil {
		return fmt.Errorf("[STRIPE] sandbox: %w", err)
	}
	if *truth != "" {
		if err := writeTruth(*truth, world); err != nil {
			return fmt.Errorf("[STRIPE] sandbox cannot write its truth: %w", err)
		}
	}
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return fmt.Errorf("[STRIPE] sandbox cannot listen: %w: choose another -addr", err)
	}
	base := "http://" + listener.Addr().String()
	fmt.Fprintf(call.Stdout, "STRIPE_API_BASE=%s STRIPE_CONNECT_BASE=%s STRIPE_SECRET_KEY=%s STRIPE_CLIENT_ID=%s\n",
		base, base, sandbox.SecretKey, sandbox.ClientID)
	fmt.Fprintln(call.Stderr, "[STRIPE] SANDBOX: a stand-in for Stripe, no real money; start phantom with the variables above; ^C ends it")
	fmt.Fprintf(call.Stderr, "[STRIPE] SANDBOX: it is Resend and Twilio too; channels to connect: api_key %s; account_sid %s, auth_token %s\n",
		sandbox.ResendKey, sandbox.TwilioSID, sandbox.TwilioToken)
	for _, account := range world.Accounts() {
		fmt.Fprintf(call.Stderr, "[STRIPE] SANDBOX: %s has a key of its own, %s, and one that only reads, %s\n",
			account, sandbox.OwnKey(account, false), sandbox.OwnKey(account, true))
	}
	server := world.Server()
	context.AfterFunc(ctx, func() {
		_ = server.Close()
		world.Close()
	})
	go world.PassTime(ctx, time.Second)
	if err := server.Serve(listener); ctx.Err() == nil {
		return fmt.Errorf("[STRIPE] sandbox: %w", err)
	}
	return nil
}

// writeTruth writes the ghosts of all merchants, at the clock of this moment.
func writeTruth(path string, world *sandbox.Sandbox) error {
	ghosts := []sandbox.Ghost{}
	for _, account := range world.Accounts() {
		ghosts = append(ghosts, world.Truth(account)...)
	}
	text, err := json.MarshalIndent(ghosts, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}
