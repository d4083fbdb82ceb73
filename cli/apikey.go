package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"phantom/app"
	"phantom/connect"
	"phantom/db"
	"phantom/trail"
)

const apiKeyUsage = "phantom apikey create --merchant acct_… [--name NAME] [--scope read|write|shield] [--expires TIME] | " +
	"list --merchant acct_… | revoke --merchant acct_… --id KEY-ID"

// apiKey is the subcommand: its first argument says what to do. It reads no sealed column and needs
// no ENCRYPTION_KEY.
func apiKey(ctx context.Context, call Call) error {
	if call.asksForHelp() {
		call.printUsage(apiKeyUsage)
		return flag.ErrHelp
	}
	if len(call.Args) == 0 {
		return misuse("%s", "phantom apikey needs an action: "+apiKeyUsage)
	}
	action := call.Args[0]
	call.Args = call.Args[1:]
	act, ok := apiKeyActions[action]
	if !ok {
		return misuse("phantom apikey has no action %.40q: %s", action, apiKeyUsage)
	}
	wish, err := apiKeyFlags(action, call)
	if err != nil {
		return err
	}
	a, err := call.open(ctx, app.Needs{Database: true})
	if err != nil {
		return err
	}
	defer a.Close()
	ctx = trail.By(ctx, trail.Operator("apikey "+action))
	err = act(ctx, merchants(a.Pool), wish, call.Stdout, call.Stderr)
	switch {
	case errors.Is(err, connect.ErrUnknownAccount):
		return unknownAccount("apikey "+action, wish.account)
	case errors.Is(err, connect.ErrUnknownAPIKey):
		return fmt.Errorf("phantom apikey revoke: %s has no key %s: phantom apikey list --merchant %[1]s shows them", wish.account, wish.id)
	case err != nil:
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	return nil
}

// apiKeyWish is what the flags of phantom apikey ask for.
type apiKeyWish struct {
	account string
	id      uuid.UUID         // of the key to revoke
	how     connect.NewAPIKey // to create
}

var apiKeyActions = map[string]func(context.Context, *connect.Service, apiKeyWish, io.Writer, io.Writer) error{
	"create": createAPIKey, "list": listAPIKeys, "revoke": revokeAPIKey,
}

func apiKeyFlags(action string, call Call) (wish apiKeyWish, err error) {
	flags := newFlags("apikey " + action)
	account := flags.String("merchant", "", "the connected account, `acct_…`")
	var id, name, expires string
	scope := string(connect.ScopeWrite)
	switch action {
	case "create":
		flags.StringVar(&name, "name", "", "what people call the key: `words`, 64 characters at most")
		flags.StringVar(&scope, "scope", scope, "what it may do: shield, which asks for verdicts alone, read, which changes nothing, or write")
		flags.StringVar(&expires, "expires", "", "refuse it from this `time` on: 2027-01-31 (UTC) or 2027-01-31T18:00:00Z (default: never)")
	case "revoke":
		flags.StringVar(&id, "id", "", "the key's `id`, which list shows")
	}
	if err := call.parse(flags); err != nil {
		return wish, err
	}
	if err := checkAccount("apikey "+action, *account); err != nil {
		return wish, err
	}
	wish.account = *account
	switch action {
	case "create":
		wish.how, err = newAPIKey(name, scope, expires)
	case "revoke":
		if wish.id, err = uuid.Parse(id); err != nil {
			err = misuse("phantom apikey revoke: --id %.80q is no key's id: phantom apikey list --merchant %s shows them", id, *account)
		}
	}
	return wish, err
}

// newAPIKey reads the flags of phantom apikey create.
func newAPIKey(name, scope, expires string) (how connect.NewAPIKey, err error) {
	if utf8.RuneCountInString(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return how, misuse("%s", "phantom apikey create: --name is not usable: provide 64 characters at most, without control characters")
	}
	how = connect.NewAPIKey{Name: name, Scope: connect.Scope(scope)}
	if !slices.Contains(connect.Scopes, how.Scope) {
		return how, misuse("phantom apikey create: --scope %.40q is none: provide shield, read or write", scope)
	}
	if expires == "" {
		return how, nil
	}
	at, err := time.Parse(time.DateOnly, expires)
	if err != nil {
		at, err = time.Parse(time.RFC3339, expires)
	}
	if err != nil || !at.After(time.Now()) {
		return how, misuse("phantom apikey create: --expires %.40q is no time to come: write it as 2027-01-31 or 2027-01-31T18:00:00Z", expires)
	}
	how.Expires = &at
	return how, nil
}

func createAPIKey(ctx context.Context, service *connect.Service, wish apiKeyWish, stdout, stderr io.Writer) error {
	key, id, err := service.CreateAPIKey(ctx, wish.account, wish.how)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "key %s of %s: it is shown this once, keep it safe\n", id, wish.account)
	_, err = fmt.Fprintln(stdout, key)
	return err
}

func listAPIKeys(ctx context.Context, service *connect.Service, wish apiKeyWish, stdout, _ io.Writer) error {
	keys, err := service.ListAPIKeys(ctx, wish.account)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tCREATED\tLAST USED\tREVOKED\tEXPIRES\tSCOPE\tSTATUS\tNAME")
	for _, key := range keys {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", key.ID, shortTime(&key.CreatedAt), shortTime(key.LastUsedAt),
			shortTime(key.RevokedAt), shortTime(key.ExpiresAt), key.Scope, keyStatus(key), oneLine(key.Name))
	}
	return table.Flush()
}

// keyStatus says whether a key is taken, or why it is refused.
func keyStatus(key connect.APIKey) string {
	switch {
	case key.RevokedAt != nil:
		return "revoked"
	case key.Expired:
		return "expired"
	}
	return "active"
}

func revokeAPIKey(ctx context.Context, service *connect.Service, wish apiKeyWish, _, stderr io.Writer) error {
	if err := service.RevokeAPIKey(ctx, wish.account, wish.id); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "key %s of %s is revoked: it is refused from now on\n", wish.id, wish.account)
	return nil
}
