// Command phantom is a revenue engine for SaaS merchants on Stripe: one binary over PostgreSQL.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	_ "time/tzdata" // the image holds no files

	_ "golang.org/x/crypto/x509roots/fallback" // likewise

	"phantom/db"
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
			if time.Since(first) > 200*time.Millisecond { // a terminal or a wrapper may send the first one twice
				fmt.Fprintln(os.Stderr, "[SERVER] ended at once by a second signal")
				os.Exit(1)
			}
		}
	}()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// command is a subcommand. run gets what stands behind its name.
type command struct {
	name, summary string
	run           func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error
}

var commands = []command{
	{"serve", "run the server (the default)", serve},
	{"audit", "find the ghosts in a merchant's whole history", auditMerchant},
	{"work", "run workers and no server", work},
	{"migrate", "bring the database to the newest schema", migrateDatabase},
	{"report", "write what an audit found as one page to print and pass on", writeReport},
	{"rewrap", "seal every secret again under the newest ENCRYPTION_KEY", rewrap},
	{"doctor", "look at everything that phantom stands on, and say what to do", doctor},
	{"tasks", "list tasks, explain one, retry or cancel it", tasks},
	{"apikey", "create, list or revoke a merchant's keys of the API", apiKey},
	{"stop", "halt every charge and message of hunts at once, or lift that", stopHunts},
	{"purge", "remove what is over 90 days old; the workers do it daily", purge},
	{"demo", "live through 60 days of a made-up merchant in about a minute", runDemo},
	{"sandbox", "run the stand-in for Stripe as a process of its own", runSandbox},
	{"version", "print the version", printVersion},
}

// run is the program: it returns when the subcommand is done or ctx has ended. An error is one line for the operator.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	name := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	if name == "--version" || len(args) > 0 && args[0] == "--version" {
		name, args = "version", nil
	}
	if name == "help" || len(args) > 0 && name == "serve" && isHelp(args[0]) {
		usage(stdout)
		return nil
	}
	for _, c := range commands {
		if c.name == name {
			err := c.run(ctx, args, getenv, stdout, stderr)
			if errors.Is(err, flag.ErrHelp) {
				return nil
			}
			return err
		}
	}
	return fmt.Errorf("phantom has no command %.40q: phantom help lists them", name)
}

func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

func usage(w io.Writer) {
	fmt.Fprint(w, "phantom finds customers who use a product without paying, and brings the money back.\n\nUsage: phantom [command]\n\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-9s %s\n", c.name, c.summary)
	}
	fmt.Fprintln(w, "\nIt is configured by environment variables, which the README lists. With none set it runs in dev mode, with stand-ins.")
}

// parseFlags parses args of a subcommand that takes no arguments besides its flags.
func parseFlags(flags *flag.FlagSet, args []string, stderr io.Writer) error {
	flags.SetOutput(stderr)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("phantom %s: wrong usage", flags.Name())
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("phantom %s takes no argument %.40q: phantom %s -h shows what it takes", flags.Name(), flags.Arg(0), flags.Name())
	}
	return nil
}

func newFlags(name string) *flag.FlagSet { return flag.NewFlagSet(name, flag.ContinueOnError) }

func printVersion(_ context.Context, args []string, _ func(string) string, stdout, stderr io.Writer) error {
	if err := parseFlags(newFlags("version"), args, stderr); err != nil {
		return err
	}
	_, err := fmt.Fprintln(stdout, "phantom", version)
	return err
}

func migrateDatabase(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if err := parseFlags(newFlags("migrate"), args, stderr); err != nil {
		return err
	}
	c, err := loadConfig(getenv, needs{database: true})
	if err != nil {
		return err
	}
	log := newLogger(c, stderr)
	stop, err := c.standIn(ctx, log)
	if err != nil {
		return err
	}
	defer stop()
	ran, err := c.migrate(ctx, log)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%d migrations run, the schema is current\n", ran)
	return err
}

// migrate waits for the database and brings it to the newest schema.
func (c *config) migrate(ctx context.Context, log *slog.Logger) (ran int, err error) {
	if err := db.WaitReachable(ctx, c.databaseDirectURL, databasePatience); err != nil {
		return 0, fmt.Errorf("[DATABASE] %w", err)
	}
	ran, err = db.Migrate(ctx, c.databaseDirectURL, log)
	if err != nil {
		return ran, fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	return ran, nil
}
