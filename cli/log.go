package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/google/uuid"

	"phantom/app"
	"phantom/db"
	"phantom/trail"
)

// loggedChange is a change as phantom log prints it: what the merchant sees of it, and whose it is.
type loggedChange struct {
	trail.Entry
	Merchant string `json:"merchant"` // "" for all
}

// showLog prints what people and keys have changed. It reads no sealed column and needs no
// ENCRYPTION_KEY.
func showLog(ctx context.Context, call Call) error {
	flags := newFlags("log")
	account := flags.String("merchant", "", "only changes of this account, `acct_…`")
	key := flags.String("key", "", "only changes by this key, whose `id` phantom apikey list shows")
	limit := flags.Int("limit", 50, "show so many at most, the newest")
	asJSON := flags.Bool("json", false, "print JSON")
	if err := call.parse(flags); err != nil {
		return err
	}
	var filter db.AuditLogListAllParams
	if *key != "" {
		id, err := uuid.Parse(*key)
		if err != nil {
			return misuse("phantom log: --key %.80q is no key's id: phantom apikey list --merchant acct_… shows them", *key)
		}
		filter.KeyID = &id
	}
	if *account != "" {
		if err := checkAccount("log", *account); err != nil {
			return err
		}
	}
	if *limit < 1 || *limit > 100_000 {
		return misuse("phantom log: --limit %d is not usable: provide a number from 1 to 100000", *limit)
	}
	filter.Most = int32(*limit)
	a, err := call.open(ctx, app.Needs{Database: true})
	if err != nil {
		return err
	}
	defer a.Close()
	if *account != "" {
		id, err := merchantNamed(ctx, merchants(a.Pool), "log", *account)
		if err != nil {
			return err
		}
		filter.MerchantID = &id
	}
	rows, err := db.New(a.Pool).AuditLogListAll(ctx, filter)
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	changes := make([]loggedChange, 0, len(rows))
	for _, row := range rows {
		changes = append(changes, loggedChange{Merchant: row.Account, Entry: trail.Entry{
			ID: row.ID, At: row.At.UTC(), By: row.By, Key: row.KeyID, Command: row.Command,
			Action: row.Action, Object: row.Object, Before: row.Before, After: row.After,
		}})
	}
	if *asJSON {
		return json.NewEncoder(call.Stdout).Encode(changes)
	}
	return printLog(changes, call.Stdout)
}

func printLog(changes []loggedChange, stdout io.Writer) error {
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "AT\tMERCHANT\tBY\tACTION\tOBJECT\tBEFORE\tAFTER")
	for _, change := range changes {
		by := change.By
		switch {
		case change.Key != nil:
			by += " " + change.Key.String()
		case change.Command != nil:
			by += " " + *change.Command
		}
		merchant := change.Merchant
		if merchant == "" {
			merchant = "all"
		}
		before, after := string(change.Before), string(change.After)
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", shortTime(&change.At), merchant, oneLine(&by), change.Action,
			oneLine(change.Object), oneLine(given(before)), oneLine(given(after)))
	}
	return table.Flush()
}
