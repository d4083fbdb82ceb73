package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
)

// byOperator tells the halts of phantom stop from the merchants' own: neither lifts the other's.
const byOperator = "operator"

// stopHunts halts every send of hunts, in all processes, until it is lifted. It needs nothing but the database, so that it works where little
// else does.
func stopHunts(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	flags := newFlags("stop")
	account := flags.String("merchant", "", "only this connected account, `acct_…` (default: all)")
	lift := flags.Bool("lift", false, "let hunts send again")
	if err := parseFlags(flags, args, stderr); err != nil {
		return err
	}
	c, err := loadConfig(getenv, needs{database: true})
	if err != nil {
		return err
	}
	end, err := c.standIn(ctx, newLogger(c, stderr))
	if err != nil {
		return err
	}
	defer end()
	if c.alone { // or the halt of a database that nobody works with would look like one
		return errors.New("[DATABASE] DATABASE_URL is not set, and no PHANTOM in dev mode runs from this folder: nothing is halted; set DATABASE_URL as it is set for the server")
	}
	pool, err := c.openSchema(ctx, func() (*pgxpool.Pool, error) { return db.OpenWithoutKeyring(ctx, c.databaseURL) })
	if err != nil {
		return err
	}
	defer pool.Close()
	scope := uuid.Nil // all
	if *account != "" {
		if scope, err = merchantNamed(ctx, connect.New(connect.Config{Log: slog.New(slog.DiscardHandler)}, pool), "stop", *account); err != nil {
			return err
		}
	}
	queries := db.New(pool)
	if *lift {
		_, err = queries.HaltDelete(ctx, db.HaltDeleteParams{Scope: scope, By: byOperator})
	} else {
		_, err = queries.HaltCreate(ctx, db.HaltCreateParams{Scope: scope, By: byOperator})
	}
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	return printHalts(ctx, queries, stdout)
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
		whose, lift := haltWords(h)
		if _, err := fmt.Fprintf(stdout, "every charge and message of %s is halted since %s; to go on: %s\n", whose, shortTime(&h.HaltedAt), lift); err != nil {
			return err
		}
	}
	return nil
}

// haltWords says whose halt one is and what lifts it.
func haltWords(h db.HaltReadAccountsRow) (whose, lift string) {
	switch {
	case h.By != byOperator:
		return h.Account + ", by themselves,", "the merchant's own DELETE /api/halt"
	case h.Account == "":
		return "all merchants", "phantom stop --lift"
	}
	return h.Account, "phantom stop --merchant " + h.Account + " --lift"
}
