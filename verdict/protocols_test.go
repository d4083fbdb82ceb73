package verdict

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// https://openid.net/specs/authorization-api-1_0.html
func TestAuthZEN(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	question := func(customer, kind, id string) string {
		return fmt.Sprintf(`{"subject":{"type":"customer","id":%q},"action":{"name":"access"},"resource":{"type":%q,"id":%q},"context":{"time":1},"unknown":[{}]}`,
			customer, kind, id)
	}
	for _, test := range []struct {
		body, want string
		status     int
	}{
		{question("cus_full", "feature", "login"), `{"decision":true,"context":{"known":true,"level":"full","reason":"payment_failed","revision":"0a1b2c3d.42"}}`, 200},
		{question("cus_limited", "feature", "login"), `"decision":true`, 200},
		{question("cus_limited", "feature", "other"), `"decision":false`, 200},
		{question("cus_two", "product", "prod_a"), `"decision":true`, 200},
		{question("cus_two", "product", "prod_b"), `"decision":false`, 200},
		{question("cus_two", "subscription", "sub_b"), `"decision":false`, 200},
		{question("cus_two", "subscription", "sub_full"), `"decision":false,"context":{"reason":"resource_unknown"}`, 200},
		{question("cus_two", "product", "prod_other"), `"decision":false,"context":{"reason":"resource_unknown"}`, 200},
		{question("cus_never", "product", "prod_a"), `"decision":true,"context":{"known":false`, 200},
		{question("cus-1", "product", "prod_a"), `"decision":false,"context":{"reason":"subject_id_malformed"}`, 200},
		{question("cus_full", "planet", "mars"), `"decision":false,"context":{"reason":"resource_type_unknown"}`, 200},
		{strings.Replace(question("cus_full", "product", "prod_1"), `"customer"`, `"user"`, 1), `"decision":false,"context":{"reason":"subject_type_unknown"}`, 200},
		{strings.Replace(question("cus_full", "product", "prod_1"), `"access"`, `"delete"`, 1), `"decision":false,"context":{"reason":"action_unknown"}`, 200},
		{`{}`, "subject must have", 400}, {`[]`, "JSON object", 400}, {`{"subject":1}`, "JSON object", 400}, {`{`, "JSON object", 400},
		{question("cus_full", "product", "prod_1") + "x", "JSON object", 400}, {question("cus_full", "product", "prod_1") + "{}", "JSON object", 400},
		{`{"subject":{"type":"customer","id":"cus_1"},"action":{"name":"access"}}`, "resource must have", 400},
		{`{"subject":{"type":"customer","id":"cus_1"},"resource":{"type":"a","id":"b"}}`, "action must have", 400},
		{`{"subject":{"type":"customer"},"action":{"name":"access"},"resource":{"type":"a","id":"b"}}`, "subject must have", 400},
		{`{"subject":{"type":"customer","id":7},"action":{"name":"access"},"resource":{"type":"a","id":"b"}}`, "JSON object", 400},
	} {
		w := s.ask("POST", "/access/v1/evaluation", test.body, "X-Request-ID", "req-1")
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) || w.Header().Get("X-Request-ID") != "req-1" {
			t.Errorf("%s:\n%d %v %s", test.body, w.Code, w.Header(), w.Body)
		}
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "nonsense;;"} {
		if w := s.ask("POST", "/access/v1/evaluation", question("cus_full", "product", "prod_1"), "Content-Type", kind); w.Code != 400 {
			t.Errorf("Content-Type %q: %d", kind, w.Code)
		}
	}
	if w := s.ask("POST", "/access/v1/evaluation", question("cus_full", "product", "prod_1"), "Content-Type", "application/json; charset=utf-8"); w.Code != 200 {
		t.Errorf("with a charset: %d", w.Code)
	}
	if w := s.ask("POST", "/access/v1/evaluation", strings.Repeat(" ", mostPermitted+1)); w.Code != 413 {
		t.Errorf("a large body: %d", w.Code)
	}
	if w := s.ask("GET", "/access/v1/evaluation", ""); w.Code != 405 {
		t.Errorf("GET: %d", w.Code)
	}
	if w := s.ask("GET", "/.well-known/authzen-configuration", "", "Authorization", ""); w.Code != 200 ||
		!strings.Contains(w.Body.String(), `"access_evaluation_endpoint":"https://phantom.example/access/v1/evaluation"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAuthZENBatches(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	const base = `"subject":{"type":"customer","id":"cus_limited"},"action":{"name":"access"}`
	feature := func(id string) string { return `{"resource":{"type":"feature","id":"` + id + `"}}` }
	decisions := func(body string) (all []bool) {
		w := s.ask("POST", "/access/v1/evaluations", body)
		var answer struct {
			Evaluations []struct {
				Decision bool
				Context  struct {
					Error *struct{ Status int }
				}
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %s", body, w.Code, w.Body)
		}
		for _, e := range answer.Evaluations {
			all = append(all, e.Decision)
		}
		return all
	}
	for name, test := range map[string]struct {
		body string
		want []bool
	}{
		"defaults":  {`{` + base + `,"evaluations":[` + feature("login") + `,` + feature("other") + `]}`, []bool{true, false}},
		"overrides": {`{` + base + `,"evaluations":[{"subject":{"type":"customer","id":"cus_full"},"resource":{"type":"feature","id":"other"}}]}`, []bool{true}},
		"a broken item is no, in its place": {
			`{` + base + `,"evaluations":[` + feature("login") + `,{"resource":5},{},"x",` + feature("export") + `]}`, []bool{true, false, false, false, true},
		},
		"until the first no": {
			`{` + base + `,"options":{"evaluations_semantic":"deny_on_first_deny"},"evaluations":[` + feature("login") + `,` + feature("x") + `,` + feature("login") + `]}`,
			[]bool{true, false},
		},
		"until the first yes": {
			`{` + base + `,"options":{"evaluations_semantic":"permit_on_first_permit"},"evaluations":[` + feature("x") + `,` + feature("login") + `,` + feature("x") + `]}`,
			[]bool{false, true},
		},
		"defaults behind the questions": {`{"evaluations":[` + feature("login") + `],` + base + `}`, []bool{true}},
	} {
		if got := decisions(test.body); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	many := func(n int) string {
		return `{` + base + `,"evaluations":[` + strings.TrimSuffix(strings.Repeat(feature("login")+",", n), ",") + `]}`
	}
	if got := decisions(many(100)); len(got) != 100 {
		t.Errorf("%d answers", len(got))
	}
	for body, want := range map[string]string{
		many(101): "100 at most", `{` + base + `,"options":{"evaluations_semantic":"x"},"evaluations":[]}`: "evaluations_semantic",
		`{` + base + `,"evaluations":{}}`: "JSON object", `{"evaluations":[]}`: "subject must have",
	} {
		if w := s.ask("POST", "/access/v1/evaluations", body); w.Code != 400 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%.80s: %d %s", body, w.Code, w.Body)
		}
	}
	single := `{` + base + `,"resource":{"type":"feature","id":"login"}}`
	if w := s.ask("POST", "/access/v1/evaluations", single); w.Code != 200 || !strings.HasPrefix(w.Body.String(), `{"decision":true`) {
		t.Errorf("a batch of one: %d %s", w.Code, w.Body)
	}
}

// https://github.com/open-feature/protocol
func TestOFREP(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	of := func(customer string) string {
		return `{"context":{"targetingKey":"` + customer + `","other":{"a":[1]}}}`
	}
	for _, test := range []struct {
		path, body, want string
		status           int
	}{
		{"/access", of("cus_limited"), `{"key":"access","reason":"TARGETING_MATCH","variant":"limited","value":false,"metadata":{"level":"limited","reason":"payment_failed"}}`, 200},
		{"/login", of("cus_limited"), `"value":true`, 200},
		{"/login", of("cus_never"), `{"key":"login","reason":"DEFAULT"}`, 200},
		{"/unheard", of("cus_limited"), `{"key":"unheard","errorCode":"FLAG_NOT_FOUND"`, 404},
		{"/access", `{"context":{}}`, `"errorCode":"TARGETING_KEY_MISSING"`, 400},
		{"/access", `{}`, `"errorCode":"TARGETING_KEY_MISSING"`, 400},
		{"/access", `{"context":[]}`, `"errorCode":"INVALID_CONTEXT"`, 400},
		{"/access", of("cus-1"), `"errorCode":"INVALID_CONTEXT"`, 400},
		{"/access", `{"context":{"targetingKey":1}}`, `"errorCode":"TARGETING_KEY_MISSING"`, 400},
		{"/access", `x`, `"errorCode":"PARSE_ERROR"`, 400}, {"/access", of("cus_full") + "x", `"errorCode":"PARSE_ERROR"`, 400},
		{"", of("cus_limited"), `{"flags":[{"key":"access",`, 200},
		{"", of("cus_limited"), `{"key":"export","reason":"TARGETING_MATCH","variant":"limited","value":true`, 200},
	} {
		w := s.ask("POST", "/ofrep/v1/evaluate/flags"+test.path, test.body)
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s: %d %s", test.path, test.body, w.Code, w.Body)
		}
	}
	all := s.ask("POST", "/ofrep/v1/evaluate/flags", of("cus_limited"))
	etag := all.Header().Get("ETag")
	if w := s.ask("POST", "/ofrep/v1/evaluate/flags", of("cus_limited"), "If-None-Match", etag); etag == "" || w.Code != 304 || w.Body.Len() != 0 {
		t.Errorf("with its ETag %s: %d %s", etag, w.Code, w.Body)
	}
	if w := s.ask("POST", "/ofrep/v1/evaluate/flags", of("cus_full"), "If-None-Match", etag); w.Code != 200 {
		t.Errorf("another customer with that ETag: %d", w.Code)
	}
}
