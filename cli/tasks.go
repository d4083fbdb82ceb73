package cli

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

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/app"
	"phantom/connect"
	"phantom/db"
	"phantom/gate"
	"phantom/ghost"
	"phantom/outbound"
	"phantom/purge"
	"phantom/recovery"
	"phantom/shield"
	"phantom/state"
	"phantom/task"
	"phantom/trail"
)

const tasksUsage = "phantom tasks list [--merchant acct_…] [--status STATUS] [--kind KIND] [--limit N] [--json] | show ID | retry ID | cancel ID"

// tasksActions are what can be done; all but list are done with one task.
var tasksActions = []string{"list", "show", "retry", "cancel"}

// harmless are the kinds that only read at Stripe, or do not leave this house. Every other kind may
// move money or write to somebody.
var harmless = []string{ghost.KindAudit, ghost.KindRefresh, ghost.KindWebhook, purge.Kind, connect.KindUnpark, connect.KindProbe,
	shield.KindSweep, shield.KindJudge, outbound.KindDeliver}

// tasks is the subcommand: its first argument says what to do. It reads no sealed column and needs
// no ENCRYPTION_KEY.
func tasks(ctx context.Context, call Call) error {
	if call.asksForHelp() {
		call.printUsage(tasksUsage)
		return flag.ErrHelp
	}
	if len(call.Args) == 0 {
		return misuse("%s", "phantom tasks needs an action: "+tasksUsage)
	}
	var act func(context.Context, *pgxpool.Pool) error
	var err error
	action := call.Args[0]
	call.Args = call.Args[1:]
	switch {
	case action == "list":
		act, err = tasksList(call)
	case slices.Contains(tasksActions, action):
		act, err = tasksOne(action, call)
	default:
		err = misuse("phantom tasks has no action %.40q: %s", action, tasksUsage)
	}
	if err != nil {
		return err
	}
	a, err := call.open(ctx, app.Needs{Database: true})
	if err != nil {
		return err
	}
	defer a.Close()
	return act(ctx, a.Pool)
}

// listedTask is a task as list prints it: what the merchant sees of it, and whose it is.
type listedTask struct {
	task.View
	Merchant  string    `json:"merchant"`
	CreatedAt time.Time `json:"created_at"`
}

func tasksList(call Call) (func(context.Context, *pgxpool.Pool) error, error) {
	flags := newFlags("tasks list")
	account := flags.String("merchant", "", "only tasks of this account, `acct_…`")
	status := flags.String("status", "", "only tasks of this `status`: "+strings.Join(db.Texts(state.Tasks), ", "))
	kind := flags.String("kind", "", "only tasks of this `kind`, such as audit")
	limit := flags.Int("limit", 50, "show so many at most, the newest")
	asJSON := flags.Bool("json", false, "print JSON")
	if err := call.parse(flags); err != nil {
		return nil, err
	}
	switch {
	case *account != "" && !connect.IsAccount(*account):
		return nil, checkAccount("tasks list", *account)
	case *status != "" && !slices.Contains(db.Texts(state.Tasks), *status):
		return nil, misuse("phantom tasks list: --status %.40q is none: provide one of %s", *status, strings.Join(db.Texts(state.Tasks), ", "))
	case *limit < 1 || *limit > 100_000:
		return nil, misuse("phantom tasks list: --limit %d is not usable: provide a number from 1 to 100000", *limit)
	}
	return func(ctx context.Context, pool *pgxpool.Pool) error {
		if *account != "" {
			if _, err := merchantNamed(ctx, merchants(pool), "tasks list", *account); err != nil {
				return err
			}
		}
		rows, err := db.New(pool).TaskListAll(ctx, db.TaskListAllParams{Account: given(*account), Status: given(*status), Kind: given(*kind), Most: int32(*limit)})
		if err != nil {
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
		if *asJSON {
			return printTasksJSON(rows, call.Stdout)
		}
		return printTasks(rows, call.Stdout, call.Stderr)
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
		if row.Status == state.TaskNeedsReview {
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
func tasksOne(action string, call Call) (func(context.Context, *pgxpool.Pool) error, error) {
	if len(call.Args) == 1 && call.asksForHelp() {
		call.printUsage(tasksUsage)
		return nil, flag.ErrHelp
	}
	if len(call.Args) != 1 {
		return nil, misuse("phantom tasks %s takes one argument, a task's id: phantom tasks list shows them", action)
	}
	// as Stripe's log shows it, too
	id, err := uuid.Parse(strings.TrimPrefix(call.Args[0], "task_"))
	if err != nil {
		return nil, misuse("phantom tasks %s: %.80q is no task's id: phantom tasks list shows them", action, call.Args[0])
	}
	return func(ctx context.Context, pool *pgxpool.Pool) error {
		queries := db.New(pool)
		row, err := queries.TaskShow(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("phantom tasks %s: there is no task %s: finished ones go after 7 days, and DATABASE_URL may name another database", action, id)
		}
		if err != nil {
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
		if action == "show" {
			return showTask(row, call.Stdout)
		}
		change, done := recovery.RetryTask, "is pending again: the next free worker runs it"
		if action == "cancel" {
			change, done = recovery.CancelTask, "is canceled: it is never run again"
		}
		ctx = trail.By(ctx, trail.Operator("tasks "+action))
		err = db.InTx(ctx, pool, func(tx pgx.Tx) error { return change(ctx, tx, row) })
		var refused recovery.RefusedError
		switch {
		case errors.As(err, &refused):
			return fmt.Errorf("phantom tasks %s: task %s %w", action, id, refused)
		case err != nil:
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
		_, err = fmt.Fprintf(call.Stderr, "task %s %s\n", id, done)
		return err
	}, nil
}

func showTask(row db.TaskShowRow, stdout io.Writer) error {
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	line := func(name, value string) { fmt.Fprintf(table, "%s\t%s\n", name, value) }
	line("id", row.ID.String())
	line("idempotency key", "task_"+row.ID.String())
	line("status", string(row.Status))
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
	if row.Status != state.TaskNeedsReview {
		return nil
	}
	_, err := fmt.Fprint(stdout, "\n", reviewAdvice(row))
	return err
}

// reviewAdvice explains needs_review to the one who sees it for the first time.
func reviewAdvice(row db.TaskShowRow) string {
	why := "no reason was noted."
	if row.LastError != nil {
		why = oneLine(row.LastError)
	}
	text := "needs_review means that PHANTOM has stopped: it is not sure that another try is right, and a person decides.\n" +
		"Why this one: " + why + "\n\nWhat to do:\n"
	if gate.Writes(row.Kind) {
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
	switch state.Message(row.Message) {
	case state.MessagePlanned: // nothing has left
		return "  either mend the cause: setting the channel anew (PUT /api/channels/resend or /twilio) lets it go by itself; for anything else\n" +
			"         " + retry + "\n" +
			"  or     " + cancel + "   if it is not wanted any more: the hunt goes on with its next step\n"
	case state.MessageSending:
		return "  either " + retry + "   once the cause is gone: an email goes under the same key, which Resend knows; an SMS is only looked up\n" +
			"  or     " + cancel + "   if the log of Resend or Twilio shows it, or it is not wanted any more\n"
	default:
		return "  first  look in the log of Resend (emails) or Twilio (SMS) whether it was sent, at the time of 'first sent': it is not sent again\n" +
			"  then   " + cancel + "   the hunt has planned its next step already\n"
	}
}
