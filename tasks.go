package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/ghost"
	"phantom/recovery"
	"phantom/task"
)

const tasksUsage = "phantom tasks list [--merchant acct_…] [--status STATUS] [--kind KIND] [--limit N] [--json] | show ID | retry ID | cancel ID"

// harmless are the kinds that only read at Stripe, or do not leave this house. Every other kind may move money or write to somebody.
var harmless = []string{ghost.KindAudit, ghost.KindRefresh, ghost.KindWebhook, ghost.KindPurge, connect.KindUnpark, connect.KindProbe}

// tasks is the subcommand: its first argument says what to do. It reads no sealed column and needs no ENCRYPTION_KEY.
func tasks(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if len(args) > 0 && isHelp(args[0]) {
		fmt.Fprintln(stdout, "Usage:", tasksUsage)
		return flag.ErrHelp
	}
	if len(args) == 0 {
		return errors.New("phantom tasks needs an action: " + tasksUsage)
	}
	var act func(context.Context, *pgxpool.Pool) error
	var err error
	switch action := args[0]; action {
	case "list":
		act, err = tasksList(args[1:], stdout, stderr)
	case "show", "retry", "cancel":
		act, err = tasksOne(action, args[1:], stdout, stderr)
	default:
		err = fmt.Errorf("phantom tasks has no action %.40q: %s", action, tasksUsage)
	}
	if err != nil {
		return err
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
	return act(ctx, pool)
}

// listedTask is a task as list prints it: what the merchant sees of it, and whose it is.
type listedTask struct {
	task.View
	Merchant  string    `json:"merchant"`
	CreatedAt time.Time `json:"created_at"`
}

func tasksList(args []string, stdout, stderr io.Writer) (func(context.Context, *pgxpool.Pool) error, error) {
	flags := newFlags("tasks list")
	account := flags.String("merchant", "", "only tasks of this account, `acct_…`")
	status := flags.String("status", "", "only tasks of this `status`: "+strings.Join(task.Statuses, ", "))
	kind := flags.String("kind", "", "only tasks of this `kind`, such as audit")
	limit := flags.Int("limit", 50, "show so many at most, the newest")
	asJSON := flags.Bool("json", false, "print JSON")
	if err := parseFlags(flags, args, stderr); err != nil {
		return nil, err
	}
	switch {
	case *account != "" && !accountShape.MatchString(*account):
		return nil, fmt.Errorf("phantom tasks list: --merchant %.80q is no account: provide --merchant acct_…", *account)
	case *status != "" && !slices.Contains(task.Statuses, *status):
		return nil, fmt.Errorf("phantom tasks list: --status %.40q is none: provide one of %s", *status, strings.Join(task.Statuses, ", "))
	case *limit < 1 || *limit > 100_000:
		return nil, fmt.Errorf("phantom tasks list: --limit %d is not usable: provide a number from 1 to 100000", *limit)
	}
	return func(ctx context.Context, pool *pgxpool.Pool) error {
		if *account != "" {
			if _, err := merchantNamed(ctx, connect.New(connect.Config{}, pool), "tasks list", *account); err != nil {
				return err
			}
		}
		rows, err := db.New(pool).TaskListAll(ctx, db.TaskListAllParams{Account: given(*account), Status: given(*status), Kind: given(*kind), Most: int32(*limit)})
		if err != nil {
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
		if *asJSON {
			return printTasksJSON(rows, stdout)
		}
		return printTasks(rows, stdout, stderr)
	}, nil
}

func printTasksJSON(rows []db.TaskListAllRow, stdout io.Writer) error {
	list := make([]listedTask, 0, len(rows))
	for _, row := range rows {
		list = append(list, listedTask{Merchant: row.Account, CreatedAt: row.CreatedAt.UTC(), View: task.View{
			ID: row.ID, Kind: row.Kind, Status: row.Status, RunAt: row.RunAt, Attempts: row.Attempts,
			FirstSentAt: row.FirstSentAt, FinishedAt: row.FinishedAt, Outcome: row.Outcome, Error: row.LastError,
		}.UTC()})
	}
	return json.NewEncoder(stdout).Encode(list)
}

func printTasks(rows []db.TaskListAllRow, stdout, stderr io.Writer) error {
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSTATUS\tKIND\tMERCHANT\tRUN AT\tATTEMPTS\tFIRST SENT\tFINISHED\tERROR")
	waiting := 0
	for _, row := range rows {
		if row.Status == "needs_review" {
			waiting++
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%.60s\n", row.ID, row.Status, row.Kind, row.Account, shortTime(&row.RunAt),
			row.Attempts, shortTime(row.FirstSentAt), shortTime(row.FinishedAt), oneLine(row.LastError))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if waiting > 0 {
		fmt.Fprintf(stderr, "%d of these wait for a person (needs_review): phantom tasks show ID says why, and what to do\n", waiting)
	}
	return nil
}

// tasksOne is what to do with the one task that args name.
func tasksOne(action string, args []string, stdout, stderr io.Writer) (func(context.Context, *pgxpool.Pool) error, error) {
	if len(args) == 1 && isHelp(args[0]) {
		fmt.Fprintln(stdout, "Usage:", tasksUsage)
		return nil, flag.ErrHelp
	}
	if len(args) != 1 {
		return nil, fmt.Errorf("phantom tasks %s takes one argument, a task's id: phantom tasks list shows them", action)
	}
	id, err := uuid.Parse(strings.TrimPrefix(args[0], "task_")) // as Stripe's log shows it, too
	if err != nil {
		return nil, fmt.Errorf("phantom tasks %s: %.80q is no task's id: phantom tasks list shows them", action, args[0])
	}
	return func(ctx context.Context, pool *pgxpool.Pool) error {
		queries := db.New(pool)
		row, err := queries.TaskShow(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("phantom tasks %s: there is no task %s: finished ones go after 7 days, and DATABASE_URL may name another database", action, id)
		}
		if err == nil {
			switch action {
			case "show":
				return showTask(row, stdout)
			case "retry":
				err = retryTask(ctx, queries, row, stderr)
			case "cancel":
				err = db.InTx(ctx, pool, func(tx pgx.Tx) error { return cancelTask(ctx, tx, row, stderr) })
			}
		}
		var refused refusal
		if err != nil && !errors.As(err, &refused) {
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
		return err
	}, nil
}

// refusal is why a person's wish is not done, and what to do instead.
type refusal string

func (r refusal) Error() string { return string(r) }

func retryTask(ctx context.Context, queries *db.Queries, row db.TaskShowRow, stderr io.Writer) error {
	what := fmt.Sprintf("phantom tasks retry: task %s ", row.ID)
	switch row.Status {
	case "needs_review":
	case "pending", "running":
		return refusal(what + "is " + row.Status + ": it is tried again by itself")
	case "parked":
		return refusal(what + "is parked: it goes on by itself when Stripe accepts " + row.Account + "'s token again, or " + row.Account + " connects again")
	default:
		return refusal(what + "is " + row.Status + ": a finished task is never run again")
	}
	if recovery.Writes(row.Kind) && row.Message != "planned" && row.Message != "sending" {
		return refusal(what + "has ended its message, which is not sent again: look for it in the log of Resend or Twilio, and close it with cancel")
	}
	if row.TooOld && !recovery.Mutates(row.Kind) && !recovery.Writes(row.Kind) { // a mutation's key is not sent again: its outcome is read
		return refusal(what + "was first sent over 20 h ago, and Stripe may have forgotten its key: close it with cancel; the hunt plans a new attempt")
	}
	retry := func() (int64, error) {
		return queries.TaskRetryYoung(ctx, db.TaskRetryYoungParams{MerchantID: row.MerchantID, ID: row.ID})
	}
	if recovery.Mutates(row.Kind) || recovery.Writes(row.Kind) { // they look before they send, and know how old a key is
		retry = func() (int64, error) {
			return queries.TaskRetry(ctx, db.TaskRetryParams{MerchantID: row.MerchantID, ID: row.ID})
		}
	}
	changed, err := retry()
	if err != nil {
		return err
	}
	if changed == 0 {
		return refusal(what + "has changed at this moment: look at it again with phantom tasks show")
	}
	fmt.Fprintf(stderr, "task %s is pending again: the next free worker runs it\n", row.ID)
	return queries.TaskNotify(ctx)
}

func cancelTask(ctx context.Context, tx db.DBTX, row db.TaskShowRow, stderr io.Writer) error {
	what := fmt.Sprintf("phantom tasks cancel: task %s ", row.ID)
	changed, err := db.New(tx).TaskCancel(ctx, db.TaskCancelParams{MerchantID: row.MerchantID, ID: row.ID})
	switch {
	case err != nil:
		return err
	case changed == 1:
		if err := planAfterCancel(ctx, tx, row); err != nil {
			return err
		}
		fmt.Fprintf(stderr, "task %s is canceled: it is never run again\n", row.ID)
		return nil
	case row.Status == "running":
		return refusal(what + "runs at this moment: wait until that has ended")
	case row.Status == "parked":
		return refusal(what + "was sent before it was parked, and what it did is not known: when " + row.Account +
			" is accepted or connects again it finds that out, and ends by itself or asks for you with status needs_review")
	case row.Status == "pending":
		return refusal(what + "has been sent, and what it did is being found out: it ends by itself, or asks for you with status needs_review")
	}
	return refusal(what + "is " + row.Status + ": there is nothing left to cancel")
}

// planAfterCancel has a hunt go on whose charge or message a person has given up, having looked at it.
func planAfterCancel(ctx context.Context, tx db.DBTX, row db.TaskShowRow) error {
	queries := db.New(tx)
	switch {
	case recovery.Writes(row.Kind):
		if err := recovery.CancelMessage(ctx, tx, row.MerchantID, row.ID); err != nil {
			return err
		}
	case !recovery.Mutates(row.Kind):
		return nil
	}
	params, err := queries.TaskGetParams(ctx, db.TaskGetParamsParams{MerchantID: row.MerchantID, ID: row.ID})
	if err != nil {
		return err
	}
	plan, named := recovery.PlanAgain(row.MerchantID, params)
	if !named {
		return nil
	}
	if _, err := queries.TaskEnqueue(ctx, plan); err != nil {
		return err
	}
	return queries.TaskNotify(ctx)
}

func showTask(row db.TaskShowRow, stdout io.Writer) error {
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	line := func(name, value string) { fmt.Fprintf(table, "%s\t%s\n", name, value) }
	line("id", row.ID.String())
	line("idempotency key", "task_"+row.ID.String())
	line("status", row.Status)
	line("kind", row.Kind)
	line("merchant", row.Account)
	line("created", shortTime(&row.CreatedAt))
	line("run at", shortTime(&row.RunAt))
	line("attempts", fmt.Sprint(row.Attempts))
	line("lease until", shortTime(row.LeaseUntil))
	line("first sent", shortTime(row.FirstSentAt))
	line("finished", shortTime(row.FinishedAt))
	line("params", string(row.Params))
	if row.Sealed {
		line("sealed params", "there are some; they are never shown")
	}
	outcome := string(row.Outcome)
	line("outcome", oneLine(given(outcome)))
	line("last error", oneLine(row.LastError))
	if err := table.Flush(); err != nil {
		return err
	}
	if row.Status != "needs_review" {
		return nil
	}
	_, err := fmt.Fprint(stdout, "\n", reviewAdvice(row))
	return err
}

// reviewAdvice explains needs_review to whoever sees it for the first time.
func reviewAdvice(row db.TaskShowRow) string {
	why := "no reason was noted."
	if row.LastError != nil {
		why = oneLine(row.LastError)
	}
	text := "needs_review means that PHANTOM has stopped: it is not sure that another try is right, and a person decides.\n" +
		"Why this one: " + why + "\n\nWhat to do:\n"
	if recovery.Writes(row.Kind) {
		return text + messageAdvice(row)
	}
	if !slices.Contains(harmless, row.Kind) {
		text += "  first  look at the object that params name in Stripe's dashboard, as " + row.Account + ": this kind of task may move money\n" +
			"         or write to a customer, and what it wanted may have happened already\n"
	}
	if row.TooOld && !recovery.Mutates(row.Kind) {
		return text + "  then   phantom tasks cancel " + row.ID.String() + "\n" +
			"         Its key was first sent over 20 h ago and Stripe may have forgotten it, so it must not be tried again: close it with\n" +
			"         cancel; the hunt plans a new attempt.\n"
	}
	return text + "  either phantom tasks retry " + row.ID.String() + "   once the cause is gone: it runs at once, under the same key\n" +
		"  or     phantom tasks cancel " + row.ID.String() + "  if it is not wanted any more, or has happened already\n"
}

// messageAdvice is for an email or an SMS.
func messageAdvice(row db.TaskShowRow) string {
	retry, cancel := "phantom tasks retry "+row.ID.String(), "phantom tasks cancel "+row.ID.String()
	switch row.Message {
	case "planned": // nothing has left
		return "  either mend the cause: setting the channel anew (PUT /api/channels/resend or /twilio) lets it go by itself; for anything else\n" +
			"         " + retry + "\n" +
			"  or     " + cancel + "   if it is not wanted any more: the hunt goes on with its next step\n"
	case "sending":
		return "  either " + retry + "   once the cause is gone: an email goes under the same key, which Resend knows; an SMS is only looked up\n" +
			"  or     " + cancel + "   if the log of Resend or Twilio shows it, or it is not wanted any more\n"
	}
	return "  first  look in the log of Resend (emails) or Twilio (SMS) whether it was sent, at the time of 'first sent': it is not sent again\n" +
		"  then   " + cancel + "   the hunt has planned its next step already\n"
}

// oneLine keeps a stored text from breaking the table or driving the terminal.
func oneLine(text *string) string {
	if text == nil {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, *text)
}

// given is nil for a flag that was left out.
func given(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
