package shield

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"phantom/db"
)

// freshFor is how old a reading may be that takes access from somebody. What is older is read anew
// first: PHANTOM may have been away, or Stripe, while the customer paid.
const freshFor = time.Hour

// askAgain is when a subscription is looked at again that could not be read so far.
const askAgain = 15 * time.Minute

// bench is where rows are judged, and how.
type bench struct {
	told      bool // they were read at Stripe in this transaction
	announced bool // a payment was announced for them in this transaction

	policy    Policy
	context   db.ShieldContextRow
	zone      *time.Location
	decisions map[string][]db.ShieldDecisionsOfRow // by customer
	heldOut   []string                             // subscriptions
}

// ruling is what becomes of a row.
type ruling struct {
	before, after db.ShieldState
	facts         Facts
	visible       bool // apps are told
	lowers        bool // it takes access from somebody, by no person's word
	ask           bool // it must be read anew first
}

// judge judges rows that the transaction has locked, writes what has changed, and tells those who
// follow once it commits.
func (s *Service) judge(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, rows []db.ShieldState, b bench) error {
	if len(rows) == 0 {
		return nil
	}
	if err := b.prepare(ctx, db.New(tx), merchantID, rows); err != nil {
		return err
	}
	rulings := make([]ruling, len(rows))
	for i, row := range rows {
		if err := json.Unmarshal(row.Facts, &rulings[i].facts); err != nil {
			return fmt.Errorf("read the facts of a subscription: %w", err)
		}
		rulings[i].before, rulings[i].after = row, row
		if b.announced {
			rulings[i].before.ProvisionalUntil = nil
		}
		b.rule(&rulings[i])
	}
	// The counter of revisions is locked last.
	for _, r := range rulings {
		if r.ask && s.config.Refresh != nil {
			if err := s.config.Refresh(ctx, tx, merchantID, r.before.Subscription); err != nil {
				return fmt.Errorf("have a subscription read anew: %w", err)
			}
		}
	}
	if err := s.plan(ctx, tx, merchantID, rulings, b.context.Now); err != nil {
		return err
	}
	if err := s.guard(ctx, tx, merchantID, rulings, b); err != nil {
		return err
	}
	for i := range rulings {
		rulings[i].settle()
	}
	return s.write(ctx, tx, merchantID, rulings, b)
}

// prepare reads what all judgements of these rows go by.
func (b *bench) prepare(ctx context.Context, queries *db.Queries, merchantID uuid.UUID, rows []db.ShieldState) (err error) {
	if b.context, err = queries.ShieldContext(ctx, merchantID); err != nil {
		return fmt.Errorf("read the policy: %w", err)
	}
	if b.policy, err = Parse(b.context.Body); err != nil {
		return fmt.Errorf("read policy %d: %w", b.context.Version, err)
	}
	if b.zone, err = time.LoadLocation(b.context.Timezone); err != nil {
		b.zone = time.UTC
	}
	return b.hear(ctx, queries, merchantID, rows)
}

// hear reads what people have decided about these rows, and who is held out.
func (b *bench) hear(ctx context.Context, queries *db.Queries, merchantID uuid.UUID, rows []db.ShieldState) error {
	if len(rows) == 0 {
		return nil
	}
	params := db.ShieldDecisionsOfParams{MerchantID: merchantID}
	held := db.ShieldHeldOutParams{MerchantID: merchantID}
	for _, row := range rows {
		params.Customers = append(params.Customers, row.Customer)
		held.Subscriptions = append(held.Subscriptions, row.Subscription)
	}
	decisions, err := queries.ShieldDecisionsOf(ctx, params)
	if err != nil {
		return fmt.Errorf("read what people have decided: %w", err)
	}
	b.decisions = make(map[string][]db.ShieldDecisionsOfRow)
	for _, d := range decisions {
		b.decisions[d.Customer] = append(b.decisions[d.Customer], d)
	}
	if b.policy.Holdout == string(Full) {
		if b.heldOut, err = queries.ShieldHeldOut(ctx, held); err != nil {
			return fmt.Errorf("read who is held out: %w", err)
		}
	}
	return nil
}

// standing is what people have decided about a row. Of several overrides or promises the newest
// counts.
func (b *bench) standing(row db.ShieldState) Standing {
	standing := Standing{Zone: b.zone}
	for _, d := range b.decisions[row.Customer] {
		if d.Subscription != "" && d.Subscription != row.Subscription {
			continue
		}
		until := d.Until
		if until.Year() <= 1 {
			until = time.Time{}
		}
		switch d.Kind {
		case decisionOverride:
			standing.Override = &Override{Level: Level(d.Level), Until: until}
		case decisionPromise:
			standing.PromisedUntil = until
		case decisionExemption:
			standing.Exempt = true
		}
	}
	return standing
}

// rule judges one row into what it becomes.
func (b *bench) rule(r *ruling) {
	row, now := &r.after, b.context.Now
	if b.policy.Mode == Off {
		*row = unjudged(*row)
		return
	}
	standing := b.standing(*row)
	// While a payment is announced, nothing falls, and nothing is decided, unless a person says so.
	announced := row.ProvisionalUntil != nil && !b.told && standing.Override == nil
	if announced && row.ProvisionalUntil.After(now) {
		row.NextAt = row.ProvisionalUntil
		return
	}
	// Nobody has read it since: who has paid does not fall by what was read before.
	if announced {
		r.ask = true
		row.ProvisionalUntil = timeOrNil(now.Add(askAgain))
		row.NextAt = row.ProvisionalUntil
		return
	}
	row.ProvisionalUntil = nil
	was := stateOf(*row)
	sub := r.facts.judged(b.policy, was, slices.Contains(b.heldOut, row.Subscription))
	j := Judge(b.policy, sub, standing, was, now)
	lower := j.Level.Below(was.Level) && j.Level.Below(Grace) && j.Reason != ByOverride
	row.Spared, row.Passed = row.Spared && (j.InDebt || lower), row.Passed && (j.InDebt || lower)
	switch {
	case lower && row.Spared: // a person has said no
		row.Held, row.Ahead = false, []byte("[]")
		row.Target, row.NextAt = string(j.Target), timeOrNil(now.Add(24*time.Hour))
		return
	case lower && !b.told && now.Sub(row.ToldAt) > freshFor:
		r.ask, row.Held = true, row.Held && b.context.Held
		row.Target, row.NextAt = string(j.Target), timeOrNil(now.Add(askAgain))
		return
	}
	r.lowers = lower && row.Shown != "" && !row.Passed
	row.Held = false
	setState(row, j)
	var ahead []Next
	if !j.NextAt.IsZero() {
		ahead = Ahead(b.policy, sub, standing, j)
	}
	row.Ahead = mustJSON(ahead)
}

// hold leaves a row as it was, but for where it would go: the breaker is open.
func (r *ruling) hold() {
	target, next := r.after.Target, r.after.NextAt
	after := r.before
	after.Held, after.Target, after.NextAt, after.ProvisionalUntil = true, target, next, nil
	after.Ahead = []byte("[]")
	r.after, r.lowers = after, false
}

// settle says whether anybody has to be told.
func (r *ruling) settle() {
	r.after.Shown = r.after.Customer + " " + r.facts.product()
	if r.after.Gone {
		r.after.Shown = ""
	}
	before, after := RowOf(r.before, r.facts), RowOf(r.after, r.facts)
	r.visible = r.before.Shown != r.after.Shown || !before.equal(after)
}

// unjudged is a row under a policy that judges nobody.
func unjudged(row db.ShieldState) db.ShieldState {
	if row.Level != string(Full) || row.Reason != "" {
		row.Level, row.Reason = string(Full), ""
	}
	row.Target, row.Lowest = string(Full), string(Full)
	row.Held, row.Spared, row.Passed, row.InDebt, row.Reached = false, false, false, false, 0
	row.ProvisionalUntil, row.LoweredAt, row.HeldAt, row.DebtEndedAt, row.NextAt = nil, nil, nil, nil, nil
	row.Ahead = []byte("[]")
	return row
}

func stateOf(row db.ShieldState) State {
	s := State{
		Level: Level(row.Level), Reason: Reason(row.Reason), Since: row.Since, InDebt: row.InDebt, Lowest: Level(row.Lowest),
		Reached: int(row.Reached),
	}
	if row.LoweredAt != nil {
		s.LoweredAt = *row.LoweredAt
	}
	if row.HeldAt != nil {
		s.HeldAt = Level(*row.HeldAt)
	}
	if row.DebtEndedAt != nil {
		s.DebtEndedAt = *row.DebtEndedAt
	}
	return s
}

func setState(row *db.ShieldState, j Judgement) {
	row.Level, row.Reason, row.Since, row.Target = string(j.Level), string(j.Reason), j.Since, string(j.Target)
	row.LoweredAt, row.InDebt, row.Lowest = timeOrNil(j.LoweredAt), j.InDebt, string(Worst(j.Lowest, Full))
	row.HeldAt = nil
	if j.HeldAt != "" {
		held := string(j.HeldAt)
		row.HeldAt = &held
	}
	row.DebtEndedAt, row.Reached, row.NextAt = timeOrNil(j.DebtEndedAt), int32(j.Reached), timeOrNil(j.NextAt)
}

func timeOrNil(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}

func timeOrZero(at *time.Time) time.Time {
	if at == nil {
		return time.Time{}
	}
	return *at
}

func mustJSON(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // our own fixed shapes always marshal
	}
	if bytes.Equal(text, []byte("null")) {
		return []byte("[]")
	}
	return text
}

// write stores the rulings that change something, and has those told who follow.
func (s *Service) write(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, rulings []ruling, b bench) error {
	w := db.ShieldWriteParams{MerchantID: merchantID, PolicyVersion: b.context.Version, Enforced: b.policy.Mode == Enforce}
	var told []Row
	for _, r := range rulings {
		// What is announced is stored already, and may have to go.
		if !r.visible && sameRow(r.before, r.after) && !b.announced {
			continue
		}
		if err := addRow(&w, r); err != nil {
			return err
		}
		if r.visible {
			w.Raises = true
			told = append(told, RowOf(r.after, r.facts))
		}
	}
	if len(w.Subscriptions) == 0 {
		return nil
	}
	if w.Raises { // first: what follows locks the merchant's counter
		if err := s.tellChanges(ctx, tx, merchantID, rulings, b); err != nil {
			return err
		}
	}
	revision, err := db.New(tx).ShieldWrite(ctx, w)
	if err != nil {
		return fmt.Errorf("store levels: %w", err)
	}
	if !w.Raises {
		return nil
	}
	return Announce(ctx, tx, merchantID, revision, told)
}

// changed is an event: a level is another one.
type changed struct {
	Customer     string    `json:"customer"`
	Subscription string    `json:"subscription"`
	From         Level     `json:"from"`
	To           Level     `json:"to"`
	Reason       Reason    `json:"reason"`
	At           time.Time `json:"at"`
	Livemode     bool      `json:"livemode"`
}

// tellChanges tells the merchant's app of levels that have changed, under a policy that is
// enforced. Who has just become known has no change.
func (s *Service) tellChanges(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, rulings []ruling, b bench) error {
	if b.policy.Mode != Enforce {
		return nil
	}
	for _, r := range rulings {
		before, after := RowOf(r.before, r.facts), RowOf(r.after, r.facts)
		if before.Level == after.Level || r.before.Shown == "" || r.after.Gone {
			continue
		}
		if err := s.emit(ctx, tx, merchantID, "access.changed", changed{
			after.Customer, after.Subscription, before.Level, after.Level, after.Reason, b.context.Now.UTC(), r.after.Livemode,
		}); err != nil {
			return err
		}
	}
	return nil
}

// addRow adds a row to a statement, and the change of its level.
func addRow(w *db.ShieldWriteParams, r ruling) error {
	row := r.after
	w.Subscriptions = append(w.Subscriptions, row.Subscription)
	w.Levels, w.Reasons = append(w.Levels, row.Level), append(w.Reasons, row.Reason)
	w.Sinces, w.Targets = append(w.Sinces, row.Since), append(w.Targets, row.Target)
	w.Helds, w.Spareds = append(w.Helds, row.Held), append(w.Spareds, row.Spared)
	w.Passeds = append(w.Passeds, row.Passed)
	w.Provisionals = append(w.Provisionals, timeOrZero(row.ProvisionalUntil))
	w.Lowereds = append(w.Lowereds, timeOrZero(row.LoweredAt))
	w.InDebts, w.Lowests = append(w.InDebts, row.InDebt), append(w.Lowests, row.Lowest)
	heldAt := ""
	if row.HeldAt != nil {
		heldAt = *row.HeldAt
	}
	w.HeldAts = append(w.HeldAts, heldAt)
	w.DebtEndeds, w.Reacheds = append(w.DebtEndeds, timeOrZero(row.DebtEndedAt)), append(w.Reacheds, row.Reached)
	w.Aheads, w.Nexts = append(w.Aheads, row.Ahead), append(w.Nexts, timeOrZero(row.NextAt))
	w.Gones, w.Shown, w.Visibles = append(w.Gones, row.Gone), append(w.Shown, row.Shown), append(w.Visibles, r.visible)
	if row.Level == r.before.Level {
		return nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make id: %w", err)
	}
	w.TransitionIds, w.TransitionSubscriptions = append(w.TransitionIds, id), append(w.TransitionSubscriptions, row.Subscription)
	w.FromLevels, w.ToLevels = append(w.FromLevels, r.before.Level), append(w.ToLevels, row.Level)
	w.TransitionReasons, w.TransitionLowereds = append(w.TransitionReasons, row.Reason), append(w.TransitionLowereds, r.lowers)
	return nil
}

// sameRow says whether two rows are stored alike.
func sameRow(a, b db.ShieldState) bool {
	return a.Level == b.Level && a.Reason == b.Reason && a.Since.Equal(b.Since) && a.Target == b.Target && a.Held == b.Held && a.Spared == b.Spared && a.Passed == b.Passed &&
		sameTime(a.ProvisionalUntil, b.ProvisionalUntil) && sameTime(a.LoweredAt, b.LoweredAt) && a.InDebt == b.InDebt && a.Lowest == b.Lowest &&
		(a.HeldAt == nil) == (b.HeldAt == nil) && (a.HeldAt == nil || *a.HeldAt == *b.HeldAt) && sameTime(a.DebtEndedAt, b.DebtEndedAt) &&
		a.Reached == b.Reached && sameTime(a.NextAt, b.NextAt) && a.Gone == b.Gone
}

func sameTime(a, b *time.Time) bool { return a == b || a != nil && b != nil && a.Equal(*b) }
