package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"phantom/app"
	"phantom/connect"
	"phantom/db"
	"phantom/input"
	"phantom/money"
	"phantom/shield"
	"phantom/trail"
	"phantom/verdict"
)

const shieldUsage = "phantom shield status --merchant acct_… | preview --merchant acct_… --policy FILE | simulate --merchant acct_… --policy FILE | " +
	"release --merchant acct_… [--hold ID] | discard --merchant acct_… [--hold ID] | " +
	"override --merchant acct_… --customer cus_… --level LEVEL [--until TIME] | promise --merchant acct_… --customer cus_… --until TIME | " +
	"keys [--rotate] | verify TOKEN"

// shieldActions are what phantom shield does, by its first argument.
var shieldActions = map[string]func(context.Context, Call) error{
	"status": shieldStatus, "preview": shieldPreview, "simulate": shieldSimulate, "release": shieldRelease, "discard": shieldDiscard,
	"override": shieldOverride, "promise": shieldPromise, "keys": shieldKeys, "verify": shieldVerify,
}

// shieldOf is the subcommand: its first argument says what to do.
func shieldOf(ctx context.Context, call Call) error {
	if call.asksForHelp() {
		call.printUsage(shieldUsage)
		return flag.ErrHelp
	}
	if len(call.Args) == 0 {
		return misuse("%s", "phantom shield needs an action: "+shieldUsage)
	}
	act, ok := shieldActions[call.Args[0]]
	if !ok {
		return misuse("phantom shield has no action %.40q: %s", call.Args[0], shieldUsage)
	}
	ctx = trail.By(ctx, trail.Operator("shield "+call.Args[0]))
	call.Args = call.Args[1:]
	return act(ctx, call)
}

// withShield runs work for a merchant.
func (call Call) withShield(ctx context.Context, action, account string, work func(*shield.Service, uuid.UUID) error) error {
	if err := checkAccount("shield "+action, account); err != nil {
		return err
	}
	a, err := call.open(ctx, app.Needs{Database: true, Key: true})
	if err != nil {
		return err
	}
	defer a.Close()
	merchant, err := merchantNamed(ctx, merchants(a.Pool), "shield "+action, account)
	if err != nil {
		return err
	}
	err = work(a.NewServices().Shield, merchant)
	var wrong *input.FieldError
	switch {
	case errors.As(err, &wrong):
		return fmt.Errorf("phantom shield %s: %w", action, wrong)
	case errors.Is(err, shield.ErrNotFound):
		return fmt.Errorf("phantom shield %s: there is no open hold: phantom shield status --merchant %s shows it", action, account)
	case err != nil:
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	return nil
}

func shieldStatus(ctx context.Context, call Call) error {
	flags := newFlags("shield status")
	account := flags.String("merchant", "", "the connected account, `acct_…`")
	if err := call.parse(flags); err != nil {
		return err
	}
	return call.withShield(ctx, "status", *account, func(s *shield.Service, merchant uuid.UUID) error {
		status, err := s.Status(ctx, merchant)
		if err != nil {
			return err
		}
		fmt.Fprintf(call.Stdout, "%s: policy %d, mode %s, revision %s\n", *account, status.Policy.Version, status.Policy.Mode, status.Revision)
		if status.Policy.Mode != shield.Enforce {
			fmt.Fprintln(call.Stdout, "nobody notices it: these are the levels that they would have")
		}
		table := tabwriter.NewWriter(call.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "LEVEL\tSUBSCRIPTIONS\tHELD")
		for _, level := range shield.Levels {
			fmt.Fprintf(table, "%s\t%d\t%d\n", level, status.Levels[level].Subscriptions, status.Levels[level].Held)
		}
		if err := table.Flush(); err != nil {
			return err
		}
		if status.Hold != nil {
			fmt.Fprintf(call.Stdout, "the breaker is open since %s: %d subscriptions are held\n"+
				"  either phantom shield release --merchant %s   they go where the policy leads\n"+
				"  or     phantom shield discard --merchant %s   they keep what they have for as long as they owe this debt\n",
				shortTime(&status.Hold.OpenedAt), status.Hold.Subscriptions, *account, *account)
		}
		return nil
	})
}

// policyFlags are those of actions that take a draft.
func (call Call) policyFlags(action string) (account string, policy shield.Policy, err error) {
	flags := newFlags("shield " + action)
	of := flags.String("merchant", "", "the connected account, `acct_…`")
	file := flags.String("policy", "", "the `file` with the policy, as PUT /api/shield/policy takes it; - is standard input")
	if err := call.parse(flags); err != nil {
		return "", policy, err
	}
	if *file == "" {
		return "", policy, misuse("phantom shield %s needs --policy FILE", action)
	}
	text, err := readFile(*file)
	if err != nil {
		return "", policy, fmt.Errorf("phantom shield %s: --policy: %w", action, err)
	}
	if policy, err = shield.Parse(text); err != nil {
		return "", policy, fmt.Errorf("phantom shield %s: %s: %w", action, *file, err)
	}
	return *of, policy, nil
}

func readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
	}
	return os.ReadFile(name)
}

func shieldPreview(ctx context.Context, call Call) error {
	account, policy, err := call.policyFlags("preview")
	if err != nil {
		return err
	}
	return call.withShield(ctx, "preview", account, func(s *shield.Service, merchant uuid.UUID) error {
		preview, err := s.Preview(ctx, merchant, policy)
		if err != nil {
			return err
		}
		fmt.Fprintf(call.Stdout, "%d customers would have less access than today; they bring in %s a month\n", preview.Customers, revenueText(preview.MRR))
		table := tabwriter.NewWriter(call.Stdout, 0, 0, 2, ' ', 0)
		if len(preview.Lowered) > 0 {
			fmt.Fprintln(table, "CUSTOMER\tFROM\tTO\tA MONTH")
		}
		for _, c := range preview.Lowered {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", c.Customer, c.From, c.To, revenueText(c.MRR))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(call.Stdout, "to enforce it within an hour: PUT /api/shield/policy with Shield-Confirm: %s\n", preview.Token)
		return nil
	})
}

// revenueText is what somebody brings in, by currency.
func revenueText(revenue shield.Revenue) string {
	var all []string
	for currency, amount := range revenue {
		all = append(all, money.Format(amount, currency))
	}
	if len(all) == 0 {
		return "nothing that is known"
	}
	sort.Strings(all)
	return strings.Join(all, " and ")
}

func shieldSimulate(ctx context.Context, call Call) error {
	account, policy, err := call.policyFlags("simulate")
	if err != nil {
		return err
	}
	return call.withShield(ctx, "simulate", account, func(s *shield.Service, merchant uuid.UUID) error {
		result, err := s.Simulate(ctx, merchant, policy)
		if err != nil {
			return err
		}
		fmt.Fprintf(call.Stdout, "%d debts are known, of which %d were paid. Under this policy, if customers had done the same:\n", result.Debts, result.Paid)
		table := tabwriter.NewWriter(call.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "LEVEL\tDEBTS THAT LED THERE\tPAID AFTERWARDS\tDAYS")
		for _, level := range shield.Levels[1:] {
			l := result.Levels[level]
			fmt.Fprintf(table, "%s\t%d\t%d\t%d\n", level, l.Reached, l.Paid, l.Days)
		}
		return table.Flush()
	})
}

func shieldRelease(ctx context.Context, call Call) error {
	return call.closeHold(ctx, "release", (*shield.Service).Release, "goes where the policy leads, read at Stripe first where that was last done over an hour ago")
}

func shieldDiscard(ctx context.Context, call Call) error {
	return call.closeHold(ctx, "discard", (*shield.Service).Discard, "keeps what they have for as long as they owe this debt")
}

func (call Call) closeHold(ctx context.Context, action string, how func(*shield.Service, context.Context, uuid.UUID, uuid.UUID) (string, error), effect string) error {
	flags := newFlags("shield " + action)
	account := flags.String("merchant", "", "the connected account, `acct_…`")
	hold := flags.String("hold", "", "the hold's `id` (default: the open one)")
	if err := call.parse(flags); err != nil {
		return err
	}
	var id uuid.UUID
	if *hold != "" {
		var err error
		if id, err = uuid.Parse(*hold); err != nil {
			return misuse("phantom shield %s: --hold %.80q is no hold's id: phantom shield status shows it", action, *hold)
		}
	}
	return call.withShield(ctx, action, *account, func(s *shield.Service, merchant uuid.UUID) error {
		if id == uuid.Nil {
			status, err := s.Status(ctx, merchant)
			if err != nil {
				return err
			}
			if status.Hold == nil {
				return shield.ErrNotFound
			}
			id = status.Hold.ID
		}
		revision, err := how(s, ctx, merchant, id)
		if err != nil {
			return err
		}
		fmt.Fprintf(call.Stdout, "hold %s of %s is closed: who was held %s; revision %s\n", id, *account, effect, revision)
		return nil
	})
}

func shieldOverride(ctx context.Context, call Call) error {
	return call.decide(ctx, "override", shield.KindOverride)
}

func shieldPromise(ctx context.Context, call Call) error {
	return call.decide(ctx, "promise", shield.KindPromise)
}

func (call Call) decide(ctx context.Context, action string, kind shield.Kind) error {
	flags := newFlags("shield " + action)
	account := flags.String("merchant", "", "the connected account, `acct_…`")
	customer := flags.String("customer", "", "the customer, `cus_…`")
	subscription := flags.String("subscription", "", "or one subscription, `sub_…`")
	until := flags.String("until", "", "until this `time`: 2027-01-31 (UTC) or 2027-01-31T18:00:00Z")
	level := ""
	if kind == shield.KindOverride {
		flags.StringVar(&level, "level", "", "the `level`: full, notice, grace, limited or blocked")
	}
	if err := call.parse(flags); err != nil {
		return err
	}
	wish := shield.Wish{Customer: *customer, Subscription: *subscription, Level: shield.Level(level)}
	if *until != "" {
		at, err := time.Parse(time.DateOnly, *until)
		if err != nil {
			at, err = time.Parse(time.RFC3339, *until)
		}
		if err != nil {
			return misuse("phantom shield %s: --until %.40q is no time: write it as 2027-01-31 or 2027-01-31T18:00:00Z", action, *until)
		}
		wish.Until = &at
	}
	return call.withShield(ctx, action, *account, func(s *shield.Service, merchant uuid.UUID) error {
		decision, revision, err := s.Decide(ctx, merchant, kind, wish)
		if err != nil {
			return err
		}
		fmt.Fprintf(call.Stdout, "%s %s of %s holds; revision %s\n", action, decision.ID, decision.Customer, revision)
		return nil
	})
}

func shieldKeys(ctx context.Context, call Call) error {
	// phantom shield keys rotate is the same as keys --rotate
	if len(call.Args) == 1 && call.Args[0] == "rotate" {
		call.Args = []string{"--rotate"}
	}
	flags := newFlags("shield keys")
	rotate := flags.Bool("rotate", false, "have the next key sign from now on")
	if err := call.parse(flags); err != nil {
		return err
	}
	a, err := call.open(ctx, app.Needs{Database: true, Key: true})
	if err != nil {
		return err
	}
	defer a.Close()
	s := shield.New(a.Pool, shield.Config{Log: a.Log, Hash: connect.HasherIn})
	show := s.SigningKeys
	if *rotate {
		show = s.RotateKeys
	}
	keys, err := show(ctx)
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	table := tabwriter.NewWriter(call.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tSTATE\tCREATED\tRETIRED")
	for _, key := range keys {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", key.ID, key.State, shortTime(&key.CreatedAt), shortTime(key.RetiredAt))
	}
	return table.Flush()
}

func shieldVerify(ctx context.Context, call Call) error {
	if call.asksForHelp() {
		call.printUsage(shieldUsage)
		return flag.ErrHelp
	}
	if len(call.Args) != 1 {
		return misuse("%s", "phantom shield verify needs a token, or - for standard input: "+shieldUsage)
	}
	token := call.Args[0]
	if token == "-" {
		text, err := readFile("-")
		if err != nil {
			return err
		}
		token = strings.TrimSpace(string(text))
	}
	a, err := call.open(ctx, app.Needs{Database: true, Key: true})
	if err != nil {
		return err
	}
	defer a.Close()
	keys, err := shield.New(a.Pool, shield.Config{Log: a.Log}).SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	public := make([]verdict.SigningKey, len(keys))
	for i, key := range keys {
		public[i] = verdict.SigningKey{ID: key.ID, Public: key.Public}
	}
	text, err := verdict.Verify(token, public)
	if err != nil {
		return fmt.Errorf("phantom shield verify: %w", err)
	}
	_, err = fmt.Fprintln(call.Stdout, text)
	return err
}
