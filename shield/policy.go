package shield

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"phantom/input"
	"phantom/money"
	"phantom/zone"
)

// Mode is whether a policy is obeyed.
type Mode string

// The modes.
const (
	Off     Mode = "off"     // nothing is judged
	DryRun  Mode = "dry_run" // judged and recorded, and everybody keeps full access
	Enforce Mode = "enforce"
)

// Words of a policy that say what a fact does to a level.
const (
	Hold         = "hold"   // the level does not fall
	FollowLadder = "ladder" // as any other debt
	Keep         = "keep"
	Ignore       = "ignore"
	Apply        = "apply"
)

// Policy is what a merchant wants of access. Its JSON is part of the HTTP API; what is left out
// takes its default, and nothing may be null.
type Policy struct {
	Mode Mode `json:"mode"`
	// no debt counts as older; zero: each counts from its own beginning
	EffectiveFrom Moment `json:"effective_from,omitzero"`

	Ladder Ladder `json:"ladder"`
	// ladders of their own, by Stripe's id; a price's comes before its product's
	Products map[string]Ladder `json:"products"`
	Prices   map[string]Ladder `json:"prices"`

	Features Features `json:"features"`
	// "best" or "worst": which of their subscriptions' levels counts
	Customer   string `json:"customer"`
	NeverBelow Level  `json:"never_below"` // no debt leaves less than this

	PaidPeriod string     `json:"paid_period"` // "keep": grace at least while it lasts; or "ignore"
	Dispute    string     `json:"dispute"`     // an open one: "hold" or "ladder"
	Paused     Level      `json:"paused"`      // of a subscription whose service is paused
	Ended      Ending     `json:"ended"`
	WrittenOff string     `json:"written_off"` // "hold", "ladder" or "full"
	Promise    Promise    `json:"promise"`
	Hysteresis Hysteresis `json:"hysteresis"`
	Hours      Hours      `json:"hours"` // the only ones in which a debt lowers a level
	Breaker    Breaker    `json:"breaker"`

	Unknown    Level    `json:"unknown"` // of a customer of whom nothing is known
	Fail       Fail     `json:"fail"`
	VerdictTTL Duration `json:"verdict_ttl"` // of a signed verdict that allows
	Holdout    string   `json:"holdout"`     // whom hunts leave alone to compare with: "apply" or "full"
}

// Ladder is how a debt lowers a level as it grows older.
type Ladder struct {
	Steps []Step `json:"steps"`
	// minor units by currency, below which a debt lowers nothing
	MinAmount map[string]int64 `json:"min_amount"`
}

// Step is what a debt of so many days lowers a subscription to.
type Step struct {
	Level     Level `json:"level"`
	AfterDays int   `json:"after_days"`
}

// Features name what an app still gives at the levels without access. Billing is always among them.
type Features struct {
	Limited []string `json:"limited"`
	Blocked []string `json:"blocked"`
}

// Billing is the feature that every level has: nobody is locked out of paying.
const Billing = "billing"

// Ending is what becomes of a subscription that has ended.
type Ending struct {
	Level     Level `json:"level"`
	GraceDays int   `json:"grace_days"`
}

// Promise bounds what customers may promise.
type Promise struct {
	MaxDays int `json:"max_days"`
	PerYear int `json:"per_year"`
}

// Hysteresis keeps levels from flapping.
type Hysteresis struct {
	MinDaysPerStep int `json:"min_days_per_step"` // between two steps down
	// a new debt so soon after the last one goes on from the step that one had come to; 0: none
	// does
	RelapseDays int `json:"relapse_days"`
}

// Breaker is how much may be lowered to limited or blocked in 24 hours before a person is asked.
type Breaker struct {
	MaxCustomersPercent float64 `json:"max_customers_percent"`
	MaxMRRPercent       float64 `json:"max_mrr_percent"`
	AlwaysAllowed       int     `json:"always_allowed"` // customers
}

// Fail is what is answered while nothing newer is known.
type Fail struct {
	Mode     string   `json:"mode"` // "last_known", "open" or "closed"
	MaxStale Duration `json:"max_stale"`
}

// Duration is a time.Duration as text, such as 24h.
type Duration time.Duration

// MarshalText writes it without what is zero.
func (d Duration) MarshalText() ([]byte, error) {
	text := time.Duration(d).String()
	for _, zero := range [][2]string{{"m0s", "m"}, {"h0m", "h"}} {
		if rest, ok := strings.CutSuffix(text, zero[0]); ok {
			text = rest + zero[1]
		}
	}
	return []byte(text), nil
}

// UnmarshalText reads what time.ParseDuration reads. Anything else is 0, which no field takes: so
// the error names the field.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		parsed = 0
	}
	*d = Duration(parsed)
	return nil
}

// Moment is a time as RFC 3339 has it.
type Moment struct{ time.Time }

// noMoment is what was sent in place of one.
var noMoment = Moment{time.Unix(0, 0)}

// UnmarshalJSON reads one. Anything else is noMoment, so that the error names the field.
func (m *Moment) UnmarshalJSON(text []byte) error {
	if m.Time.UnmarshalJSON(text) != nil {
		*m = noMoment
	}
	return nil
}

// Default is what holds where a merchant has said nothing.
func Default() Policy {
	return Policy{
		Mode: Off,
		Ladder: Ladder{
			Steps:     []Step{{Notice, 0}, {Grace, 3}, {Limited, 10}, {Blocked, 21}},
			MinAmount: map[string]int64{"usd": 500},
		},
		Products: map[string]Ladder{}, Prices: map[string]Ladder{},
		Features: Features{Limited: []string{"login", "export", Billing}, Blocked: []string{Billing}},
		Customer: "best", NeverBelow: Blocked,
		PaidPeriod: Keep, Dispute: Hold, Paused: Limited, Ended: Ending{Level: Blocked}, WrittenOff: Hold,
		Promise:    Promise{MaxDays: 14, PerYear: 2},
		Hysteresis: Hysteresis{MinDaysPerStep: 1, RelapseDays: 30},
		Hours:      Hours{Days: []int{1, 2, 3, 4}, From: "09:00", To: "17:00"},
		Breaker:    Breaker{MaxCustomersPercent: 2, MaxMRRPercent: 5, AlwaysAllowed: 5},
		Unknown:    Full, Fail: Fail{Mode: "last_known", MaxStale: Duration(24 * time.Hour)},
		VerdictTTL: Duration(15 * time.Minute), Holdout: Apply,
	}
}

// strict reads a policy. Currencies, products and prices are names of the merchant's own.
var strict = input.Strict{
	Only: "takes only mode, effective_from, ladder {steps [{level, after_days}], min_amount}, products and prices " +
		"{id: {steps, min_amount}}, features {limited, blocked}, customer, never_below, paid_period, dispute, paused, " +
		"ended {level, grace_days}, written_off, promise {max_days, per_year}, hysteresis {min_days_per_step, relapse_days}, " +
		"hours {days, from, to}, breaker {max_customers_percent, max_mrr_percent, always_allowed}, unknown, " +
		"fail {mode, max_stale}, verdict_ttl, holdout",
	Names: func(path string) bool {
		return path == "products" || path == "prices" || strings.HasSuffix(path, "min_amount")
	},
}

// Parse reads a policy's JSON. What is left out takes its default, and in a ladder of a product or
// a price what the policy's own ladder has. A fault is a [*input.FieldError].
func Parse(text []byte) (Policy, error) {
	p, standard := Default(), Default()
	// Lists and maps would be read over the default's elements.
	p.Ladder, p.Hours.Days, p.Features = Ladder{}, nil, Features{}
	if err := strict.Decode(text, &p); err != nil {
		return Policy{}, err
	}
	p.Ladder = p.Ladder.or(standard.Ladder)
	for _, own := range []map[string]Ladder{p.Products, p.Prices} {
		for id, ladder := range own {
			own[id] = ladder.or(p.Ladder)
		}
	}
	if p.Hours.Days == nil {
		p.Hours.Days = standard.Hours.Days
	}
	if p.Features.Limited == nil {
		p.Features.Limited = standard.Features.Limited
	}
	p.Features.Limited, p.Features.Blocked = withBilling(p.Features.Limited), withBilling(p.Features.Blocked)
	return p, p.validate()
}

// or is a ladder with what it lacks of another one.
func (l Ladder) or(other Ladder) Ladder {
	if l.Steps == nil {
		l.Steps = other.Steps
	}
	if l.MinAmount == nil {
		l.MinAmount = other.MinAmount
	}
	return l
}

// withBilling is what was asked for, and billing.
func withBilling(features []string) []string {
	if slices.Contains(features, Billing) {
		return features
	}
	return append(features, Billing)
}

var (
	productShape = regexp.MustCompile(`^prod_[A-Za-z0-9_]{1,200}$`)
	priceShape   = regexp.MustCompile(`^(price|plan)_[A-Za-z0-9_]{1,200}$`)
)

func isLevel(l Level) bool { return slices.Contains(Levels, l) }

// anyLevel says what a level must be.
const anyLevel = "must be full, notice, grace, limited or blocked"

func (p Policy) validate() error {
	within := func(n, least, most int) bool { return least <= n && n <= most }
	percent := func(f float64) bool { return f >= 0 && f <= 100 }
	oneOf := func(word string, words ...string) bool { return slices.Contains(words, word) }
	for _, rule := range []struct {
		field string
		ok    bool
		rule  string
	}{
		{"mode", slices.Contains([]Mode{Off, DryRun, Enforce}, p.Mode), "must be off, dry_run or enforce"},
		{
			"effective_from", p.EffectiveFrom.IsZero() || p.EffectiveFrom.Year() >= 2000 && p.EffectiveFrom.Year() < 2200,
			"must be a time such as 2026-12-01T00:00:00Z",
		},
		{"customer", oneOf(p.Customer, "best", "worst"), "must be best or worst"},
		{"never_below", isLevel(p.NeverBelow), anyLevel},
		{"paid_period", oneOf(p.PaidPeriod, Keep, Ignore), "must be keep or ignore"},
		{"dispute", oneOf(p.Dispute, Hold, FollowLadder), "must be hold or ladder"},
		{"paused", isLevel(p.Paused), anyLevel},
		{"ended.level", isLevel(p.Ended.Level), anyLevel},
		{"ended.grace_days", within(p.Ended.GraceDays, 0, 365), "must be a whole number from 0 to 365"},
		{"written_off", oneOf(p.WrittenOff, Hold, FollowLadder, string(Full)), "must be hold, ladder or full"},
		{"promise.max_days", within(p.Promise.MaxDays, 0, 90), "must be a whole number from 0 to 90"},
		{"promise.per_year", within(p.Promise.PerYear, 0, 52), "must be a whole number from 0 to 52"},
		{"hysteresis.min_days_per_step", within(p.Hysteresis.MinDaysPerStep, 1, 90), "must be a whole number from 1 to 90"},
		{"hysteresis.relapse_days", within(p.Hysteresis.RelapseDays, 0, 365), "must be a whole number from 0 to 365"},
		{"hours.days", areDays(p.Hours.Days), "must be some of 1 (Monday) to 7 (Sunday), each once"},
		{"hours.from", zone.IsClock(p.Hours.From), "must be a time from 00:00 to 23:59"},
		{"hours.to", (zone.IsClock(p.Hours.To) || p.Hours.To == "24:00") && p.Hours.From < p.Hours.To, "must be a time such as 17:00, later than from; 24:00 is the day's end"},
		{"breaker.max_customers_percent", percent(p.Breaker.MaxCustomersPercent), "must be a number from 0 to 100"},
		{"breaker.max_mrr_percent", percent(p.Breaker.MaxMRRPercent), "must be a number from 0 to 100"},
		{"breaker.always_allowed", within(p.Breaker.AlwaysAllowed, 0, 1000), "must be a whole number from 0 to 1000"},
		{"unknown", isLevel(p.Unknown), anyLevel},
		{"fail.mode", oneOf(p.Fail.Mode, "last_known", "open", "closed"), "must be last_known, open or closed"},
		{"fail.max_stale", p.Fail.MaxStale >= Duration(time.Minute) && p.Fail.MaxStale <= Duration(30*24*time.Hour), "must be a duration from 1m to 720h"},
		{"verdict_ttl", p.VerdictTTL >= Duration(time.Minute) && p.VerdictTTL <= Duration(15*time.Minute), "must be a duration from 1m to 15m"},
		{"holdout", oneOf(p.Holdout, Apply, string(Full)), "must be apply or full"},
	} {
		if !rule.ok {
			return input.Wrong(rule.field, rule.rule)
		}
	}
	if err := p.Ladder.check("ladder"); err != nil {
		return err
	}
	for _, own := range []struct {
		field   string
		ladders map[string]Ladder
		shape   *regexp.Regexp
		example string
	}{{"products", p.Products, productShape, "prod_…"}, {"prices", p.Prices, priceShape, "price_…"}} {
		if len(own.ladders) > 1000 {
			return input.Wrong(own.field, "may be 1000 at most")
		}
		for _, id := range slices.Sorted(maps.Keys(own.ladders)) {
			if !own.shape.MatchString(id) {
				return input.Wrong(own.field, "must be named by ids such as "+own.example)
			}
			if err := own.ladders[id].check(own.field + "." + id); err != nil {
				return err
			}
		}
	}
	return p.Features.check()
}

// check says what is wrong with a ladder: it goes down and never up, and its days grow.
func (l Ladder) check(field string) error {
	if len(l.Steps) > len(Levels)-1 {
		return input.Wrong(field+".steps", "may be 4 at most")
	}
	for i, step := range l.Steps {
		at := fmt.Sprintf("%s.steps[%d]", field, i)
		switch {
		case !slices.Contains(Levels[1:], step.Level):
			return input.Wrong(at+".level", "must be notice, grace, limited or blocked")
		case step.AfterDays < 0 || step.AfterDays > 365:
			return input.Wrong(at+".after_days", "must be a whole number from 0 to 365")
		case i > 0 && !step.Level.Below(l.Steps[i-1].Level):
			return input.Wrong(at+".level", "must leave less access than the step before")
		case i > 0 && step.AfterDays <= l.Steps[i-1].AfterDays:
			return input.Wrong(at+".after_days", "must be more than at the step before")
		}
	}
	if rule := money.Wrong(l.MinAmount); rule != "" {
		return input.Wrong(field+".min_amount", rule)
	}
	return nil
}

func (f Features) check() error {
	for _, level := range []struct {
		field string
		names []string
	}{{"features.limited", f.Limited}, {"features.blocked", f.Blocked}} {
		if len(level.names) > 100 {
			return input.Wrong(level.field, "may be 100 at most")
		}
		for i, name := range level.names {
			if !IsFeature(name) {
				return input.Wrong(fmt.Sprintf("%s[%d]", level.field, i), "must be a name of small letters, digits, _, . and -, such as export")
			}
		}
	}
	for _, name := range f.Blocked {
		if !slices.Contains(f.Limited, name) {
			return input.Wrong("features.blocked", "must not name what features.limited lacks")
		}
	}
	return nil
}

func areDays(days []int) bool {
	seen := map[int]bool{}
	for _, day := range days {
		if day < 1 || day > 7 || seen[day] {
			return false
		}
		seen[day] = true
	}
	return len(days) > 0
}

// Allows says whether a customer at a level may use a feature. An empty one is the product as a
// whole.
func (p Policy) Allows(level Level, feature string) bool {
	switch {
	case level.Access() || feature == Billing:
		return true
	case level == Limited:
		return slices.Contains(p.Features.Limited, feature)
	}
	return slices.Contains(p.Features.Blocked, feature)
}

// JSON is how a policy is stored and shown.
func (p Policy) JSON() ([]byte, error) { return json.Marshal(p) }
