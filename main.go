// Command phantom is a revenue engine for SaaS merchants on Stripe: one binary over PostgreSQL.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
	_ "time/tzdata" // the image holds no files

	_ "golang.org/x/crypto/x509roots/fallback" // nor certificates

	"phantom/cli"
)

// version is stamped by make build.
var version = "dev"

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signal.Ignore(syscall.SIGPIPE) // a log's reader that ends does not end the server
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		cancel(fmt.Errorf("%s", <-signals))
		first := time.Now()
		for range signals {
			// A terminal or a wrapper may send the first one twice.
			if time.Since(first) > 200*time.Millisecond {
				fmt.Fprintln(os.Stderr, "[SERVER] ended at once by a second signal")
				os.Exit(1)
			}
		}
	}()
	call := cli.Call{Args: os.Args[1:], Getenv: os.Getenv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Version: version}
	if err := cli.Run(ctx, call); err != nil {
		cli.Complain(call, err)
		os.Exit(cli.ExitCode(err))
	}
}
