package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/trail"
)

// merchants finds accounts for a command that asks nothing of Stripe.
func merchants(pool *pgxpool.Pool) *connect.Service {
	return connect.New(connect.Config{Log: slog.New(slog.DiscardHandler)}, pool)
}

// checkAccount refuses what is no --merchant.
func checkAccount(command, account string) error {
	if !connect.IsAccount(account) {
		return misuse("phantom %s: --merchant %.80q is no account: provide --merchant acct_…", command, account)
	}
	return nil
}

// unknownAccount is what a command says of an account that is not connected.
func unknownAccount(command, account string) error {
	return fmt.Errorf("phantom %s: %s is not connected here: check the id and DATABASE_URL, or connect it from the server's first page", command, account)
}

// merchantNamed finds a connected account for a command.
func merchantNamed(ctx context.Context, service *connect.Service, command, account string) (uuid.UUID, error) {
	if err := checkAccount(command, account); err != nil {
		return uuid.Nil, err
	}
	id, err := service.Merchant(ctx, account)
	if errors.Is(err, connect.ErrUnknownAccount) {
		return uuid.Nil, unknownAccount(command, account)
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	return id, nil
}

// recordCommand leaves the row of a command whose work takes many transactions, before the first of
// them: one that came last would be missing after a crash.
func recordCommand(ctx context.Context, pool *pgxpool.Pool, command string, change trail.Change) error {
	err := db.InTx(ctx, pool, func(tx pgx.Tx) error {
		return trail.Record(trail.By(ctx, trail.Operator(command)), tx, change)
	})
	if err != nil {
		return fmt.Errorf("[DATABASE] nothing is done: the log cannot be written: %s", db.Describe(err))
	}
	return nil
}
