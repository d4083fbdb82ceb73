package playbook

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"phantom/input"
	"phantom/state"
)

func TestPlaybooksAreRead(t *testing.T) {
	t.Parallel()
	change := func(f func(*Playbook)) Playbook {
		p := Default()
		f(&p)
		return p
	}
	for text, want := range map[string]Playbook{
		`{}`:          Default(),
		` {} ` + "\n": Default(),
		// no room for the third
		`{"window_days":7}`:  change(func(p *Playbook) { p.WindowDays, p.Steps = 7, p.Steps[:2] }),
		`{"window_days":1}`:  change(func(p *Playbook) { p.WindowDays, p.Steps = 1, p.Steps[:1] }),
		`{"window_days":12}`: change(func(p *Playbook) { p.WindowDays = 12 }),
		`{"mode":"recover"}`: change(func(p *Playbook) { p.Mode = state.ModeRecover }),
		`{"steps":[]}`:       change(func(p *Playbook) { p.Steps = []Step{} }),
		// no remnant of the default's
		`{"steps":[{"channel":"sms","template":"x"}]}`: change(func(p *Playbook) { p.Steps = []Step{{0, "sms", "x"}} }),
		`{"quiet_hours":{"to":"07:30"}}`:               change(func(p *Playbook) { p.QuietHours.To = "07:30" }),
		`{"min_amount":{"usd":500,"jpy":0},"daily_cap":{"eur":9223372036854775807}}`: change(func(p *Playbook) {
			p.MinAmount, p.DailyCap = map[string]int64{"usd": 500, "jpy": 0}, map[string]int64{"eur": 1<<63 - 1}
		}),
		`{"max_attempts":0,"card_budget":0,"holdout_percent":0,"window_days":60,"take_over":true,"final_step":"pause"}`: change(func(p *Playbook) {
			p.MaxAttempts, p.CardBudget, p.HoldoutPercent, p.WindowDays, p.TakeOver, p.FinalStep = 0, 0, 0, 60, true, FinalPause
		}),
	} {
		got, err := Parse([]byte(text))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v\nwant %+v", text, got, err, want)
		}
	}
	// What is written is read as it was.
	all, err := json.Marshal(Default())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Parse(all); err != nil || !reflect.DeepEqual(again, Default()) {
		t.Errorf("%s: %+v, %v", all, again, err)
	}
}

// Every fault is named by its field, and never by what was sent.
func TestFaultyPlaybooks(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("9", 400)
	for _, test := range []struct{ field, text string }{
		{"body", ``}, {"body", `x7q`}, {"body", `null x`}, {"body", `[]`}, {"body", `"x7q"`}, {"body", `{`}, {"body", `{}{}`}, {"body", `{} x7q`}, {"body", "\xef\xbb\xbf{}"},
		{"body", `{"x7q":1}`}, {"body", `{"version":1}`}, {"body", `{"Mode":"recover"}`}, {"body", `{"MODE":"recover"}`}, {"body", `{"` + "\u017f" + `teps":[]}`},
		{"body", `{"quiet_hours":{"x7q":1}}`}, {"body", `{"quiet_hours":{"From":"08:00"}}`}, {"body", `{"steps":[{"x7q":1}]}`}, {"body", `{"steps":[{"Channel":"sms"}]}`},
		{"mode", `{"mode":""}`}, {"mode", `{"mode":"x7q"}`}, {"mode", `{"mode":1}`}, {"mode", `{"mode":"Recover"}`}, {"mode", `{"mode":["recover"]}`},
		{"mode", `{"mode":"off","mode":"recover"}`}, {"mode", `{"mode":"recover","mode":"recover"}`},
		{"take_over", `{"take_over":"true"}`}, {"take_over", `{"take_over":1}`}, {"take_over", `{"take_over":true,"take_over":true}`},
		{"max_attempts", `{"max_attempts":16}`}, {"max_attempts", `{"max_attempts":-1}`}, {"max_attempts", `{"max_attempts":1.5}`}, {"max_attempts", `{"max_attempts":"1"}`},
		{"max_attempts", `{"max_attempts":` + huge + `}`}, {"max_attempts", `{"max_attempts":1e3}`},
		{"card_budget", `{"card_budget":16}`}, {"card_budget", `{"card_budget":-1}`}, {"card_budget", `{"card_budget":-` + huge + `}`},
		{"window_days", `{"window_days":0}`}, {"window_days", `{"window_days":61}`}, {"window_days", `{"window_days":true}`},
		{"min_amount", `{"min_amount":{"usd":-1}}`}, {"min_amount", `{"min_amount":{"USD":1}}`}, {"min_amount", `{"min_amount":{"":1}}`}, {"min_amount", `{"min_amount":{"us":1}}`},
		{"min_amount", `{"min_amount":500}`}, {"min_amount", `{"min_amount":{"usd":1.5}}`}, {"min_amount", `{"min_amount":{"usd":` + huge + `}}`}, {"min_amount", `{"min_amount":[]}`},
		{"min_amount", `{"min_amount":{"usd":1,"usd":2}}`}, {"min_amount", `{"min_amount":{},"min_amount":{}}`},
		{"daily_cap", `{"daily_cap":{"usd":-1}}`}, {"daily_cap", `{"daily_cap":{"x7q!":1}}`}, {"daily_cap", `{"daily_cap":{"usd":"1"}}`}, {"daily_cap", `{"daily_cap":{"eur":1,"eur":1}}`},
		{"quiet_hours", `{"quiet_hours":"22-6"}`}, {"quiet_hours.from", `{"quiet_hours":{"from":"24:00"}}`}, {"quiet_hours.from", `{"quiet_hours":{"from":"8:00"}}`},
		{"quiet_hours.from", `{"quiet_hours":{"from":800}}`}, {"quiet_hours.from", `{"quiet_hours":{"from":"08:00","from":"09:00"}}`}, {"quiet_hours.to", `{"quiet_hours":{"to":"12:60"}}`},
		{"quiet_hours.to", `{"quiet_hours":{"to":""}}`}, {"quiet_hours.zone", `{"quiet_hours":{"zone":"Mars/x7q"}}`}, {"quiet_hours.zone", `{"quiet_hours":{"zone":""}}`},
		{"quiet_hours.zone", `{"quiet_hours":{"zone":"Local"}}`}, {"quiet_hours.zone", `{"quiet_hours":{"zone":"../../etc/passwd"}}`},
		{"steps", `{"steps":{}}`}, {"steps", `{"steps":[` + strings.Repeat(`{"channel":"sms","template":"x"},`, 10) + `{"channel":"sms","template":"x"}]}`},
		{"steps", `{"steps":[],"steps":[]}`}, {"steps[0].after_days", `{"steps":[{"after_days":-1,"channel":"sms","template":"x"}]}`},
		{"steps[0].after_days", `{"steps":[{"after_days":31,"channel":"sms","template":"x"}]}`},
		{"steps[1].after_days", `{"steps":[{"after_days":5,"channel":"sms","template":"x"},{"after_days":4,"channel":"sms","template":"x"}]}`},
		{"steps[0].after_days", `{"steps":[{"after_days":1,"after_days":1,"channel":"sms","template":"x"}]}`},
		{"steps.after_days", `{"steps":[{"after_days":` + huge + `}]}`},
		{"steps[0].channel", `{"steps":[{}]}`}, {"steps[0].channel", `{"steps":[{"channel":"fax","template":"x"}]}`},
		{"body", `null`}, {"body", " null\n"}, {"mode", `{"mode":null}`}, {"steps", `{"steps":null}`}, {"steps[0]", `{"steps":[null]}`},
		{"steps[0].after_days", `{"steps":[{"after_days":null,"channel":"sms","template":"x"}]}`}, {"take_over", `{"take_over":null}`},
		{"max_attempts", `{"max_attempts":null}`}, {"quiet_hours", `{"quiet_hours":null}`}, {"quiet_hours.zone", `{"quiet_hours":{"zone":null}}`},
		{"min_amount", `{"min_amount":null}`}, {"min_amount", `{"min_amount":{"usd":null}}`}, {"daily_cap", `{"daily_cap":{"eur":1,"usd":null}}`}, {"daily_cap", `{"daily_cap":null}`},
		{"daily_cap", `{"daily_cap":{"uds":1}}`}, {"min_amount", `{"min_amount":{"usd":1,"xxx":1}}`}, {"steps[0].after_days", `{"window_days":3,"steps":[{"after_days":4,"channel":"sms","template":"x"}]}`},
		{"quiet_hours.zone", `{"quiet_hours":{"zone":"posixrules"}}`}, {"quiet_hours.zone", `{"quiet_hours":{"zone":"posix/Europe/Berlin"}}`},
		{"quiet_hours.zone", `{"quiet_hours":{"zone":"right/Europe/Berlin"}}`}, {"quiet_hours.zone", `{"quiet_hours":{"zone":"localtime"}}`},
		{"steps[0].template", `{"steps":[{"channel":"sms"}]}`}, {"steps[0].template", `{"steps":[{"channel":"sms","template":"X7q"}]}`},
		{"steps[0].template", `{"steps":[{"channel":"sms","template":"../x7q"}]}`}, {"steps[0].template", `{"steps":[{"channel":"sms","template":"` + strings.Repeat("x", 65) + `"}]}`},
		{"final_step", `{"final_step":""}`}, {"final_step", `{"final_step":"x7q"}`}, {"final_step", `{"final_step":false}`},
		{"holdout_percent", `{"holdout_percent":21}`}, {"holdout_percent", `{"holdout_percent":-1}`}, {"holdout_percent", `{"holdout_percent":2.5}`},
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
	if _, err := Parse([]byte(strings.Repeat(`{"steps":[`, 20000))); err == nil {
		t.Error("a deep one is read")
	}
}

// Quiet hours are kept by the clock on the wall, also on the nights on which it is set.
func TestQuietHoursOverDaylightSaving(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	night := QuietHours{From: "21:00", To: "08:00", Zone: "customer"}
	for _, test := range []struct {
		q        QuietHours
		at, want string // by Berlin's clock
	}{
		{night, "2026-11-22T12:00:00+01:00", "2026-11-22T12:00:00+01:00"},
		{night, "2026-11-22T20:59:59+01:00", "2026-11-22T20:59:59+01:00"},
		{night, "2026-11-22T21:00:00+01:00", "2026-11-23T08:00:00+01:00"},
		{night, "2026-11-22T07:59:59+01:00", "2026-11-22T08:00:00+01:00"},
		{night, "2026-11-22T08:00:00+01:00", "2026-11-22T08:00:00+01:00"},
		// the night that lacks an hour
		{night, "2026-03-28T22:00:00+01:00", "2026-03-29T08:00:00+02:00"},
		{night, "2026-03-29T01:59:00+01:00", "2026-03-29T08:00:00+02:00"},
		// the night with one more
		{night, "2026-10-24T22:00:00+02:00", "2026-10-25T08:00:00+01:00"},
		{night, "2026-10-25T02:30:00+02:00", "2026-10-25T08:00:00+01:00"},
		{night, "2026-10-25T02:30:00+01:00", "2026-10-25T08:00:00+01:00"},
		{night, "2026-12-31T23:00:00+01:00", "2027-01-01T08:00:00+01:00"},
		// it ends within the missing hour
		{QuietHours{From: "01:00", To: "02:30", Zone: "customer"}, "2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00"},
		{QuietHours{From: "12:00", To: "13:00", Zone: "Europe/Berlin"}, "2026-11-22T12:30:00+01:00", "2026-11-22T13:00:00+01:00"},
		// none
		{QuietHours{From: "08:00", To: "08:00", Zone: "customer"}, "2026-11-22T08:00:00+01:00", "2026-11-22T08:00:00+01:00"},
		{QuietHours{From: "21:00", To: "08:00", Zone: "America/New_York"}, "2026-11-22T08:00:00+01:00", "2026-11-22T14:00:00+01:00"},
	} {
		at, err := time.Parse(time.RFC3339, test.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := test.q.Next(at, berlin).In(berlin).Format(time.RFC3339); got != test.want {
			t.Errorf("%+v, %s: %s, want %s", test.q, test.at, got, test.want)
		}
	}
	// Over a whole year and every quarter of an hour: never back in time, never within quiet hours,
	// and never further than need be.
	for at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2027; at = at.Add(15 * time.Minute) {
		next := night.Next(at, berlin)
		if clock := next.In(berlin).Format("15:04"); next.Before(at) || clock >= night.From || clock < night.To || next.Sub(at) > 12*time.Hour {
			t.Fatalf("%s: %s", at, next.In(berlin))
		}
	}
}
