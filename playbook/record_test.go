package playbook

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// The log of a playbook holds the fields that differ, and counts what names somebody.
func TestPlaybookChange(t *testing.T) {
	t.Parallel()
	parse := func(version int32, text string) Versioned {
		t.Helper()
		p, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return Versioned{version, p}
	}
	const segments = `"segments":[{"name":"vip","match":{"products":["prod_1"]},"set":{"max_attempts":2}}]`
	for _, test := range []struct{ before, after, was, is string }{
		{`{}`, `{}`, `{"version":1}`, `{"version":2}`},
		{`{}`, `{"mode":"off","min_amount":{"usd":500}}`, `{"min_amount":{},"mode":"observe","version":1}`, `{"min_amount":{"usd":500},"mode":"off","version":2}`},
		{
			`{"exclude":{"customers":["cus_1"]}}`, `{"exclude":{"customers":["cus_1","cus_2"],"prices":["price_1"]}}`,
			`{"exclude":{"customers":1,"prices":0,"products":0},"version":1}`, `{"exclude":{"customers":2,"prices":1,"products":0},"version":2}`,
		},
		{`{` + segments + `}`, `{` + segments + `}`, `{"version":1}`, `{"version":2}`},
	} {
		was, err := fieldsOf(parse(1, test.before))
		if err != nil {
			t.Fatal(err)
		}
		change, err := ChangeOf(uuid.New(), was, parse(2, test.after))
		if err != nil {
			t.Fatal(err)
		}
		before, _ := json.Marshal(change.Before)
		after, _ := json.Marshal(change.After)
		if string(before) != test.was || string(after) != test.is {
			t.Errorf("from %s to %s: %s, %s", test.before, test.after, before, after)
		}
	}
	many := make([]Step, 5000)
	long, err := ChangeOf(uuid.New(), Fields{}, Versioned{1, Playbook{Steps: many}})
	if text, _ := json.Marshal(long); err != nil || len(text) > 4096 {
		t.Errorf("a long playbook takes %d bytes, %v", len(text), err)
	}
	was, _ := fieldsOf(parse(1, `{}`))
	change, err := ChangeOf(uuid.New(), was, parse(2, `{`+segments+`}`))
	if text, _ := json.Marshal(change); err != nil || strings.Contains(string(text), "vip") || strings.Contains(string(text), "prod_1") || !strings.Contains(string(text), "sha256") {
		t.Errorf("%s, %v", text, err)
	}
}
