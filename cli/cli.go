// Package cli holds the subcommands of phantom, one file each: their flags and what they print.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"phantom/app"
)

// Call is one run of the program.
type Call struct {
	Args           []string
	Getenv         func(string) string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Version        string

	summary string // of the subcommand, once it is found
}

// command is a subcommand. Args of its call are what follows its name.
type command struct {
	name, summary string
	run           func(context.Context, Call) error
}

// commands are all there are. A function, because completion, which is one of them, looks at them.
func commands() []command {
	return []command{
		{"serve", "run the server (the default)", serve},
		{"connect", "connect an account by a key of its own, without a Connect platform", connectOwn},
		{"disconnect", "forget an account's tokens, and park its tasks", disconnect},
		{"audit", "find the ghosts in a merchant's whole history", audit},
		{"work", "run workers and no server", work},
		{"migrate", "bring the database to the newest schema", migrate},
		{"report", "write what an audit found as one page to print and pass on", writeReport},
		{"rewrap", "seal every secret again under the newest ENCRYPTION_KEY", rewrap},
		{"doctor", "look at everything that phantom stands on, and say what to do", diagnose},
		{"tasks", "list tasks, explain one, retry or cancel it", tasks},
		{"apikey", "create, list or revoke a merchant's keys of the API", apiKey},
		{"log", "show what people and keys have changed", showLog},
		{"shield", "see who may keep access, and decide about it", shieldOf},
		{"oracle", "see whether the oracle chooses and how well it foretells, or drive it", oracleOf},
		{"edge", "answer who may keep access beside an app, from a copy", runEdge},
		{"stop", "halt every charge and message of hunts at once, or lift that", stopHunts},
		{"purge", "remove what is over 90 days old; the workers do it daily", forget},
		{"demo", "live through 60 days of a made-up merchant in about a minute", playDemo},
		{"sandbox", "run the stand-in for Stripe as a process of its own", runSandbox},
		{"licenses", "print the licences of everything in this binary", printLicenses},
		{"healthcheck", "ask the server of this machine whether it is ready: for containers", healthcheck},
		{"completion", "print what completes these commands in a shell: bash, zsh or fish", completion},
		{"version", "print the version", printVersion},
	}
}

// Commands are the subcommands as they are typed, each of those that take an action with it.
func Commands() (names []string) {
	actions := map[string][]string{"tasks": tasksActions, "apikey": slices.Sorted(maps.Keys(apiKeyActions)), "shield": slices.Sorted(maps.Keys(shieldActions)), "oracle": slices.Sorted(maps.Keys(oracleActions))}
	for _, c := range commands() {
		if len(actions[c.name]) == 0 {
			names = append(names, c.name)
		}
		for _, action := range actions[c.name] {
			names = append(names, c.name+" "+action)
		}
	}
	return names
}

// Run is the program: it returns when the subcommand is done or ctx has ended. An error is one line
// for the operator.
func Run(ctx context.Context, call Call) error {
	name := "serve"
	if len(call.Args) > 0 && !strings.HasPrefix(call.Args[0], "-") {
		name, call.Args = call.Args[0], call.Args[1:]
	}
	if name == "--version" || len(call.Args) > 0 && call.Args[0] == "--version" {
		name, call.Args = "version", nil
	}
	if name == "help" && len(call.Args) > 0 && !call.asksForHelp() { // phantom help tasks
		name, call.Args = call.Args[0], append(call.Args[1:len(call.Args):len(call.Args)], "-h")
	}
	if name == "help" || name == "serve" && call.asksForHelp() {
		usage(call.Stdout)
		return nil
	}
	for _, c := range commands() {
		if c.name == name {
			call.summary = c.summary
			err := c.run(ctx, call)
			if errors.Is(err, flag.ErrHelp) {
				return nil
			}
			return err
		}
	}
	return misuse("phantom has no command %.40q: phantom help lists them", name)
}

// wrongInput is an error of what was given to a program that reads its input.
type wrongInput struct{ error }

func (e wrongInput) Unwrap() error { return e.error }

// misuse is an error of how the program was called.
func misuse(format string, args ...any) error { return wrongInput{fmt.Errorf(format, args...)} }

// ExitCode is that of the process for an error of [Run]: 2 where it was called in a wrong way, or
// what it was to read is wrong, else 1.
func ExitCode(err error) int {
	if errors.As(err, new(wrongInput)) {
		return 2
	}
	return 1
}

// Complain tells the operator of an error of [Run]: in one line, or in JSON where the log is.
func Complain(call Call, err error) {
	if call.Getenv("LOG_FORMAT") == "json" {
		slog.New(slog.NewJSONHandler(call.Stderr, nil)).Error(err.Error()) //nolint:sloglint // it is all
		return
	}
	fmt.Fprintln(call.Stderr, err)
}

func (call Call) asksForHelp() bool { return len(call.Args) > 0 && isHelp(call.Args[0]) }

func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

func usage(w io.Writer) {
	fmt.Fprint(w, "phantom finds customers who use a product without paying, and brings the money back.\n\nUsage: phantom [command]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-11s %s\n", c.name, c.summary)
	}
	fmt.Fprintln(w, "\nphantom help COMMAND says what a command takes.")
	fmt.Fprintln(w, "It is configured by environment variables, which the README lists.\nWith none set it runs in dev mode, with stand-ins.")
}

func newFlags(name string) *flag.FlagSet { return flag.NewFlagSet(name, flag.ContinueOnError) }

// parse parses the flags of a subcommand that takes no arguments besides them.
func (call Call) parse(flags *flag.FlagSet) error {
	if err := call.parseFlags(flags); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return misuse("phantom %s takes no argument %.40q: phantom %s -h shows what it takes", flags.Name(), flags.Arg(0), flags.Name())
	}
	return nil
}

// parseFlags parses the flags of a subcommand that takes arguments too. Where help is asked for it
// is printed, and the error is [flag.ErrHelp].
func (call Call) parseFlags(flags *flag.FlagSet) error {
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	err := flags.Parse(call.Args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		call.help(flags)
		return err
	case err != nil:
		said := strings.Replace(err.Error(), "defined: -", "defined: --", 1)
		return misuse("phantom %s: %s: phantom %s -h shows what it takes", flags.Name(), said, flags.Name())
	}
	return nil
}

// open opens the database for a command whose output is standard output: log lines go to standard
// error.
func (call Call) open(ctx context.Context, need app.Needs) (*app.App, error) {
	return app.Open(ctx, call.Getenv, need, call.Stderr)
}
