package recovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
)

// Modes of a playbook.
const (
	ModeOff     = "off"     // no hunts
	ModeObserve = "observe" // plans and reports, touches nothing
	ModeRecover = "recover"
)

// Playbook is what a merchant wants of his hunts. Its JSON is part of the HTTP API; what is left out takes its default, and nothing may be
// null.
type Playbook struct {
	Mode           string           `json:"mode"`
	TakeOver       bool             `json:"take_over"`       // from Smart Retries; else it is waited for
	MaxAttempts    int              `json:"max_attempts"`    // on one invoice with one card within 30 days, Stripe's own counted in
	CardBudget     int              `json:"card_budget"`     // on one card within 30 days, whoever tried it
	WindowDays     int              `json:"window_days"`     // after which a hunt ends
	MinAmount      map[string]int64 `json:"min_amount"`      // minor units by currency, below which nobody is hunted
	DailyCap       map[string]int64 `json:"daily_cap"`       // minor units by currency that are asked for in 24 hours at most
	QuietHours     QuietHours       `json:"quiet_hours"`     // when no message is sent
	Steps          []Step           `json:"steps"`           // messages, in order
	FinalStep      string           `json:"final_step"`      // when all was in vain
	HoldoutPercent int              `json:"holdout_percent"` // of customers who are left alone, to compare with

	GiveBack          bool `json:"give_back"`            // what was taken over, to Smart Retries where a hunt ends without payment
	FinalStepIfPaying bool `json:"final_step_if_paying"` // pause or cancel where the newest invoice is paid, too

	Auto           bool      `json:"auto"`              // hunt new ghosts as they appear
	MaxDebtAgeDays int       `json:"max_debt_age_days"` // an older invoice is only hunted where its ghost is named
	WhenLeaving    string    `json:"when_leaving"`      // where the subscription ends with its period
	Exclude        Exclude   `json:"exclude"`           // whom nobody hunts
	WrittenOff     bool      `json:"written_off"`       // hunt what the merchant has written off, too
	Resubscribed   bool      `json:"resubscribed"`      // hunt who has subscribed anew, too
	Segments       []Segment `json:"segments"`          // what holds instead for some ghosts: the first that takes one
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

// DefaultPlaybook is what holds where a merchant has said nothing.
func DefaultPlaybook() Playbook {
	return Playbook{
		Mode: ModeObserve, MaxAttempts: 8, CardBudget: mostAttempts, WindowDays: 30,
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

const onlyFields = "takes only mode, take_over, max_attempts, card_budget, window_days, min_amount, daily_cap, quiet_hours " +
	"{from, to, zone}, steps [{after_days, channel, template}], final_step, final_step_if_paying, give_back, holdout_percent, " +
	"auto, max_debt_age_days, when_leaving, exclude {customers, products, prices}, written_off, resubscribed, " +
	"segments [{name, match {products, prices, currencies, countries, min_amount}, set {any of these but mode, auto, exclude, " +
	"segments, window_days, holdout_percent}}]"

// ParsePlaybook reads a playbook's JSON. What is left out takes its default; a fault is a [*FieldError].
func ParsePlaybook(text []byte) (Playbook, error) {
	p := DefaultPlaybook()
	p.Steps = nil // a list would be read over the default's elements
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&p)
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			return p, &FieldError{"body", "must be one JSON object"}
		}
	}
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Field != "":
		return p, &FieldError{wrong.Field, "has the wrong type"}
	case err != nil && strings.HasPrefix(err.Error(), "json: unknown field "):
		return p, &FieldError{"body", onlyFields}
	case err != nil:
		return p, &FieldError{"body", "must be a JSON object"}
	}
	if err := checkNames(text); err != nil {
		return p, err
	}
	if p.Steps == nil { // those of the default that the window has room for
		p.Steps = slices.DeleteFunc(DefaultPlaybook().Steps, func(step Step) bool { return step.AfterDays > p.WindowDays })
	}
	if err := p.validate(); err != nil {
		return p, err
	}
	return p, p.checkSegments()
}

var (
	currencyShape = regexp.MustCompile(`^[a-z]{3}$`)
	clockShape    = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)
	nameShape     = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

func (p *Playbook) validate() error {
	for _, rule := range []struct {
		field  string
		broken bool
		rule   string
	}{
		{"mode", !slices.Contains([]string{ModeOff, ModeObserve, ModeRecover}, p.Mode), "must be off, observe or recover"},
		{"max_attempts", p.MaxAttempts < 0 || p.MaxAttempts > mostAttempts, "must be a whole number from 0 to 15"},
		{"card_budget", p.CardBudget < 0 || p.CardBudget > mostAttempts, "must be a whole number from 0 to 15"},
		{"window_days", p.WindowDays < 1 || p.WindowDays > 60, "must be a whole number from 1 to 60"},
		{"quiet_hours.from", !clockShape.MatchString(p.QuietHours.From), "must be a time from 00:00 to 23:59"},
		{"quiet_hours.to", !clockShape.MatchString(p.QuietHours.To), "must be a time from 00:00 to 23:59"},
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
			return &FieldError{rule.field, rule.rule}
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
			return &FieldError{field + ".after_days", "must not be less than the step before, nor beyond window_days"}
		case step.Channel != "email" && step.Channel != "sms":
			return &FieldError{field + ".channel", "must be email or sms"}
		case !nameShape.MatchString(step.Template):
			return &FieldError{field + ".template", "must be the name of a template"}
		}
		last = step.AfterDays
	}
	return nil
}

// isZone takes the names of IANA's zones and not what else lies beside them on many machines, which others lack: copies under posix/,
// zones that count leap seconds under right/, and the machine's own.
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

// loosest is a hunt's plan under the looser of its own limits and another playbook's: by that it is planned, and what limits a send is asked at the
// send. So a limit that was lowered and is raised again has given nothing up.
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

// Playbook returns the newest playbook of a merchant.
func (s *Service) Playbook(ctx context.Context, merchantID uuid.UUID) (Versioned, error) {
	return newestPlaybook(ctx, s.queries, merchantID)
}

func newestPlaybook(ctx context.Context, queries *db.Queries, merchantID uuid.UUID) (Versioned, error) {
	row, err := queries.PlaybookGetNewest(ctx, merchantID)
	if errors.Is(err, pgx.ErrNoRows) {
		return Versioned{Playbook: DefaultPlaybook()}, nil
	}
	if err != nil {
		return Versioned{}, fmt.Errorf("read playbook: %w", err)
	}
	return versioned(row)
}

func versioned(row db.Playbook) (Versioned, error) {
	p, err := ParsePlaybook(row.Body)
	if err != nil {
		return Versioned{}, fmt.Errorf("read playbook %d: %w", row.Version, err)
	}
	return Versioned{row.Version, p}, nil
}

// SetPlaybook stores a playbook as the merchant's newest version, which hunts that begin from now on keep. Every template that its
// steps name must exist, and every channel be set up if it is to recover: else it fails with a [*FieldError].
func (s *Service) SetPlaybook(ctx context.Context, merchantID uuid.UUID, p Playbook) (Versioned, error) {
	if err := s.checkSteps(ctx, merchantID, p); err != nil {
		return Versioned{}, err
	}
	body, err := json.Marshal(p)
	if err != nil {
		return Versioned{}, fmt.Errorf("marshal playbook: %w", err)
	}
	if _, err := ParsePlaybook(body); err != nil { // whoever reads it later does so by the same rules
		return Versioned{}, err
	}
	var version int32
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		if err := queries.MerchantLock(ctx, merchantID); err != nil {
			return err
		}
		version, err = queries.PlaybookCreate(ctx, db.PlaybookCreateParams{MerchantID: merchantID, Body: body})
		if err != nil {
			return err
		}
		return huntLater(ctx, tx, merchantID, Versioned{version, p})
	})
	if err != nil {
		return Versioned{}, fmt.Errorf("store playbook: %w", err)
	}
	return Versioned{version, p}, nil
}
