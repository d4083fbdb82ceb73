package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"phantom/oracle/play"
)

const oracleUsage = "phantom oracle play"

// oracleActions are what phantom oracle does, by its first argument.
var oracleActions = map[string]func(context.Context, Call) error{"play": oraclePlay}

// oracleOf is the subcommand: its first argument says what to do.
func oracleOf(ctx context.Context, call Call) error {
	if call.asksForHelp() {
		fmt.Fprintln(call.Stdout, "Usage:", oracleUsage)
		return flag.ErrHelp
	}
	if len(call.Args) == 0 {
		return errors.New("phantom oracle needs an action: " + oracleUsage)
	}
	act, ok := oracleActions[call.Args[0]]
	if !ok {
		return fmt.Errorf("phantom oracle has no action %.40q: %s", call.Args[0], oracleUsage)
	}
	call.Args = call.Args[1:]
	return act(ctx, call)
}

const playHelp = `Usage: phantom oracle play < LINES

It answers questions about when to charge a failed invoice, and needs no database: JSON objects,
one a line, on standard input; one line for each question on standard output. docs/oracle.md
describes the lines: tell, ask, rebuild and forget.

  {"op":"rebuild","now":"2026-11-04T00:00:00Z"}`

// oraclePlay lets an examiner drive the oracle.
func oraclePlay(_ context.Context, call Call) error {
	if call.asksForHelp() {
		fmt.Fprintln(call.Stdout, playHelp)
		return flag.ErrHelp
	}
	if len(call.Args) > 0 {
		return fmt.Errorf("phantom oracle play takes no argument %.40q: its input is standard input", call.Args[0])
	}
	err := play.Run(call.Stdin, call.Stdout)
	var line *play.LineError
	if errors.As(err, &line) {
		return wrongInput{fmt.Errorf("phantom oracle play: %w", err)}
	}
	return err
}
