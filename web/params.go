package web

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/debt"
	"phantom/decline"
	"phantom/ghost"
	"phantom/state"
	"phantom/task"
	"phantom/trail"
)

// paramError says which part of a request is wrong, and what would be right. It never quotes the
// request.
type paramError struct{ field, rule string }

func (e *paramError) Error() string { return e.field + " " + e.rule }

// errMediaType is returned for a body that is not declared to be JSON.
var errMediaType = errors.New("the body is not application/json")

// Ghosts, tasks or changes on a page.
const (
	defaultLimit = 50
	maxLimit     = 200
)

var (
	ghostParameters = []string{"cursor", "limit", "status", "min_amount", "currency", "decline_class", "kind"}
	taskParameters  = []string{"cursor", "limit", "status", "kind"}
	currencyShape   = regexp.MustCompile(`^[a-z]{3}$`)
	kindShape       = regexp.MustCompile(`^[a-z][a-z_]{0,63}$`)
	numberShape     = regexp.MustCompile(`^[0-9]{1,18}$`) // what an int64 always holds
)

// ghostFilter reads the query of GET /api/ghosts.
func ghostFilter(query string) (ghost.Filter, error) {
	owed := string(debt.Owed) // the other kinds are shown where they are asked for
	filter := ghost.Filter{Limit: defaultLimit, Kind: &owed}
	err := readQuery(query, ghostParameters, func(name, value string) string {
		switch name {
		case "cursor":
			return setCursor(&filter.After, value)
		case "limit":
			return setLimit(&filter.Limit, value)
		case "status":
			if !slices.Contains(db.Texts(state.Ghosts), value) {
				return "must be one of " + strings.Join(db.Texts(state.Ghosts), ", ")
			}
			filter.Status = &value
		case "min_amount":
			amount, err := strconv.ParseInt(value, 10, 64)
			if !numberShape.MatchString(value) || err != nil {
				return "must be a whole number of minor units of the currency, 0 or more"
			}
			filter.MinAmount = &amount
		case "currency":
			if !currencyShape.MatchString(value) {
				return "must be a currency in three lower-case letters"
			}
			filter.Currency = &value
		case "decline_class":
			if !slices.Contains(db.Texts(decline.Classes), value) {
				return "must be one of " + strings.Join(db.Texts(decline.Classes), ", ")
			}
			filter.DeclineClass = &value
		case "kind":
			switch {
			case value == "all":
				filter.Kind = nil
			case slices.Contains(debt.Kinds, debt.Kind(value)):
				filter.Kind = &value
			default:
				return "must be one of " + strings.Join(db.Texts(debt.Kinds), ", ") + ", all"
			}
		}
		return ""
	})
	return filter, err
}

// taskFilter reads the query of GET /api/tasks.
func taskFilter(query string) (task.Filter, error) {
	filter := task.Filter{Limit: defaultLimit}
	err := readQuery(query, taskParameters, func(name, value string) string {
		switch name {
		case "cursor":
			return setCursor(&filter.Before, value)
		case "limit":
			return setLimit(&filter.Limit, value)
		case "status":
			if !slices.Contains(db.Texts(state.Tasks), value) {
				return "must be one of " + strings.Join(db.Texts(state.Tasks), ", ")
			}
			filter.Status = &value
		case "kind":
			if !kindShape.MatchString(value) {
				return "must be a kind of task, in lower-case letters and _"
			}
			filter.Kind = &value
		}
		return ""
	})
	return filter, err
}

// trailFilter reads the query of GET /api/audit-log.
func trailFilter(query string) (trail.Filter, error) {
	filter := trail.Filter{Limit: defaultLimit}
	err := readQuery(query, []string{"cursor", "limit", "key"}, func(name, value string) string {
		switch name {
		case "cursor":
			return setCursor(&filter.Before, value)
		case "limit":
			return setLimit(&filter.Limit, value)
		case "key":
			id, err := parseID(value)
			if err != nil {
				return "must be a key's id"
			}
			filter.Key = &id
		}
		return ""
	})
	return filter, err
}

// readQuery hands each parameter of a query to set, which returns the rule that its value breaks,
// or "". A parameter that is unknown or given twice is an error: a filter that was misspelled must
// not silently show everything.
func readQuery(query string, known []string, set func(name, value string) (broken string)) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return &paramError{"query", "is not a well-formed query string"}
	}
	for name := range values {
		if !slices.Contains(known, name) {
			return &paramError{"query", "takes only " + strings.Join(known, ", ")}
		}
	}
	for _, name := range known {
		// in this order, so that of two errors always the same one is named
		given, ok := values[name]
		if !ok {
			continue
		}
		rule := "must be given once"
		if len(given) == 1 {
			rule = set(name, given[0])
		}
		if rule != "" {
			return &paramError{name, rule}
		}
	}
	return nil
}

func setCursor(at *uuid.UUID, value string) (broken string) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil || len(raw) != len(at) || uuid.UUID(raw) == uuid.Nil || len(value) != base64.RawURLEncoding.EncodedLen(len(raw)) {
		return "must be a next_cursor of an earlier page"
	}
	*at = uuid.UUID(raw)
	return ""
}

func setLimit(into *int, value string) (broken string) {
	limit, err := strconv.Atoi(value)
	if !numberShape.MatchString(value) || err != nil || limit < 1 || limit > maxLimit {
		return fmt.Sprintf("must be a whole number from 1 to %d", maxLimit)
	}
	*into = limit
	return ""
}

// pathID reads the id in the path. A malformed one is no other than an unknown one.
func pathID(r *http.Request) (uuid.UUID, error) {
	return parseID(r.PathValue("id"))
}

func parseID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil || id.String() != text { // Parse takes braces and the like, too
		return uuid.Nil, ghost.ErrNotFound
	}
	return id, nil
}

// jsonBody reads the body, which is empty or declared to be JSON.
func jsonBody(r *http.Request) ([]byte, error) {
	text, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, err
	}
	if err != nil {
		return nil, &paramError{"body", "did not arrive whole"}
	}
	if len(text) == 0 {
		return nil, nil
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return nil, errMediaType
	}
	return text, nil
}

// jsonObject reads an object. A field that is given twice is refused, for nobody can know which of
// the two was meant.
func jsonObject(text []byte) (map[string]json.RawMessage, error) {
	wrong := &paramError{"body", "must be a JSON object"}
	d := json.NewDecoder(bytes.NewReader(text))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return nil, wrong
	}
	object := make(map[string]json.RawMessage)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, wrong
		}
		name, _ := token.(string) // a field's name is one
		if _, twice := object[name]; twice {
			return nil, &paramError{"body", "must give each field once"}
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, wrong
		}
		object[name] = value
	}
	if _, err := d.Token(); err != nil { // the end of the object
		return nil, wrong
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, wrong
	}
	return object, nil
}

// bodyFields reads a JSON object of texts with these fields and no other. No body at all is an
// empty object.
func bodyFields(r *http.Request, known ...string) (map[string]string, error) {
	text, err := jsonBody(r)
	if err != nil || len(text) == 0 {
		return nil, err
	}
	object, err := jsonObject(text)
	if err != nil {
		return nil, err
	}
	fields := make(map[string]string, len(object))
	for name := range object {
		if !slices.Contains(known, name) {
			if len(known) == 0 {
				return nil, &paramError{"body", "takes no fields"}
			}
			return nil, &paramError{"body", "takes only " + strings.Join(known, ", ")}
		}
	}
	for _, name := range known {
		var value *string // nil: the handler says what it must be
		if given, ok := object[name]; ok && json.Unmarshal(given, &value) != nil {
			return nil, &paramError{name, "must be a string"}
		}
		if value != nil {
			fields[name] = *value
		}
	}
	return fields, nil
}
