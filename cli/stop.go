package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/app"
	"phantom/db"
	"phantom/doctor"
	"phantom/recovery"
	"phantom/trail"
)

// stopHunts halts every send of hunts, in all processes, until it is lifted. It needs nothing but
// the database, so that it works where little else does.
func stopHunts(ctx context.Context, call Call) error {
	flags := newFlags("stop")
	account := flags.String("merchant", "", "only this connected account, `acct_…` (default: all)")
	lift := flags.Bool("lift", false, "let hunts send again")
	if err := call.parse(flags); err != nil {
		return err
	}
	if *account != "" {
		if err := checkAccount("stop", *account); err != nil {
			return err
		}
	}
	a, err := call.open(ctx, app.Needs{Database: true, Served: true})
	// Else the halt of a database that nobody works with would look like one.
	if errors.Is(err, app.ErrNotServed) {
		return fmt.Errorf("[DATABASE] %w: nothing is halted; set DATABASE_URL as it is set for the server", err)
	}
	if err != nil {
		return err
	}
	defer a.Close()
	scope := uuid.Nil // all
	if *account != "" {
		if scope, err = merchantNamed(ctx, merchants(a.Pool), "stop", *account); err != nil {
			return err
		}
	}
	queries := db.New(a.Pool)
	ctx = trail.By(ctx, trail.Operator("stop"))
	if err := db.InTx(ctx, a.Pool, func(tx pgx.Tx) error { return recovery.SetHalt(ctx, tx, scope, recovery.ByOperator, !*lift) }); err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	return printHalts(ctx, queries, call.Stdout)
}

// printHalts says what is halted now, and how to lift that.
func printHalts(ctx context.Context, queries *db.Queries, stdout io.Writer) error {
	halts, err := queries.HaltReadAccounts(ctx)
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	if len(halts) == 0 {
		_, err = fmt.Fprintln(stdout, "nothing is halted: hunts send")
		return err
	}
	for _, h := range halts {
		whose, lift := doctor.HaltWords(h)
		if _, err := fmt.Fprintf(stdout, "every charge and message of %s is halted since %s; to go on: %s\n", whose, shortTime(&h.HaltedAt), lift); err != nil {
			return err
		}
	}
	return nil
}
