package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
)

const apiKeyUsage = "phantom apikey create|list|revoke --merchant acct_… [--id KEY-ID]"

var accountShape = regexp.MustCompile(`^acct_[A-Za-z0-9]{1,64}$`)

// apiKey is the subcommand: its first argument says what to do. It reads no sealed column and needs no ENCRYPTION_KEY.
func apiKey(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if len(args) > 0 && isHelp(args[0]) {
		fmt.Fprintln(stdout, "Usage:", apiKeyUsage)
		return flag.ErrHelp
	}
	if len(args) == 0 {
		return errors.New("phantom apikey needs an action: " + apiKeyUsage)
	}
	action := args[0]
	actions := map[string]func(context.Context, *connect.Service, string, uuid.UUID, io.Writer, io.Writer) error{
		"create": createAPIKey, "list": listAPIKeys, "revoke": revokeAPIKey,
	}
	act, ok := actions[action]
	if !ok {
		return fmt.Errorf("phantom apikey has no action %.40q: %s", action, apiKeyUsage)
	}
	flags := newFlags("apikey " + action)
	account := flags.String("merchant", "", "the connected account, `acct_…`")
	idText := new(string)
	if action == "revoke" {
		idText = flags.String("id", "", "the key's `id`, which list shows")
	}
	if err := parseFlags(flags, args[1:], stderr); err != nil {
		return err
	}
	if !accountShape.MatchString(*account) {
		return fmt.Errorf("phantom apikey %s: --merchant %.80q is no account: provide --merchant acct_…", action, *account)
	}
	id, err := uuid.Parse(*idText)
	if err != nil && action == "revoke" {
		return fmt.Errorf("phantom apikey revoke: --id %.80q is no key's id: phantom apikey list --merchant %s shows them", *idText, *account)
	}
	c, err := loadConfig(getenv, needs{database: true})
	if err != nil {
		return err
	}
	stop, err := c.standIn(ctx, newLogger(c, stderr))
	if err != nil {
		return err
	}
	defer stop()
	pool, err := c.openSchema(ctx, func() (*pgxpool.Pool, error) { return db.OpenWithoutKeyring(ctx, c.databaseURL) })
	if err != nil {
		return err
	}
	defer pool.Close()
	err = act(ctx, connect.New(connect.Config{Log: slog.New(slog.DiscardHandler)}, pool), *account, id, stdout, stderr)
	switch {
	case errors.Is(err, connect.ErrUnknownAccount):
		return fmt.Errorf("phantom apikey %s: %s is not connected here: check the id and DATABASE_URL, or connect it from the server's first page", action, *account)
	case errors.Is(err, connect.ErrUnknownAPIKey):
		return fmt.Errorf("phantom apikey revoke: %s has no key %s: phantom apikey list --merchant %[1]s shows them", *account, id)
	case err != nil:
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	return nil
}

func createAPIKey(ctx context.Context, merchants *connect.Service, account string, _ uuid.UUID, stdout, stderr io.Writer) error {
	key, id, err := merchants.CreateAPIKey(ctx, account)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "key %s of %s: it is shown this once, keep it safe\n", id, account)
	_, err = fmt.Fprintln(stdout, key)
	return err
}

func listAPIKeys(ctx context.Context, merchants *connect.Service, account string, _ uuid.UUID, stdout, _ io.Writer) error {
	keys, err := merchants.ListAPIKeys(ctx, account)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tCREATED\tLAST USED\tREVOKED")
	for _, key := range keys {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", key.ID, shortTime(&key.CreatedAt), shortTime(key.LastUsedAt), shortTime(key.RevokedAt))
	}
	return table.Flush()
}

func shortTime(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func revokeAPIKey(ctx context.Context, merchants *connect.Service, account string, id uuid.UUID, _, stderr io.Writer) error {
	if err := merchants.RevokeAPIKey(ctx, account, id); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "key %s of %s is revoked: it is refused from now on\n", id, account)
	return nil
}
