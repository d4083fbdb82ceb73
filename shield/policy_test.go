package shield

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"phantom/input"
)

func TestParse(t *testing.T) {
	t.Parallel()
	p, err := Parse([]byte(`{}`))
	if err != nil || !reflect.DeepEqual(p, Default()) {
		t.Errorf("an empty policy is %+v, %v; want the default", p, err)
	}
	text, err := json.Marshal(Default())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Parse(text); err != nil || !reflect.DeepEqual(again, Default()) {
		t.Errorf("the default reads back as %+v, %v", again, err)
	}
	p, err = Parse([]byte(`{"mode":"dry_run","effective_from":"2026-12-01T00:00:00Z","ladder":{"steps":[{"level":"grace","after_days":5}],
		"min_amount":{"usd":500}},"products":{"prod_x":{"steps":[{"level":"blocked","after_days":60}]},"prod_y":{"min_amount":{"eur":1}}},"features":{"limited":["login","export"]},
		"fail":{"mode":"closed","max_stale":"90m"}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Mode, want.EffectiveFrom.Time = DryRun, time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	want.Ladder = Ladder{Steps: []Step{{Grace, 5}}, MinAmount: map[string]int64{"usd": 500}}
	want.Products["prod_x"] = Ladder{Steps: []Step{{Blocked, 60}}, MinAmount: map[string]int64{"usd": 500}}
	want.Products["prod_y"] = Ladder{Steps: want.Ladder.Steps, MinAmount: map[string]int64{"eur": 1}}
	want.Features.Limited = []string{"login", "export", Billing}
	want.Fail = Fail{"closed", Duration(90 * time.Minute)}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
	if text, err = p.JSON(); err != nil {
		t.Fatal(err)
	}
	if again, err := Parse(text); err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("%s reads back as %+v, %v", text, again, err)
	}
}

// The default's JSON, byte for byte: it is part of the HTTP API.
func TestDefaultPolicy(t *testing.T) {
	t.Parallel()
	const want = `{"mode":"off","ladder":{"steps":[{"level":"notice","after_days":0},{"level":"grace","after_days":3},` +
		`{"level":"limited","after_days":10},{"level":"blocked","after_days":21}],"min_amount":{"usd":500}},"products":{},"prices":{},` +
		`"features":{"limited":["login","export","billing"],"blocked":["billing"]},"customer":"best","never_below":"blocked",` +
		`"paid_period":"keep","dispute":"hold","paused":"limited","ended":{"level":"blocked","grace_days":0},"written_off":"hold",` +
		`"promise":{"max_days":14,"per_year":2},"hysteresis":{"min_days_per_step":1,"relapse_days":30},` +
		`"hours":{"days":[1,2,3,4],"from":"09:00","to":"17:00"},"breaker":{"max_customers_percent":2,"max_mrr_percent":5,"always_allowed":5},` +
		`"unknown":"full","fail":{"mode":"last_known","max_stale":"24h"},"verdict_ttl":"15m","holdout":"apply"}`
	if got, err := Default().JSON(); err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

// A policy that contradicts itself names the field, and quotes nothing that was sent.
func TestPoliciesThatAreRefused(t *testing.T) {
	t.Parallel()
	for text, field := range map[string]string{
		`{"mode":"on"}`: "mode", `{"mode":"enforce","mode":"off"}`: "mode", `{"Mode":"off"}`: "body", `{"mode":null}`: "mode",
		`{"modes":"off"}`: "body", `[]`: "body", `{}{}`: "body", ``: "body", `{"effective_from":"tomorrow"}`: "effective_from", `{"effective_from":5}`: "effective_from",
		`{"effective_from":"1969-12-31T00:00:00Z"}`: "effective_from", `{"ladder":{"min_amount":{"usx":1}}}`: "ladder.min_amount", `{"verdict_ttl":5}`: "verdict_ttl",
		`{"ladder":{"steps":[{"level":"full","after_days":0}]}}`:                                                  "ladder.steps[0].level",
		`{"ladder":{"steps":[{"level":"grace","after_days":0},{"level":"notice","after_days":3}]}}`:               "ladder.steps[1].level",
		`{"ladder":{"steps":[{"level":"grace","after_days":0},{"level":"grace","after_days":3}]}}`:                "ladder.steps[1].level",
		`{"ladder":{"steps":[{"level":"notice","after_days":3},{"level":"grace","after_days":3}]}}`:               "ladder.steps[1].after_days",
		`{"ladder":{"steps":[{"level":"notice","after_days":-1}]}}`:                                               "ladder.steps[0].after_days",
		`{"ladder":{"min_amount":{"USD":1}}}`:                                                                     "ladder.min_amount",
		`{"ladder":{"min_amount":{"usd":-1}}}`:                                                                    "ladder.min_amount",
		`{"ladder":{"min_amount":{"usd":1,"usd":2}}}`:                                                             "ladder.min_amount",
		`{"products":{"prod_x":{"steps":[{"level":"limited","after_days":1},{"level":"grace","after_days":2}]}}}`: "products.prod_x.steps[1].level",
		`{"products":{"zqx":{"steps":[]}}}`:                                                                       "products", `{"prices":{"prod_1":{"steps":[]}}}`: "prices",
		`{"products":{"prod_x":{"step":[]}}}`: "body", `{"products":{"prod_x":{"Steps":[]}}}`: "body",
		`{"features":{"limited":["Export"]}}`:                              "features.limited[0]",
		`{"features":{"limited":["export"],"blocked":["export","login"]}}`: "features.blocked",
		`{"customer":"median"}`:                                            "customer", `{"never_below":"none"}`: "never_below", `{"paid_period":"hold"}`: "paid_period",
		`{"dispute":"full"}`: "dispute", `{"paused":"paused"}`: "paused", `{"ended":{"level":"gone"}}`: "ended.level",
		`{"ended":{"grace_days":-1}}`: "ended.grace_days", `{"written_off":"keep"}`: "written_off", `{"promise":{"max_days":91}}`: "promise.max_days",
		`{"promise":{"per_year":-1}}`: "promise.per_year", `{"hysteresis":{"min_days_per_step":0}}`: "hysteresis.min_days_per_step",
		`{"hysteresis":{"relapse_days":366}}`: "hysteresis.relapse_days", `{"hours":{"days":[]}}`: "hours.days", `{"hours":{"days":[0]}}`: "hours.days",
		`{"hours":{"days":[1,1]}}`: "hours.days", `{"hours":{"from":"9:00"}}`: "hours.from", `{"hours":{"from":"17:00","to":"09:00"}}`: "hours.to",
		`{"breaker":{"max_customers_percent":101}}`: "breaker.max_customers_percent", `{"breaker":{"max_mrr_percent":-1}}`: "breaker.max_mrr_percent",
		`{"breaker":{"always_allowed":-1}}`: "breaker.always_allowed", `{"unknown":"deny"}`: "unknown", `{"fail":{"mode":"maybe"}}`: "fail.mode",
		`{"fail":{"max_stale":"1s"}}`: "fail.max_stale", `{"fail":{"max_stale":"a day"}}`: "fail.max_stale", `{"verdict_ttl":"1h"}`: "verdict_ttl",
		`{"holdout":"skip"}`: "holdout", `{"ladder":"steep"}`: "ladder", `{"hours":{"days":["monday"]}}`: "hours.days",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(text))
			var wrong *input.FieldError
			if !errors.As(err, &wrong) || wrong.Field != field {
				t.Fatalf("error %v, want one of the field %s", err, field)
			}
			if strings.Contains(err.Error(), "zqx") {
				t.Errorf("the error quotes what was sent: %v", err)
			}
		})
	}
}

// Billing is open at every level: nobody is locked out of paying.
func TestFeatures(t *testing.T) {
	t.Parallel()
	p, err := Parse([]byte(`{"features":{"limited":["login","export"],"blocked":["login"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		level   Level
		feature string
		want    bool
	}{
		{Full, "", true}, {Notice, "", true}, {Grace, "", true}, {Grace, "anything", true},
		{Limited, "", false}, {Limited, "login", true}, {Limited, "export", true}, {Limited, "anything", false}, {Limited, Billing, true},
		{Blocked, "", false}, {Blocked, "login", true}, {Blocked, "export", false}, {Blocked, Billing, true},
	} {
		if got := p.Allows(test.level, test.feature); got != test.want {
			t.Errorf("%q at %s: %t", test.feature, test.level, got)
		}
	}
	if !(Policy{}).Allows(Blocked, Billing) {
		t.Error("billing hangs on the policy")
	}
}

func TestHours(t *testing.T) {
	t.Parallel()
	weekdays := Hours{Days: []int{1, 2, 3, 4}, From: "09:00", To: "17:00"}
	for _, test := range []struct {
		hours    Hours
		zone     string
		at, want string
	}{
		{weekdays, "America/New_York", "2026-11-30T12:00:00-05:00", "2026-11-30T12:00:00-05:00"}, // a Monday
		{weekdays, "America/New_York", "2026-11-30T08:59:59-05:00", "2026-11-30T09:00:00-05:00"},
		{weekdays, "America/New_York", "2026-11-30T17:00:00-05:00", "2026-12-01T09:00:00-05:00"},
		{weekdays, "America/New_York", "2026-12-03T17:00:00-05:00", "2026-12-07T09:00:00-05:00"}, // a Thursday
		{weekdays, "America/New_York", "2026-12-06T23:00:00-05:00", "2026-12-07T09:00:00-05:00"}, // a Sunday
		{weekdays, "America/New_York", "2026-10-29T20:00:00-04:00", "2026-11-02T09:00:00-05:00"}, // clocks go back between
		// Clocks go forward at midnight: there is none.
		{weekdays, "America/Santiago", "2027-09-03T18:00:00-04:00", "2027-09-06T09:00:00-03:00"},
		{weekdays, "America/Havana", "2027-03-12T18:00:00-05:00", "2027-03-15T09:00:00-04:00"},
		// The opening itself is skipped.
		{Hours{[]int{7}, "02:30", "05:00"}, "America/New_York", "2027-03-14T00:00:00-05:00", "2027-03-14T03:00:00-04:00"},
	} {
		zone, err := time.LoadLocation(test.zone)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, test.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := test.hours.Next(at, zone).In(zone).Format(time.RFC3339); got != test.want {
			t.Errorf("from %s on in %s: %s, want %s", test.at, test.zone, got, test.want)
		}
	}
}

// The first moment within the hours is what a walk from minute to minute finds. The zones change
// their clocks at midnight and at other hours.
func TestHoursAreFoundByMinutes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		d := newDice(seed)
		zone, err := time.LoadLocation(one(d, "America/Santiago", "Atlantic/Azores", "America/Havana", "Australia/Lord_Howe", "Europe/Berlin", "UTC"))
		if err != nil {
			t.Fatal(err)
		}
		h := Hours{
			Days: one(d, []int{1, 2, 3, 4}, []int{6, 7}, []int{1, 2, 3, 4, 5, 6, 7}),
			From: one(d, "00:00", "00:30", "01:30", "02:15", "09:00"), To: one(d, "09:30", "17:00", "23:59", "24:00"),
		}
		at := time.Date(2027, time.Month(1+d.IntN(12)), 1+d.IntN(28), d.IntN(24), d.IntN(60), 0, 0, time.UTC)
		if _, change := at.In(zone).ZoneBounds(); !change.IsZero() && d.IntN(2) == 0 {
			at = change.Add(-time.Duration(d.IntN(3*24*60)) * time.Minute)
		}
		want := at
		for {
			local := want.In(zone)
			clock := local.Format("15:04")
			if day := weekday(local); slices.Contains(h.Days, day) && h.From <= clock && clock < h.To {
				break
			}
			want = want.Add(time.Minute)
		}
		if got := h.Next(at, zone); !got.Equal(want) {
			t.Fatalf("seed %d, %+v from %s on: %s, want %s", seed, h, at.In(zone), got.In(zone), want.In(zone))
		}
	}
}
