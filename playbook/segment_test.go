package playbook

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"phantom/db"
	"phantom/debt"
	"phantom/input"
	"phantom/state"
)

// What is new in a playbook is read as it is written, with its defaults.
func TestChoosingPlaybooksAreRead(t *testing.T) {
	t.Parallel()
	change := func(f func(*Playbook)) Playbook {
		p := Default()
		f(&p)
		return p
	}
	no, zero, seven, hunt := false, map[string]int64{}, 7, LeavingHunt
	steps := []Step{{2, "email", "reminder"}}
	if p := Default(); !p.Auto || p.MaxDebtAgeDays != 120 || p.WhenLeaving != LeavingMessage || p.WrittenOff || p.Resubscribed || p.Mode != state.ModeObserve {
		t.Errorf("the default is %+v", p)
	}
	for text, want := range map[string]Playbook{
		`{"auto":false,"max_debt_age_days":3650,"when_leaving":"stop","written_off":true,"resubscribed":true}`: change(func(p *Playbook) {
			p.Auto, p.MaxDebtAgeDays, p.WhenLeaving, p.WrittenOff, p.Resubscribed = false, 3650, LeavingStop, true, true
		}),
		`{"exclude":{"customers":["cus_1"]}}`: change(func(p *Playbook) { p.Exclude.Customers = []string{"cus_1"} }),
		`{"exclude":{"products":["prod_1","gold"],"prices":["price_1","plan_2","gold-1"]}}`: change(func(p *Playbook) {
			p.Exclude.Products, p.Exclude.Prices = []string{"prod_1", "gold"}, []string{"price_1", "plan_2", "gold-1"}
		}),
		`{"segments":[{"match":{},"set":{}}]}`: change(func(p *Playbook) { p.Segments = []Segment{{}} }),
		`{"segments":[{"name":"Big ones","match":{"products":["prod_1"],"prices":["price_1"],"currencies":["usd"],"countries":["DE"],"min_amount":{"usd":5}},
			"set":{"take_over":false,"min_amount":{},"max_attempts":7,"when_leaving":"hunt","steps":[{"after_days":2,"channel":"email","template":"reminder"}]}}]}`: change(func(p *Playbook) {
			p.Segments = []Segment{{
				"Big ones", Match{[]string{"prod_1"}, []string{"price_1"}, []string{"usd"}, []string{"DE"}, map[string]int64{"usd": 5}},
				Changes{TakeOver: &no, MinAmount: &zero, MaxAttempts: &seven, WhenLeaving: &hunt, Steps: &steps},
			}}
		}),
	} {
		got, err := Parse([]byte(text))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v\nwant %+v", text, got, err, want)
		}
		body, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Parse(body); err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("%s: %+v, %v", body, again, err)
		}
	}
}

func TestFaultyChoices(t *testing.T) {
	t.Parallel()
	many := func(n int, one string) string { return "[" + strings.TrimSuffix(strings.Repeat(one+",", n), ",") + "]" }
	for _, test := range []struct{ field, text string }{
		{"auto", `{"auto":1}`}, {"auto", `{"auto":null}`},
		{"max_debt_age_days", `{"max_debt_age_days":0}`}, {"max_debt_age_days", `{"max_debt_age_days":3651}`},
		{"when_leaving", `{"when_leaving":""}`}, {"when_leaving", `{"when_leaving":"x7q"}`},
		{"written_off", `{"written_off":"yes"}`}, {"resubscribed", `{"resubscribed":null}`},
		{"exclude", `{"exclude":null}`}, {"exclude", `{"exclude":[]}`}, {"body", `{"exclude":{"x7q":[]}}`}, {"exclude.customers", `{"exclude":{"customers":null}}`},
		{"exclude.customers[0]", `{"exclude":{"customers":["x7q"]}}`}, {"exclude.customers[1]", `{"exclude":{"customers":["cus_1","prod_1"]}}`},
		{"exclude.customers[0]", `{"exclude":{"customers":["cus_1 or 1=1"]}}`}, {"exclude.products[0]", `{"exclude":{"products":["price_1"]}}`},
		{"exclude.products[0]", `{"exclude":{"products":[""]}}`}, {"exclude.prices[0]", `{"exclude":{"prices":["prod_1"]}}`},
		{"exclude.prices[0]", `{"exclude":{"prices":["cus_1"]}}`},
		{"exclude.customers", `{"exclude":{"customers":` + many(1001, `"cus_1"`) + `}}`}, {"exclude.prices", `{"exclude":{"prices":` + many(1001, `"price_1"`) + `}}`},
		{"segments", `{"segments":null}`}, {"segments", `{"segments":{}}`}, {"segments", `{"segments":` + many(51, `{"match":{},"set":{}}`) + `}`},
		{"segments[0].match", `{"segments":[{"match":null,"set":{}}]}`}, {"segments[0].set.steps", `{"segments":[{"match":{},"set":{"steps":null}}]}`},
		{"segments[0].name", `{"segments":[{"name":" ","match":{},"set":{}}]}`}, {"segments[0].name", `{"segments":[{"name":"2","match":{},"set":{}}]}`},
		{"segments[1].name", `{"segments":[{"name":"a","match":{},"set":{}},{"name":"a","match":{},"set":{}}]}`},
		{"segments[0].match.products", `{"segments":[{"match":{"products":[]},"set":{}}]}`}, {"segments[0].match.products[0]", `{"segments":[{"match":{"products":["price_1"]},"set":{}}]}`},
		{"segments[0].match.prices[0]", `{"segments":[{"match":{"prices":["prod_1"]},"set":{}}]}`},
		{"segments[0].match.currencies[0]", `{"segments":[{"match":{"currencies":["x7q"]},"set":{}}]}`}, {"segments[0].match.countries[0]", `{"segments":[{"match":{"countries":["de"]},"set":{}}]}`},
		{"segments[0].match.min_amount", `{"segments":[{"match":{"min_amount":{}},"set":{}}]}`}, {"segments[0].match.min_amount", `{"segments":[{"match":{"min_amount":{"usd":-1}},"set":{}}]}`},
		{"segments[0].match.min_amount", `{"segments":[{"match":{"min_amount":{"USD":1}},"set":{}}]}`},
		{"segments[0].set.max_attempts", `{"segments":[{"match":{},"set":{"max_attempts":16}}]}`}, {"segments[0].set.steps[0].after_days", `{"segments":[{"match":{},"set":{"steps":[{"after_days":31,"channel":"sms","template":"x"}]}}]}`},
		{"segments[0].set.daily_cap", `{"segments":[{"match":{},"set":{"daily_cap":{"xxx":1}}}]}`}, {"segments[0].set.quiet_hours.from", `{"segments":[{"match":{},"set":{"quiet_hours":{"to":"08:00"}}}]}`},
		{"segments[0].set.daily_cap", `{"segments":[{"match":{},"set":{"daily_cap":{"usd":1,"usd":2}}}]}`},
		{"body", `{"segments":[{"match":{},"set":{"mode":"recover"}}]}`}, {"body", `{"segments":[{"match":{},"set":{"auto":true}}]}`},
		{"body", `{"segments":[{"match":{},"set":{"exclude":{}}}]}`}, {"body", `{"segments":[{"match":{},"set":{"segments":[]}}]}`},
		{"body", `{"segments":[{"match":{},"set":{"window_days":7}}]}`}, {"body", `{"segments":[{"match":{},"set":{"holdout_percent":0}}]}`},
	} {
		_, err := Parse([]byte(test.text))
		var wrong *input.FieldError
		if !errors.As(err, &wrong) || wrong.Field != test.field {
			t.Errorf("%.100s: %v, want the field %s named", test.text, err, test.field)
			continue
		}
		if strings.Contains(strings.ToLower(err.Error()), "x7q") {
			t.Errorf("%.100s is quoted: %v", test.text, err)
		}
	}
}

// The first segment that takes a ghost is what holds for it, with each of its fields as a whole.
func TestSegments(t *testing.T) {
	t.Parallel()
	p, err := Parse([]byte(`{"mode":"recover","min_amount":{"usd":1,"eur":2},"max_attempts":3,"exclude":{"customers":["cus_9"]},"segments":[
		{"name":"gold","match":{"products":["prod_gold"],"min_amount":{"usd":10000,"eur":9000}},"set":{"max_attempts":9,"min_amount":{"usd":7}}},
		{"match":{"prices":["price_1"],"currencies":["usd","gbp"]},"set":{"max_attempts":8,"steps":[],"take_over":true}},
		{"name":"south","match":{"countries":["IT","ES"]},"set":{"quiet_hours":{"from":"13:00","to":"17:00","zone":"Europe/Rome"}}},
		{"name":"rest","match":{"currencies":["chf"]},"set":{"final_step":"cancel","max_debt_age_days":7}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	italy, france := "IT", "FR"
	gold := []string{"prod_x", "prod_gold"}
	for want, ghosts := range map[string][]db.GhostTarget{
		"gold":  {{Currency: "usd", Amount: 10000, Products: gold}, {Currency: "eur", Amount: 9000, Products: gold, Country: &italy}},
		"2":     {{Currency: "usd", Prices: []string{"price_1"}}, {Currency: "usd", Amount: 9999, Products: gold, Prices: []string{"price_1"}, Country: &italy}},
		"south": {{Currency: "eur", Prices: []string{"price_1"}, Country: &italy}, {Currency: "chf", Country: &italy}},
		"rest":  {{Currency: "chf"}},
		"": {
			{Currency: "usd"}, {Currency: "gbp", Amount: 99999, Products: gold}, {Currency: "eur", Amount: 8999, Products: gold, Country: &france},
		},
	} {
		for _, g := range ghosts {
			merged, got := p.For(g)
			if got != want {
				t.Errorf("%+v is taken by %q, want %q", g, got, want)
			}
			if len(merged.Segments) > 0 || merged.Mode != state.ModeRecover || len(merged.Exclude.Customers) != 1 {
				t.Errorf("%q: %+v", want, merged)
			}
			says := strings.TrimSpace(fmt.Sprintln(merged.MaxAttempts, merged.MinAmount, len(merged.Steps), merged.TakeOver, merged.QuietHours.From, merged.FinalStep, merged.MaxDebtAgeDays))
			wanted := map[string]string{
				"gold": "9 map[usd:7] 3 false 21:00 none 120", "2": "8 map[eur:2 usd:1] 0 true 21:00 none 120", "south": "3 map[eur:2 usd:1] 3 false 13:00 none 120",
				"rest": "3 map[eur:2 usd:1] 3 false 21:00 cancel 7", "": "3 map[eur:2 usd:1] 3 false 21:00 none 120",
			}[want]
			if says != wanted {
				t.Errorf("%q: %s, want %s", want, says, wanted)
			}
		}
	}
	if p.MaxAttempts != 3 || len(p.Segments) != 4 || len(p.MinAmount) != 2 {
		t.Errorf("the playbook itself has changed: %+v", p)
	}
	if merged, _ := p.For(db.GhostTarget{Kind: debt.WrittenOff, Currency: "usd", Prices: []string{"price_1"}}); merged.TakeOver {
		t.Error("what Smart Retries has given up is taken over from it")
	}
}

// A hunt of a ghost keeps the plan that its version has for the ghost's segment, under the limits
// that the newest has for it.
func TestSegmentsOfBothPlaybooks(t *testing.T) {
	t.Parallel()
	plan := []byte(`{"mode":"recover","max_attempts":3,"segments":[{"match":{"currencies":["usd"]},"set":{"max_attempts":9,"steps":[],"take_over":true}}]}`)
	newest := []byte(`{"mode":"recover","max_attempts":2,"segments":[{"match":{"currencies":["usd"]},"set":{"max_attempts":5,"max_debt_age_days":4}},{"match":{},"set":{"max_attempts":1}}]}`)
	for currency, want := range map[string]string{"usd": "5 9 4 true 0", "eur": "1 3 120 false 3"} {
		strict, loose, err := Of(plan, newest, db.GhostTarget{Currency: currency})
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(strict.MaxAttempts, loose.MaxAttempts, strict.MaxDebtAgeDays, strict.TakeOver, len(strict.Steps))
		if got != want {
			t.Errorf("%s: %s, want %s", currency, got, want)
		}
	}
	same, _, err := Of(plan, plan, db.GhostTarget{Currency: "usd"})
	if err != nil || same.MaxAttempts != 9 {
		t.Errorf("under itself: %d, %v", same.MaxAttempts, err)
	}
}
