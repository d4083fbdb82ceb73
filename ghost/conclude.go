package ghost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"phantom/connect"
	"phantom/db"
	"phantom/debt"
	"phantom/decline"
	"phantom/oracle"
	"phantom/state"
	"phantom/task"
)

// auditTotals is what an audit found, as audits.totals stores it.
type auditTotals struct {
	Currencies     map[string]currencyTotals `json:"currencies"`   // of those who owe
	WrittenOff     map[string]currencyTotals `json:"written_off"`  // apart from these
	ChargedBack    map[string]currencyTotals `json:"charged_back"` // apart, too
	WastedAttempts int64                     `json:"wasted_attempts"`
	FeesRisked     map[string]int64          `json:"fees_risked"` // minor units
	DaysGivenAway  int64                     `json:"days_given_away"`

	// Statuses of disputes that PHANTOM does not know: see phantom doctor.
	UnknownDisputes []string `json:"unknown_disputes,omitempty"`
}

// currencyTotals are amounts in minor units and counts of one currency. AtRisk is unpaid but under
// way: a bank debit, a customer who must confirm, a dispute, an invoice not long overdue.
type currencyTotals struct {
	Owed   int64 `json:"owed"`
	AtRisk int64 `json:"at_risk"`
	Ghosts int64 `json:"ghosts"`
	Hidden int64 `json:"hidden"`
}

// What a network asks of the acquirer for another try on a card it has refused for good, in US
// cents: the rates of both networks' excessive-retry programmes for domestic cards. How much of it
// reaches the merchant is a matter of their contract: hence "risked".
const (
	visaRetryFee       = 10
	mastercardRetryFee = 50
)

// conclude judges what was read, writes what it means, and ends the audit. failed windows make it a
// failed one that keeps the rest. It can be repeated from any point, and is where it fails with
// errWidened.
func (a *audit) conclude(ctx context.Context, failed []error) error {
	if err := a.reload(ctx); err != nil {
		return err
	}
	atRisk, err := a.judgeAll(ctx, len(failed) > 0 || a.row.Since != nil)
	if err != nil {
		return err
	}
	if len(failed) == 0 && a.row.Since == nil {
		// half a history would teach the oracle what is not so
		if err := a.tellOracle(ctx); err != nil {
			return err
		}
	}
	totals, err := a.totals(ctx, atRisk)
	if err != nil {
		return err
	}
	progress, err := a.s.queries.AuditProgress(ctx, db.AuditProgressParams{MerchantID: a.row.MerchantID, ID: a.row.ID})
	if err != nil {
		return fmt.Errorf("read progress: %w", err)
	}
	finish := db.AuditFinishParams{State: state.AuditSucceeded, Totals: totals, Objects: progress.Objects}
	if len(failed) > 0 {
		finish.State = state.AuditFailed
		finish.Error = ptr(fmt.Sprintf("%d of %d windows could not be read, the first: %v: what the others held is kept; start the audit again",
			len(failed), progress.Windows, failed[0]))
	}
	if err := a.finish(ctx, finish); err != nil {
		return err
	}
	task.Log(ctx, a.s.log).Info("[WORKER] audit ends", "account", a.reader.Merchant.StripeUserID, "audit", a.row.ID, "state", finish.State, "objects", progress.Objects)
	return nil
}

// subject is a subscription with its invoices, and the ghosts that are known of it.
type subject struct {
	subscription Subscription
	debts        []Debt
	known        []db.GhostTarget
	memory       *oracle.Memory // of its customer's charges; nil where they were not read
	sealed       int            // addresses of its debts that do not open
	testClock    bool           // it is driven by one: nobody is told of it
}

// judgeAll judges every subscription that has debts or an open ghost. Where the facts are not whole
// nothing is guessed: a subscription whose history was read in part, or not at all, is read anew,
// as after a webhook.
func (a *audit) judgeAll(ctx context.Context, partial bool) (atRisk map[string]int64, err error) {
	if err := a.alone(ctx); err != nil {
		return nil, err
	}
	defer a.together()
	// The facts are new to the planner.
	if _, err := a.s.pool.Exec(ctx, "ANALYZE audit_subscriptions, audit_invoices, audit_charges, audit_disputes, audit_intents"); err != nil {
		return nil, fmt.Errorf("analyze facts: %w", err)
	}
	now, err := a.s.queries.Now(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the clock: %w", err)
	}
	j := &judging{audit: a, partial: partial, now: now, atRisk: make(map[string]int64)}
	for s, err := range a.subjects(ctx) {
		if err != nil {
			return nil, fmt.Errorf("read facts: %w", err)
		}
		if j.subjects = append(j.subjects, s); len(j.subjects) == writingBatch {
			if err := j.judge(ctx); err != nil {
				return nil, err
			}
		}
	}
	if err := j.judge(ctx); err != nil {
		return nil, err
	}
	if j.sealedFacts+j.sealedGhosts > 0 {
		task.Log(ctx, a.s.log).Warn("[SECURITY] emails that do not open are left out of the audit: phantom doctor says what to do",
			"account", a.reader.Merchant.StripeUserID, "audit", a.row.ID, "invoices", j.sealedFacts, "ghosts", j.sealedGhosts)
	}
	unseen, err := a.s.queries.GhostListUnseen(ctx, db.GhostListUnseenParams{MerchantID: a.row.MerchantID, AuditID: a.row.ID})
	if err != nil {
		return nil, fmt.Errorf("list unseen ghosts: %w", err)
	}
	if !partial {
		if err := a.tellOthers(ctx, now); err != nil {
			return nil, err
		}
	}
	return j.atRisk, a.refreshAll(ctx, append(j.unsure, unseen...))
}

// alone lets one at a time in a process go through the facts: their stream holds a connection while
// others write.
func (a *audit) alone(ctx context.Context) error {
	select {
	case a.s.concluding <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *audit) together() { <-a.s.concluding }

// tellOracle has the oracle learn from the facts, and remember who owes something.
func (a *audit) tellOracle(ctx context.Context) error {
	if _, err := oracle.Count(ctx, a.s.pool, a.reader.Merchant, a.row.ID, a.row.Until); err != nil {
		return err
	}
	if err := a.alone(ctx); err != nil {
		return err
	}
	defer a.together()
	return oracle.Gather(ctx, a.s.pool, a.reader.Merchant, a.row.ID, a.row.Until, a.reader.Hash)
}

// judging is a batch of subjects on its way into the database.
type judging struct {
	audit    *audit
	partial  bool
	now      time.Time
	atRisk   map[string]int64
	subjects []subject
	unsure   []string // subscriptions to be read whole

	// addresses that do not open, of what was read and of what is known
	sealedFacts, sealedGhosts int
}

func (j *judging) judge(ctx context.Context) error {
	a := j.audit
	var ids []string
	for _, s := range j.subjects {
		ids = append(ids, s.subscription.ID)
	}
	rows, err := a.s.queries.GhostListOfSubscriptions(ctx, db.GhostListOfSubscriptionsParams{MerchantID: a.row.MerchantID, Subscriptions: ids})
	if err != nil {
		return fmt.Errorf("list ghosts: %w", err)
	}
	known := make(map[string][]db.GhostTarget)
	for _, g := range rows {
		known[g.StripeSubscriptionID] = append(known[g.StripeSubscriptionID], g)
		if _, opens := reveal(g.Email, emailContext(g.ID)); !opens {
			j.sealedGhosts++
		}
	}
	w := &writing{s: a.s, hash: a.reader.Hash, merchant: a.row.MerchantID, live: a.row.Livemode, ticket: a.row.Ticket}
	for _, s := range j.subjects {
		s.known = known[s.subscription.ID]
		j.sealedFacts += s.sealed
		found, risk := Judge(s.subscription, s.debts, provenIn(s.known), j.now)
		for currency, amount := range risk {
			j.atRisk[currency] += amount
		}
		if s.subscription.Status == "" || j.partial && len(s.known)+len(found) > 0 {
			j.unsure = append(j.unsure, s.subscription.ID)
			continue
		}
		w.add(s, found)
		w.tell(s)
		w.lookAgain(s, j.now)
	}
	j.subjects = j.subjects[:0]
	return w.write(ctx, j.now)
}

// subjects groups the stream of facts by subscription.
func (a *audit) subjects(ctx context.Context) iter.Seq2[subject, error] {
	return func(yield func(subject, error) bool) {
		var s subject
		for row, err := range db.AuditStreamDebts(ctx, a.s.pool, a.row.MerchantID, a.row.ID) {
			if err != nil {
				yield(s, err)
				return
			}
			if row.Subscription != s.subscription.ID {
				if len(s.debts) > 0 && !yield(s, nil) {
					return
				}
				s = subject{subscription: Subscription{
					ID: row.Subscription, Customer: row.Customer, Status: row.SubscriptionStatus, Paused: row.Paused, Leaving: row.Leaving,
					Ignored: row.Ignored, Resubscribed: row.Resubscribed, Products: row.Products, Prices: row.Prices,
					Pause: row.Pause, ByUs: row.PausedByUs, EndedAt: timeOrNil(row.EndedAt), Monthly: row.Monthly,
					Currency: row.SubscriptionCurrency,
				}}
			}
			debt, opens := debtOf(row)
			if s.debts = append(s.debts, debt); !opens {
				s.sealed++
			}
		}
		if len(s.debts) > 0 {
			yield(s, nil)
		}
	}
}

// refreshAll reads subscriptions whole about which the facts leave a doubt. One that Stripe will
// not give now is left to a task.
func (a *audit) refreshAll(ctx context.Context, subscriptions []string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers / 2)
	for _, id := range subscriptions {
		group.Go(func() error {
			err := a.s.Refresh(ctx, a.row.MerchantID, id)
			var read *connect.ReadError
			if errors.As(err, &read) && !errors.Is(err, connect.ErrRevoked) {
				return a.s.RefreshLater(ctx, a.row.MerchantID, id)
			}
			return err
		})
	}
	return group.Wait()
}

// debtOf is an invoice of an audit. Where its address does not open it has none.
func debtOf(row db.AuditListDebtsRow) (d Debt, opens bool) {
	email, opens := reveal(row.Email, "audit_invoices.email:"+row.ID)
	d = Debt{
		Invoice: row.ID, Currency: row.Currency, Status: row.Status, Remaining: row.AmountRemaining, Created: row.CreatedAt, Due: row.DueAt,
		SendInvoice: row.SendInvoice, OutOfBand: row.PaidOutOfBand, AttemptCount: row.AttemptCount, Intent: row.Intent,
		Disputed: row.Disputed, Refunded: row.Refunded, CardAttempts: row.CardAttempts,
		Email: email, Lost: row.Lost, LostAt: row.LostAt, Lines: row.Lines, From: row.PeriodFrom, To: row.PeriodTo, Separate: row.Separate,
	}
	for i, at := range row.Ats {
		d.Attempts = append(d.Attempts, Attempt{
			At: at, Outcome: row.Outcomes[i], Class: decline.Class(row.Classes[i]), Code: row.Codes[i], Card: row.Cards[i], Zone: row.Zones[i],
			Country: row.Countries[i],
		})
	}
	return d, opens
}

// totals sums up, after everything is written.
func (a *audit) totals(ctx context.Context, atRisk map[string]int64) ([]byte, error) {
	t := auditTotals{
		Currencies: map[string]currencyTotals{}, WrittenOff: map[string]currencyTotals{}, ChargedBack: map[string]currencyTotals{},
		FeesRisked: map[string]int64{},
	}
	a.strange.Range(func(status, _ any) bool {
		t.UnknownDisputes = append(t.UnknownDisputes, status.(string))
		return true
	})
	slices.Sort(t.UnknownDisputes)
	rows, err := a.s.queries.GhostTotals(ctx, a.row.MerchantID)
	if err != nil {
		return nil, fmt.Errorf("sum up: %w", err)
	}
	of := map[debt.Kind]map[string]currencyTotals{debt.Owed: t.Currencies, debt.WrittenOff: t.WrittenOff, debt.ChargedBack: t.ChargedBack}
	for _, row := range rows {
		of[row.Kind][row.Currency] = currencyTotals{Owed: row.Owed, Ghosts: row.Ghosts, Hidden: row.Hidden}
		if row.Kind == debt.Owed {
			t.DaysGivenAway += row.DaysGivenAway
		}
	}
	for currency, amount := range atRisk {
		c := t.Currencies[currency]
		c.AtRisk = amount
		t.Currencies[currency] = c
	}
	waste, err := a.s.queries.AuditWaste(ctx, db.AuditWasteParams{MerchantID: a.row.MerchantID, AuditID: a.row.ID})
	if err != nil {
		return nil, fmt.Errorf("count wasted attempts: %w", err)
	}
	t.WastedAttempts = waste.Attempts
	if fees := waste.Visa*visaRetryFee + waste.Mastercard*mastercardRetryFee; fees > 0 {
		t.FeesRisked["usd"] = fees
	}
	return json.Marshal(t)
}

// provenIn says of which currencies' ghosts the merchant's app has seen the customer use the
// product.
func provenIn(known []db.GhostTarget) func(currency string) bool {
	return func(currency string) bool {
		return slices.ContainsFunc(known, func(g db.GhostTarget) bool { return g.Currency == currency && g.Access == "proven" })
	}
}
