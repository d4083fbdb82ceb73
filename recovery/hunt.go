package recovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
	"phantom/debt"
	"phantom/gate"
	"phantom/input"
	"phantom/oracle"
	"phantom/playbook"
	"phantom/state"
	"phantom/task"
	"phantom/trail"
)

// KindHunt is the kind of the task that begins a hunt, ends its window, or finds out what it has
// brought.
const KindHunt = "hunt"

type huntParams struct {
	Hunt uuid.UUID `json:"hunt"`
	// "begin", "plan", "end", "account", "method"; of no hunt "auto", "all"
	Do string `json:"do"`
}

// Started says what [Service.Start] did.
type Started struct {
	Hunts   int `json:"hunts"`
	HeldOut int `json:"held_out"`
	// not hunted by the playbook, hunted already, open no more, or of a customer who wants no
	// message any more
	Skipped int `json:"skipped"`
}

// ErrOff says that the merchant's playbook is off.
var ErrOff = input.Wrong("mode", "is off in the playbook: PUT /api/playbook with observe or recover first")

// Start begins a hunt for each of these ghosts; [Service.StartAll] does for all. A ghost that is
// hunted already is left as it is. It fails with [ErrNotFound] for an id that is no ghost of the
// merchant's, having begun nothing, and with [ErrOff].
func (s *Service) Start(ctx context.Context, merchantID uuid.UUID, ghosts []uuid.UUID) (Started, error) {
	var result Started
	newest, err := s.stored(ctx, merchantID)
	if err != nil {
		return result, err
	}
	if newest.Mode == state.ModeOff {
		return result, ErrOff
	}
	hash, err := s.connect.Hasher(ctx, merchantID)
	if err != nil {
		return result, err
	}
	list, err := s.queries.HuntGhostList(ctx, db.HuntGhostListParams{MerchantID: merchantID, Ids: ghosts})
	if err != nil {
		return result, fmt.Errorf("list ghosts: %w", err)
	}
	if len(list) < len(unique(ghosts)) {
		return result, ErrNotFound
	}
	return result, db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		o := opening{s: s, tx: tx, merchant: merchantID, playbook: newest, byHand: true, hash: hash, started: &result}
		if err := o.begin(ctx, list); err != nil || result.Hunts == 0 {
			return err
		}
		return trail.Record(ctx, tx, startOf(merchantID, newest, ghosts, result))
	})
}

// mostNamed is how many ghosts a row of the log names.
const mostNamed = 200

// startOf is what the log says of hunts that are started by hand. Those of all ghosts, who are nil
// here, begin later: how many there are is not known yet.
func startOf(merchantID uuid.UUID, playbook playbook.Versioned, ghosts []uuid.UUID, started Started) trail.Change {
	after := struct {
		Mode    state.Mode  `json:"mode"`
		Version int32       `json:"playbook_version"`
		Hunts   *int        `json:"hunts,omitempty"`
		Named   int         `json:"named,omitempty"`
		Ghosts  []uuid.UUID `json:"ghosts,omitempty"` // the first of them
	}{Mode: playbook.Mode, Version: playbook.Version}
	if ghosts == nil {
		return trail.Change{Merchant: merchantID, Action: "hunts.start", Object: "all", After: after}
	}
	after.Hunts, after.Named, after.Ghosts = &started.Hunts, len(ghosts), ghosts[:min(len(ghosts), mostNamed)]
	return trail.Change{Merchant: merchantID, Action: "hunts.start", Object: "named", After: after}
}

func unique(ids []uuid.UUID) map[uuid.UUID]bool {
	set := make(map[uuid.UUID]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

// stored returns the merchant's playbook with a version that hunts can keep: the default is stored
// when it is first used.
func (s *Service) stored(ctx context.Context, merchantID uuid.UUID) (playbook.Versioned, error) {
	v, err := s.Playbook(ctx, merchantID)
	if err != nil || v.Version > 0 {
		return v, err
	}
	// Nobody has asked for another.
	return s.SetPlaybook(trail.By(ctx, trail.Nobody), merchantID, v.Playbook)
}

// Mutates says whether tasks of a kind change something at Stripe.
func Mutates(kind string) bool { _, ok := mutations[kind]; return ok }

// planAgain is the task that has a hunt go on after a person has canceled one of its mutations,
// whose params these are. It reports false where they name no hunt.
func planAgain(merchantID uuid.UUID, canceled []byte) (db.TaskEnqueueParams, bool) {
	var p frozen
	if err := json.Unmarshal(canceled, &p); err != nil || p.Hunt == uuid.Nil {
		return db.TaskEnqueueParams{}, false
	}
	params, err := json.Marshal(huntParams{p.Hunt, "plan"})
	return db.TaskEnqueueParams{MerchantID: merchantID, ID: newID(), Kind: KindHunt, Params: params}, err == nil
}

// HandleHunt is the handler of [KindHunt].
func (s *Service) HandleHunt(ctx context.Context, t *task.Task) error {
	var p huntParams
	if err := json.Unmarshal(t.Params, &p); err != nil || p.Hunt == uuid.Nil && p.Do != doAuto && p.Do != doAll {
		return task.Review(errors.New("the task's params cannot be read"))
	}
	switch p.Do {
	case doAuto, doAll:
		return s.goOnStarting(ctx, t, p.Do == doAuto)
	case "begin":
		err := db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
			if err := s.storeForecast(ctx, tx, t.MerchantID, p.Hunt); err != nil {
				return err
			}
			return s.planNext(ctx, tx, t.MerchantID, p.Hunt)
		})
		failpoint("begun")
		return err
	case "plan": // after a person has canceled what it waited for
		return db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
			if err := closeGivenUp(ctx, db.New(tx), t.MerchantID, p.Hunt); err != nil {
				return err
			}
			return s.goOn(ctx, tx, t.MerchantID, p.Hunt)
		})
	case "end":
		return s.closeWindow(ctx, t.MerchantID, p.Hunt)
	case "account":
		return connect.Unhurried(ctx, s.countRecoveries(ctx, t.MerchantID, p.Hunt))
	case "method":
		return connect.Unhurried(ctx, s.renew(ctx, t.MerchantID, p.Hunt))
	}
	return task.Review(errors.New("the task's params ask for something unknown"))
}

// leftToPeople says what only PHANTOM would have undone of an invoice or a subscription, where a
// person has canceled that. It is empty for all other actions.
func leftToPeople(action, object string) string {
	switch action {
	case gate.KindRelease:
		return "a person has canceled giving " + object + " back to Smart Retries: see at Stripe that its automatic collection is on"
	case gate.KindResume:
		return "a person has canceled lifting the pause of " + object + ": see at Stripe that its collection goes on"
	}
	return ""
}

// closeGivenUp closes the attempts whose tasks a person has canceled. The history says what is left
// for people to do: nobody else would know that it is.
func closeGivenUp(ctx context.Context, queries *db.Queries, merchantID, huntID uuid.UUID) error {
	closed, err := queries.AttemptCancelGivenUp(ctx, db.AttemptCancelGivenUpParams{MerchantID: merchantID, HuntID: huntID})
	if err != nil {
		return fmt.Errorf("close what was given up: %w", err)
	}
	for _, a := range closed {
		if text := leftToPeople(a.Action, a.Object); text != "" {
			if err := note(ctx, queries, merchantID, huntID, a.TaskID, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// goOn plans what follows after a person has canceled something: if that was the final step,
// nothing does.
func (s *Service) goOn(ctx context.Context, tx pgx.Tx, merchantID, huntID uuid.UUID) error {
	p, err := s.lock(ctx, tx, merchantID, huntID)
	if err != nil || p.hunt.State != state.HuntActive {
		return err
	}
	there, err := p.load(ctx)
	if err != nil {
		return err
	}
	if there && p.now.After(gate.WindowEnd(p.hunt, p.playbook)) && slices.ContainsFunc(p.attempts, func(a db.Attempt) bool { return gate.IsFinal(a.Action) }) {
		return s.endHunt(ctx, tx, p.hunt, state.HuntExhausted, "the window is over; its final step was canceled")
	}
	return p.plan(ctx)
}

// closeWindow takes the playbook's final step, or ends the hunt without one. A charge that is still
// under way is waited for.
func (s *Service) closeWindow(ctx context.Context, merchantID, huntID uuid.UUID) error {
	var wait time.Duration
	err := db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		p, err := s.lock(ctx, tx, merchantID, huntID)
		if err != nil || p.hunt.State != state.HuntActive {
			return err
		}
		there, err := p.load(ctx)
		if err != nil {
			return err
		}
		pending := there && p.ghost.ClosedReason != nil && *p.ghost.ClosedReason == debt.PaymentUnderWay && gate.FinalKinds[p.playbook.FinalStep] != ""
		if pending && p.now.Before(gate.WindowEnd(p.hunt, p.playbook).Add(payPatience)) {
			wait = oneADay // until it is known what became of the payment
			return nil
		}
		if !there || p.hunt.HeldOut || p.hunt.Mode != state.ModeRecover || gate.FinalKinds[p.playbook.FinalStep] == "" || p.ghost.Status != state.GhostOpen {
			return s.endHunt(ctx, tx, p.hunt, state.HuntExhausted, "the window is over")
		}
		if why := gate.SparesFinal(p.playbook, p.ghost); why != "" {
			// it would wait for ever, or as long as a year's subscription goes on
			return s.endHunt(ctx, tx, p.hunt, state.HuntExhausted, "the window is over; its final step was not taken: "+why.Words())
		}
		if err := cancelUnsent(ctx, p.queries, p.hunt, gate.WindowOver, gate.WindowOver.Words()); err != nil {
			return err
		}
		if err := closeGivenUp(ctx, p.queries, merchantID, huntID); err != nil {
			return err
		}
		if p.attempts, err = p.queries.AttemptListOfHunt(ctx, db.AttemptListOfHuntParams{MerchantID: merchantID, HuntID: huntID}); err != nil {
			return fmt.Errorf("list attempts: %w", err)
		}
		if slices.ContainsFunc(p.attempts, func(a db.Attempt) bool { return a.Result == nil }) {
			wait = 10 * time.Minute
			return nil
		}
		if planned, err := p.final(ctx); planned || err != nil {
			return err
		}
		return s.endHunt(ctx, tx, p.hunt, state.HuntExhausted, "the window is over")
	})
	if err == nil && wait > 0 {
		return task.Snooze(wait)
	}
	return err
}

// payPatience is how long behind its window a hunt waits for a payment that is under way. Banks
// take days; a customer who must confirm a payment may never do so.
const payPatience = 14 * 24 * time.Hour

// closeLater has a hunt's window closed once more, where it is over. Its end may be planned
// already.
func closeLater(ctx context.Context, tx db.DBTX, hunt db.Hunt) error {
	window, err := db.New(tx).HuntGetWindow(ctx, db.HuntGetWindowParams{MerchantID: hunt.MerchantID, ID: hunt.ID})
	if err != nil {
		return fmt.Errorf("read the window: %w", err)
	}
	if window.Ends.After(window.Now) {
		return nil
	}
	return planEnd(ctx, tx, hunt, window.Now.Add(time.Hour))
}

func planEnd(ctx context.Context, tx db.DBTX, hunt db.Hunt, at time.Time) error {
	_, err := task.Enqueue(ctx, tx, task.New{
		MerchantID: hunt.MerchantID, Kind: KindHunt, UniqueKey: endKey(hunt.ID), RunAt: at, Params: huntParams{hunt.ID, "end"},
	})
	return err
}

// cancelUnsent cancels what a hunt has planned and not sent. c is why, where that is a code of the
// gate's.
func cancelUnsent(ctx context.Context, queries *db.Queries, hunt db.Hunt, c gate.Code, why string) error {
	if _, err := queries.TaskCancelKeys(ctx, db.TaskCancelKeysParams{
		MerchantID: hunt.MerchantID, UniqueKeys: []string{chargeKey(hunt.ID), messageKey(hunt.ID), beginKey(hunt.ID)}, Why: why,
	}); err != nil {
		return fmt.Errorf("cancel tasks: %w", err)
	}
	if err := queries.AttemptCancelUnsent(ctx, db.AttemptCancelUnsentParams{MerchantID: hunt.MerchantID, HuntID: hunt.ID}); err != nil {
		return fmt.Errorf("cancel attempts: %w", err)
	}
	if err := queries.HuntMessageSkipPlanned(ctx, db.HuntMessageSkipPlannedParams{MerchantID: hunt.MerchantID, HuntID: hunt.ID, Why: why, Code: string(c)}); err != nil {
		return fmt.Errorf("skip messages: %w", err)
	}
	return nil
}

// endHunt ends a hunt, whose row the caller has locked, with all that it has planned, and has what
// it brought counted. What is being sent at the moment was marked before; everything else sees the
// end.
func (s *Service) endHunt(ctx context.Context, tx db.DBTX, hunt db.Hunt, end state.Hunt, reason string) error {
	queries := db.New(tx)
	ended, err := queries.HuntEnd(ctx, db.HuntEndParams{MerchantID: hunt.MerchantID, ID: hunt.ID, State: end, Reason: reason})
	if err != nil || ended == 0 {
		return err
	}
	if err := cancelUnsent(ctx, queries, hunt, gate.HuntEnded, gate.HuntEnded.Words()+": "+reason); err != nil {
		return err
	}
	if _, err := queries.TaskCancelKeys(ctx, db.TaskCancelKeysParams{
		MerchantID: hunt.MerchantID, UniqueKeys: []string{endKey(hunt.ID)}, Why: "the hunt has ended",
	}); err != nil {
		return fmt.Errorf("cancel tasks: %w", err)
	}
	if err := note(ctx, queries, hunt.MerchantID, hunt.ID, uuid.Nil, string(end)+": "+reason); err != nil {
		return err
	}
	if end != state.HuntRecovered {
		if err := s.giveBack(ctx, tx, hunt); err != nil {
			return err
		}
	}
	if err := s.tellEnd(ctx, tx, hunt, end, reason); err != nil {
		return err
	}
	return countRecoveriesLater(ctx, tx, hunt)
}

// tellEnd tells the merchant's app that a hunt has ended. One that only watched is nobody's news.
func (s *Service) tellEnd(ctx context.Context, tx db.DBTX, hunt db.Hunt, end state.Hunt, reason string) error {
	if s.config.Emit == nil || hunt.Mode == state.ModeObserve {
		return nil
	}
	kind := "hunt.ended"
	if end == state.HuntRecovered {
		kind = "hunt.recovered"
	}
	return s.config.Emit(ctx, tx, hunt.MerchantID, kind, struct {
		Hunt     uuid.UUID  `json:"hunt"`
		Ghost    uuid.UUID  `json:"ghost"`
		State    state.Hunt `json:"state"`
		Reason   string     `json:"reason"`
		Amount   int64      `json:"amount"` // minor units, when it began
		Currency string     `json:"currency"`
	}{hunt.ID, hunt.GhostID, end, reason, hunt.Amount, hunt.Currency})
}

// giveBack plans that Smart Retries gets back what a hunt has taken over from it and what nobody
// would collect any more, unless the playbook keeps it. It may be called any number of times.
func (s *Service) giveBack(ctx context.Context, tx db.DBTX, hunt db.Hunt) error {
	p := s.planning(tx, hunt)
	there, err := p.load(ctx)
	if err != nil || there && !p.playbook.GiveBack {
		return err
	}
	if !there {
		if p.attempts, err = p.queries.AttemptListOfHunt(ctx, db.AttemptListOfHuntParams{MerchantID: hunt.MerchantID, HuntID: hunt.ID}); err != nil {
			return fmt.Errorf("list attempts: %w", err)
		}
		if slices.ContainsFunc(p.attempts, func(a db.Attempt) bool { return isTaken(p.attempts, a.Object) }) {
			return note(ctx, p.queries, hunt.MerchantID, hunt.ID, uuid.Nil, "purged while an invoice is taken over from Smart Retries: turn on its automatic collection at Stripe")
		}
		return nil
	}
	for _, invoice := range hunt.Invoices {
		object := p.hash("invoice", invoice)
		// A hunt of before may have taken it over, and left it to this one.
		if p.attempts, err = p.queries.AttemptListOfObject(ctx, db.AttemptListOfObjectParams{MerchantID: hunt.MerchantID, Object: object}); err != nil {
			return fmt.Errorf("list attempts: %w", err)
		}
		if !isTaken(p.attempts, object) || slices.ContainsFunc(p.attempts, func(a db.Attempt) bool {
			return a.Action == gate.KindRelease && a.Result == nil && bytes.Equal(a.Object, object)
		}) {
			continue
		}
		if err := p.planMutation(ctx, gate.KindRelease, invoice, p.ghost.OwedOf(invoice), oracle.Moment{At: p.now, Reason: "the hunt has ended without a payment", Probability: 1}); err != nil {
			return err
		}
	}
	return nil
}

// countRecoveriesLater has what a hunt has brought counted at the end of the running five seconds.
// What changes until then is seen by that count, and what changes while it runs falls into the next
// five.
func countRecoveriesLater(ctx context.Context, tx db.DBTX, hunt db.Hunt) error {
	now, err := db.New(tx).Now(ctx)
	if err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	return accountAfter(ctx, tx, hunt, now)
}

// accountAfter has it counted at the end of the five seconds that hold a moment.
func accountAfter(ctx context.Context, tx db.DBTX, hunt db.Hunt, moment time.Time) error {
	at := moment.Truncate(accountEvery).Add(accountEvery)
	_, err := task.Enqueue(ctx, tx, task.New{
		MerchantID: hunt.MerchantID, Kind: KindHunt, RunAt: at, UniqueKey: fmt.Sprintf("account:%s:%d", hunt.ID, at.Unix()), Params: huntParams{hunt.ID, "account"},
	})
	return err
}

const accountEvery = 5 * time.Second

// Stop ends a hunt by the merchant's word. It fails with [ErrNotFound]; a hunt that has ended stays
// as it is.
func (s *Service) Stop(ctx context.Context, merchantID, huntID uuid.UUID) error {
	return db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		hunt, err := db.New(tx).HuntLock(ctx, db.HuntLockParams{MerchantID: merchantID, ID: huntID})
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("lock hunt: %w", err)
		}
		if err := s.endHunt(ctx, tx, hunt, state.HuntStopped, "stopped by the merchant"); err != nil || hunt.State != state.HuntActive {
			return err
		}
		return trail.Record(ctx, tx, trail.Change{
			Merchant: merchantID, Action: "hunt.stop", Object: huntID.String(), Before: huntState{hunt.State}, After: huntState{state.HuntStopped},
		})
	})
}

// huntState is what the log says of a hunt.
type huntState struct {
	State state.Hunt `json:"state"`
}
