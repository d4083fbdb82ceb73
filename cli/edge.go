package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"phantom/app"
	"phantom/edge"
)

// runEdge runs a sidecar. It needs neither a database nor a key of encryption.
func runEdge(ctx context.Context, call Call) error {
	flags := newFlags("edge")
	upstream := flags.String("upstream", "", "the server, or another edge: `https://…`")
	keyFile := flags.String("key-file", "", "the `file` with a key of scope shield, phs_…")
	listen := flags.String("listen", "127.0.0.1:8081", "answer at this `address`")
	if err := call.parse(flags); err != nil {
		return err
	}
	if *upstream == "" || *keyFile == "" {
		return misuse("%s", "phantom edge needs --upstream https://… and --key-file FILE: phantom apikey create --merchant acct_… --scope shield > FILE makes a key")
	}
	key, err := os.ReadFile(*keyFile)
	if err != nil {
		return fmt.Errorf("phantom edge: --key-file: %w", err)
	}
	log, err := app.LogAlone(call.Getenv, call.Stdout)
	if err != nil {
		return err
	}
	app.LimitMemory(log)
	e, err := edge.New(edge.Config{Upstream: *upstream, Key: strings.TrimSuffix(strings.TrimSuffix(string(key), "\n"), "\r"), Log: log})
	if err != nil {
		return fmt.Errorf("phantom edge: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *listen)
	if err != nil {
		return fmt.Errorf("[SERVER] cannot listen on %s: %w: choose another one with --listen", *listen, err)
	}
	if e.Insecure() {
		log.Warn("[SECURITY] the key travels in the clear: give --upstream an https:// address")
	}
	var following sync.WaitGroup
	following.Go(func() { e.Run(ctx) })
	log.Info("[SERVER] the edge answers: /readyz/shield is 200 once it has a copy", "address", listener.Addr().String(), "version", call.Version)
	err = e.Serve(ctx, listener)
	following.Wait()
	if err != nil {
		return fmt.Errorf("[SERVER] %w", err)
	}
	log.Info("[SERVER] stopped")
	return nil
}
