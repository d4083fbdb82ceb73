package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"phantom/verdict"
)

// document is docs/openapi.json, as it is published and as answers are held against it.
type document struct {
	text  []byte
	spec  *openapi3.T
	paths map[string]*regexp.Regexp // by the document's names for them
	seen  sync.Map                  // answers that have passed
}

// contract reads the document. Here, and not for the public, an object has no field that the
// document does not name.
var contract = sync.OnceValue(func() *document {
	text, err := os.ReadFile("../docs/openapi.json")
	if err != nil {
		panic(err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		panic(err)
	}
	closeObjects(tree)
	strict, err := json.Marshal(tree)
	if err != nil {
		panic(err)
	}
	spec, err := openapi3.NewLoader().LoadFromData(strict)
	if err != nil {
		panic(err)
	}
	if err := spec.Validate(context.Background()); err != nil {
		panic(err)
	}
	openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.RegisteredBodyDecoder("text/plain"))
	d := &document{text: text, spec: spec, paths: map[string]*regexp.Regexp{}}
	for path := range spec.Paths.Map() {
		d.paths[path] = regexp.MustCompile("^" + regexp.MustCompile(`\\\{[^/]*\\\}`).ReplaceAllString(regexp.QuoteMeta(path), "[^/]+") + "$")
	}
	return d
})

func closeObjects(node any) {
	switch node := node.(type) {
	case map[string]any:
		if _, open := node["additionalProperties"]; node["type"] == "object" && node["properties"] != nil && !open {
			node["additionalProperties"] = false
		}
		for _, child := range node {
			closeObjects(child)
		}
	case []any:
		for _, child := range node {
			closeObjects(child)
		}
	}
}

// isOfApps says whether an operation is what apps ask about access: package verdict has its tests.
func isOfApps(operation *openapi3.Operation) bool { return slices.Contains(operation.Tags, "access") }

// conforms holds an answer against the document. Every answer of every test of this package passes
// here.
func (b *bench) conforms(method, target string, got answer) {
	b.t.Helper()
	if err := contract().check(method, target, got); err != nil {
		b.t.Errorf("%s %.100s: the answer is not as docs/openapi.json says: %d %.500s: %v", method, target, got.status, got.body, err)
	}
}

func (d *document) check(method, target string, got answer) error {
	if method == http.MethodHead {
		return nil
	}
	route, request := d.find(method, target)
	operation := ""
	if route != nil {
		operation = route.Operation.OperationID
	}
	key := fmt.Sprint(operation, got.status, got.header, got.body)
	if _, passed := d.seen.Load(key); passed {
		return nil
	}
	var err error
	if route == nil || got.status == http.StatusMethodNotAllowed {
		err = d.checkUnlisted(got)
	} else {
		err = openapi3filter.ValidateResponse(context.Background(), (&openapi3filter.ResponseValidationInput{
			RequestValidationInput: &openapi3filter.RequestValidationInput{Request: request, Route: route},
			Status:                 got.status, Header: got.header,
			Options: &openapi3filter.Options{IncludeResponseStatus: true},
		}).SetBodyBytes([]byte(got.body)))
	}
	if err == nil {
		d.seen.Store(key, true)
	}
	return err
}

// find returns the operation that the document lists for a request, or nil. The library's own
// routers take /x/ for /x.
func (d *document) find(method, target string) (*routers.Route, *http.Request) {
	address, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, nil
	}
	for path, shape := range d.paths {
		if item := d.spec.Paths.Value(path); shape.MatchString(address.EscapedPath()) && item.Operations()[method] != nil {
			return &routers.Route{Spec: d.spec, Path: path, PathItem: item, Method: method, Operation: item.Operations()[method]},
				&http.Request{Method: method, URL: address, Header: http.Header{}}
		}
	}
	return nil, nil
}

// checkUnlisted holds an answer to a path or method that is not in the document against what its
// description says of them.
func (d *document) checkUnlisted(got answer) error {
	if !slices.Contains([]int{404, 405, 413}, got.status) {
		return errors.New("a path or method that is not listed has another answer than 404, 405 or 413")
	}
	var body any
	if err := json.Unmarshal([]byte(got.body), &body); err != nil {
		return err
	}
	return d.spec.Components.Schemas["Error"].Value.VisitJSON(body, openapi3.EnableJSONSchema2020())
}

// The check above must be able to fail.
func TestAnswersAreHeldAgainstTheDocument(t *testing.T) {
	t.Parallel()
	kind := http.Header{"Content-Type": {"application/json"}}
	const ok = `{"currencies":{},"written_off":{},"charged_back":{},"decline_classes":{"never":0,"customer":0,"timed":0,"low":0,"soon":0,"unknown":0},` +
		`"ages":{"0-7":0,"8-30":0,"31-90":0,"91-365":0,"over_365":0},"wasted_attempts":0,"days_given_away":0,"halted_at":null,"recovery":` + noFigures + "}"
	for _, test := range []struct {
		name, method, target string
		got                  answer
		good                 bool
	}{
		{"a summary", "GET", "/api/summary", answer{200, kind, ok}, true},
		{"a field more", "GET", "/api/summary", answer{200, kind, strings.Replace(ok, `{"cur`, `{"secret":1,"cur`, 1)}, false},
		{"a field less", "GET", "/api/summary", answer{200, kind, strings.Replace(ok, `"never":0,`, "", 1)}, false},
		{"a currency of four letters", "GET", "/api/summary", answer{200, kind, strings.Replace(ok, `{}`, `{"euro":{"owed":1,"ghosts":1,"hidden":0}}`, 1)}, false},
		{"a negative count", "GET", "/api/summary", answer{200, kind, strings.Replace(ok, `"soon":0`, `"soon":-1`, 1)}, false},
		{"a figure less", "GET", "/api/summary", answer{200, kind, strings.Replace(ok, `"emails":0,`, "", 1)}, false},
		{"another verdict", "GET", "/api/summary", answer{200, kind, strings.Replace(ok, "not enough data yet", "great", 1)}, false},
		{"another status", "GET", "/api/summary", answer{201, kind, ok}, false},
		{"another type", "GET", "/api/summary", answer{200, http.Header{"Content-Type": {"text/html"}}, ok}, false},
		{"another code", "GET", "/api/summary", answer{401, http.Header{"Content-Type": {"application/json"}, "Www-Authenticate": {"Bearer"}}, `{"status":"error","code":"not_found","message":"x"}`}, false},
		{"no WWW-Authenticate", "GET", "/api/summary", answer{401, kind, `{"status":"error","code":"unauthorized","message":"x"}`}, false},
		{"unauthorized", "GET", "/api/summary", answer{401, http.Header{"Content-Type": {"application/json"}, "Www-Authenticate": {"Bearer"}}, `{"status":"error","code":"unauthorized","message":"x"}`}, true},
		{"no field", "GET", "/api/ghosts", answer{400, kind, `{"status":"error","code":"invalid_request","message":"x"}`}, false},
		{"an unlisted path", "GET", "/x", answer{404, kind, `{"status":"error","code":"not_found","message":"x"}`}, true},
		{"an unlisted path that answers", "GET", "/x", answer{200, kind, ok}, false},
	} {
		if err := contract().check(test.method, test.target, test.got); (err == nil) != test.good {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// The document lists the routes of the table, no more and no fewer, and is served as it is.
func TestDocumentListsEveryRoute(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("web.go")
	if err != nil {
		t.Fatal(err)
	}
	var table, listed []string
	for _, match := range regexp.MustCompile(`mux\.Handle(?:Func)?\("([A-Z]+ /[^"]*)"`).FindAllStringSubmatch(string(source), -1) {
		if !strings.HasSuffix(match[1], "/{of}") { // it only leads to a mux of its own
			table = append(table, strings.TrimSuffix(match[1], "{$}"))
		}
	}
	for path, item := range contract().spec.Paths.Map() {
		for method, operation := range item.Operations() {
			if isOfApps(operation) { // on a way of their own
				if !verdict.Serves(strings.NewReplacer("{customer}", "cus_1", "{subscription}", "sub_1", "{key}", "access").Replace(path)) {
					t.Errorf("%s is listed, and nobody answers it", path)
				}
				continue
			}
			listed = append(listed, method+" "+path)
		}
	}
	slices.Sort(table)
	slices.Sort(listed)
	if len(table) < 12 || !slices.Equal(table, listed) {
		t.Errorf("routes %q\nlisted %q", table, listed)
	}
	if got := setup(t).browser().get("/api/openapi.json"); got.status != 200 || got.body != string(contract().text) {
		t.Errorf("served: %d, %d bytes", got.status, len(got.body))
	}
}
