package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/schollz/progressbar/v3"

	"phantom/app"
	"phantom/db"
	"phantom/ghost"
	"phantom/money"
	"phantom/state"
	"phantom/task"
	"phantom/trail"
)

func audit(ctx context.Context, call Call) error {
	flags := newFlags("audit")
	account := flags.String("merchant", "", "the account to audit, acct_…")
	sinceText := flags.String("since", "", "leave out invoices and charges created before this date, 2026-01-31 (default: the whole history)")
	asJSON := flags.Bool("json", false, "print the result as JSON")
	if err := call.parse(flags); err != nil {
		return err
	}
	if err := checkAccount("audit", *account); err != nil {
		return err
	}
	var since *time.Time
	if *sinceText != "" {
		date, err := time.Parse(time.DateOnly, *sinceText)
		if err != nil || date.After(time.Now()) {
			return misuse("phantom audit: --since %.40q is no date in the past: write it as 2026-01-31", *sinceText)
		}
		if date.Year() > 2010 { // there is nothing at Stripe from before
			since = &date
		}
	}
	a, err := call.open(ctx, app.Needs{Database: true, Key: true, Stripe: true})
	if err != nil {
		return err
	}
	defer a.Close()
	s := a.NewServices()
	merchant, err := merchantNamed(ctx, s.Connect, "audit", *account)
	if err != nil {
		return err
	}
	id, err := s.Ghosts.StartAudit(trail.By(ctx, trail.Operator("audit")), merchant, since)
	if err != nil {
		return fmt.Errorf("[WORKER] cannot start the audit: %s", db.Describe(err))
	}
	if err := seeThrough(ctx, a, s, merchant, id, call.Stderr); err != nil {
		return err
	}
	return printAudit(ctx, s.Ghosts, merchant, id, *asJSON, call.Stdout)
}

// seeThrough runs the audit in this process, or watches where another one runs it.
func seeThrough(ctx context.Context, a *app.App, s app.Services, merchant, id uuid.UUID, stderr io.Writer) error {
	queues, err := a.NewQueues(s)
	if err != nil {
		return err
	}
	watching, end := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watchAudit(watching, a.Pool, merchant, id, stderr)
	}()
	err = queues.All.RunOne(ctx, merchant, id)
	end()
	<-watched
	var rested *task.StatusError
	switch {
	case ctx.Err() != nil:
		return errors.New("[WORKER] stopped: phantom audit again goes on where this one was")
	case errors.As(err, &rested) && rested.Status == state.TaskFailed: // the audit itself says why
		return nil
	case errors.As(err, &rested) && rested.Status == state.TaskParked:
		return errors.New("[STRIPE] the merchant is disconnected: let it connect again, and the audit goes on")
	case err != nil:
		return fmt.Errorf("[WORKER] %s", db.Describe(err))
	}
	return nil
}

// watchAudit draws how far the audit is, for somebody at a terminal.
func watchAudit(ctx context.Context, pool *pgxpool.Pool, merchant, id uuid.UUID, stderr io.Writer) {
	if !app.IsTerminal(stderr) {
		return
	}
	bar := progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(stderr), progressbar.OptionSetDescription("audit"), progressbar.OptionShowCount(),
		progressbar.OptionShowIts(), progressbar.OptionSetItsString("objects"), progressbar.OptionSetPredictTime(true),
		progressbar.OptionClearOnFinish())
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			_ = bar.Finish()
			return
		case <-tick.C:
		}
		p, err := db.New(pool).AuditProgress(ctx, db.AuditProgressParams{MerchantID: merchant, ID: id})
		if err != nil || p.Objects == 0 {
			continue
		}
		// The part of the time spans that is read says how many objects there may be in all.
		if p.Read > 0.01 {
			bar.ChangeMax64(max(int64(float64(p.Objects)/p.Read), p.Objects+1))
		}
		_ = bar.Set64(p.Objects)
	}
}

func printAudit(ctx context.Context, ghosts *ghost.Service, merchant, id uuid.UUID, asJSON bool, stdout io.Writer) error {
	a, err := ghosts.Audit(ctx, merchant, id)
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	if asJSON {
		if err := json.NewEncoder(stdout).Encode(a); err != nil {
			return err
		}
	} else if a.State == state.AuditSucceeded {
		fmt.Fprintf(stdout, "%d objects read\n", a.Progress.Objects)
		for _, currency := range slices.Sorted(maps.Keys(a.Totals)) {
			t := a.Totals[currency]
			fmt.Fprintf(stdout, "%s %s, %d of them hidden\n", counted(t.Ghosts, "ghost owes", "ghosts owe"), money.Format(t.Owed, currency), t.Hidden)
		}
		if len(a.Totals) == 0 {
			fmt.Fprintln(stdout, "no ghosts")
		}
		for _, apart := range []struct {
			totals map[string]ghost.Totals
			words  string
		}{{a.WrittenOff, "written off"}, {a.ChargedBack, "charged back"}} {
			for _, currency := range slices.Sorted(maps.Keys(apart.totals)) {
				t := apart.totals[currency]
				fmt.Fprintf(stdout, "apart from these: %s %s, %s\n", counted(t.Ghosts, "debt", "debts"), apart.words, money.Format(t.Owed, currency))
			}
		}
	}
	if a.State == state.AuditFailed {
		return fmt.Errorf("[WORKER] the audit failed: %s", *a.Error)
	}
	return nil
}
