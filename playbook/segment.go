package playbook

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"phantom/db"
	"phantom/debt"
	"phantom/input"
	"phantom/money"
)

// Segment is a part of a merchant's ghosts that is hunted in another way than the rest.
type Segment struct {
	Name  string  `json:"name,omitempty"`
	Match Match   `json:"match"`
	Set   Changes `json:"set"`
}

// Match says which ghosts belong to a segment: those that have one of the values of each list that
// is given, and owe as much as min_amount says of their currency, which it must name. An empty one
// takes every ghost.
type Match struct {
	Products   []string         `json:"products,omitempty"`
	Prices     []string         `json:"prices,omitempty"`
	Currencies []string         `json:"currencies,omitempty"`
	Countries  []string         `json:"countries,omitempty"`
	MinAmount  map[string]int64 `json:"min_amount,omitempty"`
}

// Changes are the fields of a playbook that a segment replaces, each as a whole. The window and the
// share of customers who are left alone are not among them: a hunt's segment may change with its
// ghost while its window must not move, and the customers who are left alone are only like the
// others where the same share of all was drawn.
type Changes struct {
	TakeOver          *bool             `json:"take_over,omitempty"`
	MaxAttempts       *int              `json:"max_attempts,omitempty"`
	CardBudget        *int              `json:"card_budget,omitempty"`
	MinAmount         *map[string]int64 `json:"min_amount,omitempty"`
	DailyCap          *map[string]int64 `json:"daily_cap,omitempty"`
	QuietHours        *QuietHours       `json:"quiet_hours,omitempty"`
	Steps             *[]Step           `json:"steps,omitempty"`
	FinalStep         *string           `json:"final_step,omitempty"`
	GiveBack          *bool             `json:"give_back,omitempty"`
	FinalStepIfPaying *bool             `json:"final_step_if_paying,omitempty"`
	MaxDebtAgeDays    *int              `json:"max_debt_age_days,omitempty"`
	WhenLeaving       *string           `json:"when_leaving,omitempty"`
	WrittenOff        *bool             `json:"written_off,omitempty"`
	Resubscribed      *bool             `json:"resubscribed,omitempty"`
}

// mostSegments bounds a playbook's segments, mostIDs each list of ids in it.
const (
	mostSegments = 50
	mostIDs      = 1000
)

// replace sets a field where there is a value for it.
func replace[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// with is the playbook of a segment.
func (p Playbook) with(c Changes) Playbook {
	replace(&p.TakeOver, c.TakeOver)
	replace(&p.MaxAttempts, c.MaxAttempts)
	replace(&p.CardBudget, c.CardBudget)
	replace(&p.MinAmount, c.MinAmount)
	replace(&p.DailyCap, c.DailyCap)
	replace(&p.QuietHours, c.QuietHours)
	replace(&p.Steps, c.Steps)
	replace(&p.FinalStep, c.FinalStep)
	replace(&p.GiveBack, c.GiveBack)
	replace(&p.FinalStepIfPaying, c.FinalStepIfPaying)
	replace(&p.MaxDebtAgeDays, c.MaxDebtAgeDays)
	replace(&p.WhenLeaving, c.WhenLeaving)
	replace(&p.WrittenOff, c.WrittenOff)
	replace(&p.Resubscribed, c.Resubscribed)
	return p
}

// For is what holds for a ghost: the playbook under the first of its segments that takes the ghost,
// and what that segment is called, "" where none does.
func (p Playbook) For(g db.GhostTarget) (merged Playbook, segment string) {
	for i, s := range p.Segments {
		if s.Match.takes(g) {
			merged, segment = p.with(s.Set), s.Name
			if segment == "" {
				segment = fmt.Sprint(i + 1)
			}
			break
		}
	}
	if segment == "" {
		merged = p
	}
	merged.Segments = []Segment{}
	if g.Kind == debt.WrittenOff { // Smart Retries has let go of it for good
		merged.TakeOver = false
	}
	return merged, segment
}

func (m Match) takes(g db.GhostTarget) bool {
	least, named := m.MinAmount[g.Currency]
	return (m.Products == nil || share(m.Products, g.Products)) &&
		(m.Prices == nil || share(m.Prices, g.Prices)) &&
		(m.Currencies == nil || slices.Contains(m.Currencies, g.Currency)) &&
		(m.Countries == nil || g.Country != nil && slices.Contains(m.Countries, *g.Country)) &&
		(m.MinAmount == nil || named && g.Amount >= least)
}

// share says whether two lists have anything in common.
func share(a, b []string) bool {
	return slices.ContainsFunc(a, func(one string) bool { return slices.Contains(b, one) })
}

// Of reads what holds for a hunt of a ghost: the playbook of its version and the newest one, both
// merged with the segment that takes the ghost. By strict something may leave, by loose it is
// planned. Nothing else reads the playbook of a hunt.
func Of(plan, newest []byte, g db.GhostTarget) (strict, loose Playbook, err error) {
	p, err := Parse(plan)
	if err != nil {
		return p, p, err
	}
	own, _ := p.For(g)
	if bytes.Equal(plan, newest) {
		return own, own, nil
	}
	n, err := Parse(newest)
	if err != nil {
		return own, own, fmt.Errorf("the newest one: %w", err)
	}
	limits, _ := n.For(g)
	return own.under(limits), own.loosest(limits), nil
}

// PlacedStep is a step and where it stands in its playbook.
type PlacedStep struct {
	Step
	Field string
}

// AllSteps are the steps of a playbook and of all its segments.
func (p Playbook) AllSteps() (all []PlacedStep) {
	for i, step := range p.Steps {
		all = append(all, PlacedStep{step, fmt.Sprintf("steps[%d]", i)})
	}
	for i, s := range p.Segments {
		if s.Set.Steps == nil {
			continue
		}
		for j, step := range *s.Set.Steps {
			all = append(all, PlacedStep{step, fmt.Sprintf("segments[%d].set.steps[%d]", i, j)})
		}
	}
	return all
}

var (
	countryShape = regexp.MustCompile(`^[A-Z]{2}$`)
	segmentShape = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9 _.-]{0,63}$`)

	// Stripe gives ids of these shapes. Merchants may name products and prices themselves, so of
	// those only what is another object's id is refused.
	customerShape = regexp.MustCompile(`^cus_[A-Za-z0-9_]{1,250}$`)
	productShape  = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,255}$`)
	othersShape   = regexp.MustCompile(`^(cus|sub|in|acct|ch|pi|si|py)_`)
	priceID       = regexp.MustCompile(`^price_`)
	productID     = regexp.MustCompile(`^prod_`)
)

func isCustomerID(id string) bool { return customerShape.MatchString(id) }

func isProductID(id string) bool {
	return productShape.MatchString(id) && !othersShape.MatchString(id) && !priceID.MatchString(id)
}

func isPriceID(id string) bool {
	return productShape.MatchString(id) && !othersShape.MatchString(id) &&
		!productID.MatchString(id)
}

// checkList finds what is wrong with a list of ids.
func checkList(field string, list []string, is func(string) bool, rule string) error {
	if len(list) > mostIDs {
		return input.Wrong(field, fmt.Sprintf("may hold %d at most", mostIDs))
	}
	for i, one := range list {
		if !is(one) {
			return input.Wrong(fmt.Sprintf("%s[%d]", field, i), rule)
		}
	}
	return nil
}

const (
	customerRule = "must be the id of a customer, cus_…"
	productRule  = "must be the id of a product, such as prod_…"
	priceRule    = "must be the id of a price, such as price_…"
	currencyRule = "must be a currency that Stripe has, such as usd or eur"
	countryRule  = "must be a country's two letters, such as DE"
	nameRule     = "must begin with a letter and be up to 64 letters, digits, spaces, dots, " +
		"dashes and underscores"
)

func (e Exclude) check() error {
	if err := checkList("exclude.customers", e.Customers, isCustomerID, customerRule); err != nil {
		return err
	}
	if err := checkList("exclude.products", e.Products, isProductID, productRule); err != nil {
		return err
	}
	return checkList("exclude.prices", e.Prices, isPriceID, priceRule)
}

// check finds what is wrong with a segment's match. A list that is there and empty would match
// nobody or everybody, and nobody should guess which.
func (m Match) check(field string) error {
	for _, list := range []struct {
		name   string
		values []string
		is     func(string) bool
		rule   string
	}{
		{"products", m.Products, isProductID, productRule},
		{"prices", m.Prices, isPriceID, priceRule},
		{"currencies", m.Currencies, money.Known, currencyRule},
		{"countries", m.Countries, countryShape.MatchString, countryRule},
	} {
		if list.values != nil && len(list.values) == 0 {
			return input.Wrong(field+list.name, "must not be empty: leave it out")
		}
		if err := checkList(field+list.name, list.values, list.is, list.rule); err != nil {
			return err
		}
	}
	if m.MinAmount != nil && len(m.MinAmount) == 0 {
		return input.Wrong(field+"min_amount", "must not be empty: leave it out")
	}
	return checkAmounts(field+"min_amount", m.MinAmount)
}

// checkSegments finds what is wrong with the segments of a playbook that is right without them.
func (p Playbook) checkSegments() error {
	if len(p.Segments) > mostSegments {
		return input.Wrong("segments", fmt.Sprintf("may be %d at most", mostSegments))
	}
	names := map[string]bool{}
	for i, s := range p.Segments {
		field := fmt.Sprintf("segments[%d].", i)
		switch {
		case s.Name != "" && !segmentShape.MatchString(s.Name):
			return input.Wrong(field+"name", nameRule)
		case names[s.Name]:
			return input.Wrong(field+"name", "must not be that of another segment")
		}
		names[s.Name] = s.Name != ""
		if err := s.Match.check(field + "match."); err != nil {
			return err
		}
		merged := p.with(s.Set)
		merged.Segments = nil
		if err := merged.validate(); err != nil {
			var wrong *input.FieldError
			if errors.As(err, &wrong) {
				return input.Wrong(field+"set."+wrong.Field, wrong.Rule)
			}
			return err
		}
	}
	return nil
}

func checkAmounts(field string, amounts map[string]int64) error {
	if rule := money.Wrong(amounts); rule != "" {
		return input.Wrong(field, rule)
	}
	return nil
}
