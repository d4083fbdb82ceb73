package play

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	charge   = `{"op":"tell","merchant":"acct_1","category":"media","customer":"cus_1","invoice":"in_1","country":"US","zone":"America/Chicago","brand":"visa","funding":"debit","amount":1900,"currency":"usd","attempt":1,"at":"2026-11-03T09:12:00Z","outcome":"failed","class":"timed","code":"insufficient_funds","source":"schedule"}`
	question = `{"op":"ask","merchant":"acct_1","category":"media","customer":"cus_1","invoice":"in_1","country":"US","zone":"America/Chicago","brand":"visa","funding":"debit","amount":1900,"currency":"usd","attempt":2,"id":"q1","now":"2026-11-04T00:00:00Z","not_before":"2026-11-04T09:12:00Z","not_after":"2026-11-17T09:00:00Z","left":4,"tried":[{"at":"2026-11-03T09:12:00Z","class":"timed","code":"insufficient_funds"}],"explore":true}`
	rebuild  = `{"op":"rebuild","now":"2026-11-04T00:00:00Z"}`
)

// with is a line with one of its fields changed; "" takes it away.
func with(t *testing.T, line, field, value string) string {
	t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(line), &all); err != nil {
		t.Fatal(err)
	}
	delete(all, field)
	if value != "" {
		all[field] = json.RawMessage(value)
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func answers(t *testing.T, lines ...string) (all []answer) {
	t.Helper()
	var out bytes.Buffer
	if err := Run(strings.NewReader(strings.Join(lines, "\n")), &out); err != nil {
		t.Fatal(err)
	}
	for text := range strings.Lines(out.String()) {
		var a answer
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		all = append(all, a)
	}
	return all
}

func TestRunAnswers(t *testing.T) {
	t.Parallel()
	all := answers(t, charge, "", rebuild, question, with(t, question, "at", `"2026-11-10T12:00:00+02:00"`), with(t, question, "left", "0"),
		`{"op":"forget","merchant":"acct_1"}`, rebuild, question)
	if len(all) != 4 {
		t.Fatalf("%d answers", len(all))
	}
	at, err := time.Parse(time.RFC3339, *all[0].At)
	if err != nil || at.Before(time.Date(2026, 11, 4, 9, 12, 0, 0, time.UTC)) || at.After(time.Date(2026, 11, 17, 9, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", all[0])
	}
	if all[0].ID != "q1" || all[0].P <= 0 || all[0].P >= 1 || all[0].Reason == "" {
		t.Errorf("%+v", all[0])
	}
	if *all[1].At != "2026-11-10T12:00:00+02:00" || all[1].Propensity != 1 {
		t.Errorf("a moment that is given: %+v", all[1])
	}
	if all[2].At != nil {
		t.Errorf("no charge is left: %+v", all[2])
	}
	if fmt.Sprint(all[0].P, *all[0].At) != fmt.Sprint(all[3].P, *all[3].At) {
		t.Errorf("the same question has other answers: %+v, %+v", all[0], all[3])
	}
}

// What is unknown is unknown, and no reason to fail.
func TestRunTakesOddValues(t *testing.T) {
	t.Parallel()
	var lines []string
	for _, odd := range [][2]string{
		{"zone", `"Mars/Olympus"`}, {"zone", `""`}, {"zone", `"../../etc/passwd"`}, {"zone", `"Local"`}, {"country", `"Atlantis"`}, {"country", ""}, {"category", `"☃"`},
		{"brand", "null"}, {"funding", `"gold"`}, {"amount", "-1"}, {"amount", "19.5"}, {"amount", "1e300"}, {"amount", "1e999"}, {"currency", `"xxx"`},
		{"attempt", "0"}, {"attempt", "1000000"}, {"class", `"customer"`}, {"code", `"no such code"`}, {"source", `"elsewhere"`}, {"holdout", "true"},
		{"more", "[1,2]"}, {"not_after", `"2026-11-04T09:12:00Z"`}, {"not_after", `"2020-01-01T00:00:00Z"`}, {"not_after", `"2999-01-01T00:00:00Z"`},
		{"not_before", `"2026-11-04T09:12:00.5+05:45"`}, {"left", "-3"}, {"left", "99"}, {"tried", `[{"at":"2030-01-01T00:00:00Z","class":"?","code":""}]`},
		{"now", ""},
	} {
		lines = append(lines, with(t, question, odd[0], odd[1]))
		if odd[0] != "tried" {
			lines = append(lines, with(t, charge, odd[0], odd[1]))
		}
	}
	lines = append(lines, rebuild, question)
	if all := answers(t, lines...); len(all) != 30 {
		t.Errorf("%d answers, want 30", len(all))
	}
}

// A line that cannot be read is named, and what was asked before has its answer.
func TestRunNamesBrokenLines(t *testing.T) {
	t.Parallel()
	for _, broken := range []struct{ line, says string }{
		{`{"op":"tell"`, "it is no JSON"},
		{`[]`, "it is no object"},
		{`{"op":"sing"}`, `op "sing" is none of`},
		{`{}`, "op is missing"},
		{`{"op":"rebuild"}`, "now is missing"},
		{`{"op":"rebuild","now":"today"}`, `now "today" is no time`},
		{`{"op":"forget"}`, "merchant is missing"},
		{with(t, charge, "at", ""), "at is missing"},
		{with(t, charge, "at", `"2026-13-01T00:00:00Z"`), "is no time"},
		{with(t, charge, "outcome", `"maybe"`), `outcome "maybe" is neither`},
		{with(t, charge, "merchant", ""), "merchant is missing"},
		{with(t, charge, "amount", `"much"`), "is no number"},
		{with(t, charge, "customer", "7"), "customer cannot be number"},
		{with(t, question, "tried", "[]"), "tried is empty"},
		{with(t, question, "tried", `[{"class":"timed"}]`), "tried[0].at is missing"},
		{with(t, question, "not_before", ""), "not_before is missing"},
		{with(t, question, "not_after", `"soon"`), `not_after "soon" is no time`},
		{with(t, question, "explore", `"yes"`), "explore cannot be string"},
		{strings.Repeat("x", longest+1), "it is longer than"},
	} {
		var out bytes.Buffer
		err := Run(strings.NewReader(charge+"\n"+question+"\n"+broken.line+"\n"+question), &out)
		var at *LineError
		if !errors.As(err, &at) || at.Line != 3 || !strings.Contains(err.Error(), broken.says) {
			t.Errorf("%.80s: %v, want line 3: %s", broken.line, err, broken.says)
		}
		if n := strings.Count(out.String(), "\n"); n != 1 {
			t.Errorf("%.80s: %d answers before it", broken.line, n)
		}
	}
}

func FuzzRun(f *testing.F) {
	f.Add(charge + "\n" + question + "\n" + rebuild)
	f.Fuzz(func(t *testing.T, text string) {
		var at *LineError
		if err := Run(strings.NewReader(text), new(bytes.Buffer)); err != nil && !errors.As(err, &at) {
			t.Error(err)
		}
	})
}
