// Package playbook is what a merchant wants of their hunts: how often and until when a customer is
// charged and written to, at which hours, who is left alone, and what differs for some of them.
// A playbook is read strictly, stored in versions, and holds for a ghost by its [Segment]s.
package playbook

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/debt"
	"phantom/input"
	"phantom/state"
	"phantom/zone"
)

// Begins says whether hunts begin by themselves: for a new ghost in the transaction that stores it,
// and for all that are there once such a playbook is stored.
func (p Playbook) Begins() bool { return p.Mode == state.ModeRecover && p.Auto }

// What a playbook says of customers whose subscription ends with its period.
const (
	LeavingStop    = "stop"    // they are not hunted
	LeavingMessage = "message" // they are written to, and nothing is charged
	LeavingHunt    = "hunt"    // as all others
)

// Exclude names whom nobody hunts and nothing is sent to.
type Exclude struct {
	Customers []string `json:"customers"`
	Products  []string `json:"products"`
	Prices    []string `json:"prices"`
}

// Has says whether a ghost is excluded by its customer, a product or a price.
func (e Exclude) Has(g db.GhostTarget) bool {
	return slices.Contains(e.Customers, g.StripeCustomerID) || share(e.Products, g.Products) ||
		share(e.Prices, g.Prices)
}

// OnlyMessages says whether messages alone may leave for a customer who is about to.
func (p Playbook) OnlyMessages(leaving bool) bool {
	return leaving && p.WhenLeaving == LeavingMessage
}

// TooOld says whether an invoice of that age is left alone. Rows of before its column tell no age:
// Stripe does, before anything is charged.
func (p Playbook) TooOld(created int64, now time.Time) bool {
	return created > 0 && now.Sub(time.Unix(created, 0)) > time.Duration(p.MaxDebtAgeDays)*24*time.Hour
}

// Chosen are the invoices of a ghost that a hunt is about, the oldest first: all of them where
// somebody has named the ghost, and else those that are not too old.
func (p Playbook) Chosen(g db.GhostTarget, byHand bool, now time.Time) []debt.Invoice {
	return slices.DeleteFunc(g.Owed(), func(i debt.Invoice) bool {
		return !byHand && p.TooOld(i.Created, now)
	})
}

// Playbook is what a merchant wants of their hunts. Its JSON is part of the HTTP API; what is left
// out takes its default, and nothing may be null.
type Playbook struct {
	Mode state.Mode `json:"mode"`
	// from Smart Retries; else it is waited for
	TakeOver bool `json:"take_over"`
	// on one invoice with one card within 30 days, Stripe's own counted in
	MaxAttempts int `json:"max_attempts"`
	// on one card within 30 days, no matter who tried it
	CardBudget int `json:"card_budget"`
	WindowDays int `json:"window_days"` // after which a hunt ends
	// minor units by currency, below which nobody is hunted
	MinAmount map[string]int64 `json:"min_amount"`
	// minor units by currency that are asked for in 24 hours at most
	DailyCap   map[string]int64 `json:"daily_cap"`
	QuietHours QuietHours       `json:"quiet_hours"` // when no message is sent
	Steps      []Step           `json:"steps"`       // messages, in order
	FinalStep  string           `json:"final_step"`  // when all was in vain
	// of customers who are left alone, to compare with
	HoldoutPercent int `json:"holdout_percent"`

	// what was taken over, to Smart Retries where a hunt ends without payment
	GiveBack bool `json:"give_back"`
	// pause or cancel where the newest invoice is paid, too
	FinalStepIfPaying bool `json:"final_step_if_paying"`

	Auto bool `json:"auto"` // hunt new ghosts as they appear
	// an older invoice is only hunted where its ghost is named
	MaxDebtAgeDays int `json:"max_debt_age_days"`
	// where the subscription ends with its period
	WhenLeaving string  `json:"when_leaving"`
	Exclude     Exclude `json:"exclude"` // whom nobody hunts
	// hunt what the merchant has written off, too
	WrittenOff   bool `json:"written_off"`
	Resubscribed bool `json:"resubscribed"` // hunt who has subscribed anew, too
	// what holds instead for some ghosts: the first that takes one
	Segments []Segment `json:"segments"`
}

// Step is a message of a hunt.
type Step struct {
	AfterDays int    `json:"after_days"` // since the hunt began
	Channel   string `json:"channel"`    // "email" or "sms"
	Template  string `json:"template"`
}

// Final steps.
const (
	FinalNone          = "none"
	FinalPause         = "pause"
	FinalCancel        = "cancel"
	FinalUncollectible = "mark_uncollectible"
)

// mostAttempts within 30 days is where Stripe blocks a card itself.
const mostAttempts = 15

// Default is what holds where a merchant has said nothing.
func Default() Playbook {
	return Playbook{
		Mode: state.ModeObserve, MaxAttempts: 8, CardBudget: mostAttempts, WindowDays: 30,
		MinAmount: map[string]int64{}, DailyCap: map[string]int64{},
		QuietHours: QuietHours{From: "21:00", To: "08:00", Zone: "customer"},
		Steps: []Step{
			{AfterDays: 0, Channel: "email", Template: "payment_failed"},
			{AfterDays: 4, Channel: "email", Template: "reminder"},
			{AfterDays: 12, Channel: "email", Template: "last_notice"},
		},
		FinalStep: FinalNone, HoldoutPercent: 5, GiveBack: true,
		Auto: true, MaxDebtAgeDays: 120, WhenLeaving: LeavingMessage,
		Exclude:  Exclude{Customers: []string{}, Products: []string{}, Prices: []string{}},
		Segments: []Segment{},
	}
}

// strict reads a playbook. Currencies are names of the merchant's own, in segments too.
var strict = input.Strict{
	Only: "takes only mode, take_over, max_attempts, card_budget, window_days, min_amount, daily_cap, quiet_hours " +
		"{from, to, zone}, steps [{after_days, channel, template}], final_step, final_step_if_paying, give_back, holdout_percent, " +
		"auto, max_debt_age_days, when_leaving, exclude {customers, products, prices}, written_off, resubscribed, " +
		"segments [{name, match {products, prices, currencies, countries, min_amount}, set {any of these but mode, auto, exclude, " +
		"segments, window_days, holdout_percent}}]",
	Names: func(path string) bool {
		return strings.HasSuffix(path, "min_amount") || strings.HasSuffix(path, "daily_cap")
	},
}

// Parse reads a playbook's JSON. What is left out takes its default; a fault is a
// [*input.FieldError].
func Parse(text []byte) (Playbook, error) {
	p := Default()
	p.Steps = nil // a list would be read over the default's elements
	if err := strict.Decode(text, &p); err != nil {
		return p, err
	}
	if p.Steps == nil { // those of the default that the window has room for
		p.Steps = slices.DeleteFunc(Default().Steps, func(step Step) bool { return step.AfterDays > p.WindowDays })
	}
	if err := p.validate(); err != nil {
		return p, err
	}
	return p, p.checkSegments()
}

var (
	nameShape = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

// IsTemplateName says whether a template may be called that.
func IsTemplateName(name string) bool { return nameShape.MatchString(name) }

func (p *Playbook) validate() error {
	for _, rule := range []struct {
		field  string
		broken bool
		rule   string
	}{
		{"mode", !slices.Contains(state.Modes, p.Mode), "must be off, observe or recover"},
		{"max_attempts", p.MaxAttempts < 0 || p.MaxAttempts > mostAttempts, "must be a whole number from 0 to 15"},
		{"card_budget", p.CardBudget < 0 || p.CardBudget > mostAttempts, "must be a whole number from 0 to 15"},
		{"window_days", p.WindowDays < 1 || p.WindowDays > 60, "must be a whole number from 1 to 60"},
		{"quiet_hours.from", !zone.IsClock(p.QuietHours.From), "must be a time from 00:00 to 23:59"},
		{"quiet_hours.to", !zone.IsClock(p.QuietHours.To), "must be a time from 00:00 to 23:59"},
		{"quiet_hours.zone", !isZone(p.QuietHours.Zone), "must be customer or the name of a time zone such as Europe/Berlin"},
		{"steps", len(p.Steps) > 10, "may be 10 at most"},
		{
			"final_step", !slices.Contains([]string{FinalNone, FinalPause, FinalCancel, FinalUncollectible}, p.FinalStep),
			"must be none, pause, cancel or mark_uncollectible",
		},
		{"holdout_percent", p.HoldoutPercent < 0 || p.HoldoutPercent > 20, "must be a whole number from 0 to 20"},
		{"max_debt_age_days", p.MaxDebtAgeDays < 1 || p.MaxDebtAgeDays > 3650, "must be a whole number from 1 to 3650"},
		{"when_leaving", !slices.Contains([]string{LeavingStop, LeavingMessage, LeavingHunt}, p.WhenLeaving), "must be stop, message or hunt"},
	} {
		if rule.broken {
			return input.Wrong(rule.field, rule.rule)
		}
	}
	for field, amounts := range map[string]map[string]int64{"min_amount": p.MinAmount, "daily_cap": p.DailyCap} {
		if err := checkAmounts(field, amounts); err != nil {
			return err
		}
	}
	if err := p.Exclude.check(); err != nil {
		return err
	}
	last := 0
	for i, step := range p.Steps {
		field := fmt.Sprintf("steps[%d]", i)
		switch {
		case step.AfterDays < last || step.AfterDays > p.WindowDays:
			return input.Wrong(field+".after_days", "must not be less than the step before, nor beyond window_days")
		case step.Channel != "email" && step.Channel != "sms":
			return input.Wrong(field+".channel", "must be email or sms")
		case !IsTemplateName(step.Template):
			return input.Wrong(field+".template", "must be the name of a template")
		}
		last = step.AfterDays
	}
	return nil
}

// isZone takes the names of IANA's zones and not what else lies beside them on many machines, which
// others lack: copies under posix/, zones that count leap seconds under right/, and the machine's
// own.
func isZone(name string) bool {
	if name == "customer" {
		return true
	}
	first, _, _ := strings.Cut(name, "/")
	if slices.Contains([]string{"", "Local", "localtime", "posix", "posixrules", "right", "Factory"}, first) {
		return false
	}
	_, err := time.LoadLocation(name)
	return err == nil
}

// under is a hunt's plan under the limits of another playbook, the newest one: what a merchant
// lowers or switches off holds for what runs. The mode, the caps, the budgets, the minimum, the
// quiet hours and who is left alone (by age, by name, because they leave, have subscribed anew or
// are written off) are limits; all else is the plan.
func (p Playbook) under(newest Playbook) Playbook {
	p.Mode, p.MaxAttempts, p.CardBudget = newest.Mode, newest.MaxAttempts, newest.CardBudget
	p.MinAmount, p.DailyCap, p.QuietHours = newest.MinAmount, newest.DailyCap, newest.QuietHours
	p.MaxDebtAgeDays, p.WhenLeaving, p.Exclude = newest.MaxDebtAgeDays, newest.WhenLeaving, newest.Exclude
	p.WrittenOff, p.Resubscribed = newest.WrittenOff, newest.Resubscribed
	return p
}

// loosest is a hunt's plan under the looser of its own limits and another playbook's: by that it is
// planned, and what limits a send is asked at the send. So a limit that was lowered and is raised
// again has given nothing up.
func (p Playbook) loosest(newest Playbook) Playbook {
	loose := p.under(newest)
	loose.MaxAttempts, loose.CardBudget = max(p.MaxAttempts, newest.MaxAttempts), max(p.CardBudget, newest.CardBudget)
	loose.DailyCap = map[string]int64{}
	for currency, most := range p.DailyCap {
		if other, capped := newest.DailyCap[currency]; capped {
			loose.DailyCap[currency] = max(most, other)
		}
	}
	return loose
}

// Versioned is a stored playbook; version 0 is the default that nobody has stored.
type Versioned struct {
	Version int32 `json:"version"`
	Playbook
}

// Newest is the playbook of a merchant that holds for what begins now: the default where they have
// stored none.
func Newest(ctx context.Context, queries *db.Queries, merchantID uuid.UUID) (Versioned, error) {
	row, err := queries.PlaybookGetNewest(ctx, merchantID)
	if errors.Is(err, pgx.ErrNoRows) {
		return Versioned{Playbook: Default()}, nil
	}
	if err != nil {
		return Versioned{}, fmt.Errorf("read playbook: %w", err)
	}
	return Read(row)
}

// Read reads a stored version.
func Read(row db.Playbook) (Versioned, error) {
	p, err := Parse(row.Body)
	if err != nil {
		return Versioned{}, fmt.Errorf("read playbook %d: %w", row.Version, err)
	}
	return Versioned{row.Version, p}, nil
}

// Channels of messages.
const (
	Email = "email"
	SMS   = "sms"
)
