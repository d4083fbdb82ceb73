// Package play drives the model from outside, line by line: an examiner tells it of charges, asks
// for moments, and has it learn. It needs no database, network or clock. docs/oracle.md describes
// the lines.
package play

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"phantom/decline"
	"phantom/money"
	"phantom/oracle/model"
	"phantom/zone"
)

// LineError is a line that cannot be read.
type LineError struct {
	Line int // from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Err) }

func (e *LineError) Unwrap() error { return e.Err }

// debt is what tell and ask say of an invoice and who owes it.
type debt struct {
	Merchant string `json:"merchant"`
	Category string `json:"category"`
	Customer string `json:"customer"`
	Invoice  string `json:"invoice"`
	Country  string `json:"country"`
	Zone     string `json:"zone"`
	Brand    string `json:"brand"`
	Funding  string `json:"funding"`
	Amount   number `json:"amount"`
	Currency string `json:"currency"`
}

// told is a charge.
type told struct {
	debt
	Attempt number `json:"attempt"`
	At      string `json:"at"`
	Outcome string `json:"outcome"`
	Class   string `json:"class"`
	Code    string `json:"code"`
	Source  string `json:"source"`
}

// asked is a question.
type asked struct {
	debt
	ID        string `json:"id"`
	NotBefore string `json:"not_before"`
	NotAfter  string `json:"not_after"`
	Left      number `json:"left"`
	Tried     []struct {
		At    string `json:"at"`
		Class string `json:"class"`
		Code  string `json:"code"`
	} `json:"tried"`
	Explore bool   `json:"explore"`
	At      string `json:"at"`
}

// answer is the line that answers a question.
type answer struct {
	ID         string  `json:"id"`
	At         *string `json:"at"` // null: charge this invoice no more
	P          float64 `json:"p"`
	Propensity float64 `json:"propensity"`
	Reason     string  `json:"reason"`
}

// number is one that is read however it is written: 19, 19.0 or 1.9e1. What is out of bounds is
// taken for the bound.
type number int64

// UnmarshalJSON implements [json.Unmarshaler].
func (n *number) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	var x float64
	if err := json.Unmarshal(text, &x); err != nil {
		var huge *json.UnmarshalTypeError // such as 1e999
		if !errors.As(err, &huge) || !strings.HasPrefix(huge.Value, "number") {
			return fmt.Errorf("%.40q is no number", text)
		}
		x = math.MaxInt64
		if text[0] == '-' {
			x = -x
		}
	}
	*n = number(min(max(x, -1e15), 1e15))
	return nil
}

const longest = 16 << 20 // bytes of a line

// Run answers each question of in with a line of out, until in ends. A line that cannot be read
// ends it with a [LineError]; all questions before it have their answers.
func Run(in io.Reader, out io.Writer) error {
	ledger, w := model.NewLedger(), bufio.NewWriter(out)
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 64<<10), longest)
	n := 0
	for lines.Scan() {
		n++
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		reply, err := do(ledger, text)
		if err != nil {
			return &LineError{n, err}
		}
		if reply == nil {
			continue
		}
		body, err := json.Marshal(reply)
		if err != nil {
			return fmt.Errorf("write an answer: %w", err)
		}
		_, _ = w.Write(append(body, '\n'))
		if err := w.Flush(); err != nil {
			return fmt.Errorf("write an answer: %w", err)
		}
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return &LineError{n + 1, fmt.Errorf("it is longer than %d bytes", longest)}
		}
		return fmt.Errorf("read lines: %w", err)
	}
	return nil
}

// do does what a line says.
func do(ledger *model.Ledger, text []byte) (*answer, error) {
	var line struct {
		Op       string `json:"op"`
		Merchant string `json:"merchant"`
		Now      string `json:"now"`
	}
	if err := read(text, &line); err != nil {
		return nil, err
	}
	switch line.Op {
	case "tell":
		return nil, tell(ledger, text)
	case "ask":
		return ask(ledger, text)
	case "rebuild":
		now, err := moment("now", line.Now)
		if err == nil {
			ledger.Rebuild(now)
		}
		return nil, err
	case "forget":
		if line.Merchant == "" {
			return nil, errors.New("merchant is missing")
		}
		ledger.Forget(line.Merchant)
		return nil, nil //nolint:nilnil // no answer, no error
	case "":
		return nil, errors.New("op is missing: tell, ask, rebuild or forget")
	}
	return nil, fmt.Errorf("op %.40q is none of tell, ask, rebuild and forget", line.Op)
}

// read reads a line, and says in words what is wrong with it.
func read(text []byte, into any) error {
	err := json.Unmarshal(text, into)
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &kind) && kind.Field != "":
		return fmt.Errorf("%s cannot be %s", kind.Field, kind.Value)
	case errors.As(err, &syntax):
		return fmt.Errorf("it is no JSON: %w", err)
	}
	return fmt.Errorf("it is no object of this kind: %w", err)
}

// moment reads a time.
func moment(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, fmt.Errorf("%s is missing", field)
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s %.40q is no time such as 2026-11-03T09:12:00Z", field, text)
	}
	return at, nil
}

func (d *debt) model() (model.Debt, error) {
	for _, field := range []struct{ name, value string }{{"merchant", d.Merchant}, {"customer", d.Customer}, {"invoice", d.Invoice}} {
		if field.value == "" {
			return model.Debt{}, fmt.Errorf("%s is missing", field.name)
		}
	}
	country := strings.ToUpper(d.Country)
	if len(zone.InCountries(country)) == 0 {
		country = ""
	}
	return model.Debt{
		Merchant: d.Merchant, Category: model.Word(d.Category), Country: country, Zone: zone.Named(d.Zone), Brand: model.Word(d.Brand),
		Funding: model.Word(d.Funding), Amount: int64(d.Amount), Decimals: money.Decimals(d.Currency),
	}, nil
}

func tell(ledger *model.Ledger, text []byte) error {
	var t told
	if err := read(text, &t); err != nil {
		return err
	}
	debt, err := t.model()
	if err != nil {
		return err
	}
	at, err := moment("at", t.At)
	if err != nil {
		return err
	}
	if t.Outcome != "succeeded" && t.Outcome != "failed" {
		return fmt.Errorf("outcome %.40q is neither succeeded nor failed", t.Outcome)
	}
	ledger.Tell(model.Charge{
		Debt: debt, Customer: t.Customer, Invoice: t.Invoice, Attempt: int(t.Attempt), At: at, OK: t.Outcome == "succeeded",
		Class: model.ClassOf(decline.Class(t.Class)), Code: model.Word(t.Code), Ours: t.Source == "oracle", Alone: t.Source == "customer",
	})
	return nil
}

func ask(ledger *model.Ledger, text []byte) (*answer, error) {
	var a asked
	if err := read(text, &a); err != nil {
		return nil, err
	}
	debt, err := a.model()
	if err != nil {
		return nil, err
	}
	q := model.Question{Debt: debt, Left: int(a.Left)}
	for i, t := range a.Tried {
		at, err := moment(fmt.Sprintf("tried[%d].at", i), t.At)
		if err != nil {
			return nil, err
		}
		q.Tried = append(q.Tried, model.Tried{At: at, Class: model.ClassOf(decline.Class(t.Class)), Code: model.Word(t.Code)})
	}
	if len(q.Tried) == 0 {
		return nil, errors.New("tried is empty: an invoice that is asked about has failed once at least")
	}
	if q.NotBefore, err = moment("not_before", a.NotBefore); err != nil {
		return nil, err
	}
	if q.NotAfter, err = moment("not_after", a.NotAfter); err != nil {
		return nil, err
	}
	q.Memory = ledger.MemoryOf(a.Merchant, a.Customer, a.Invoice, debt.Zone, q.Tried)
	if a.At != "" {
		at, err := moment("at", a.At)
		if err != nil {
			return nil, err
		}
		advice := ledger.Model().Chance(q, at)
		return &answer{a.ID, &a.At, advice.P, 1, advice.Reason}, nil
	}
	advice := ledger.Model().Plan(q, die(a.ID), a.Explore)
	reply := &answer{ID: a.ID, P: advice.P, Propensity: advice.Propensity, Reason: cmp.Or(advice.Reason, "no charge that may be made is worth it")}
	if !advice.At.IsZero() {
		at := advice.At.UTC().Format(time.RFC3339Nano)
		reply.At = &at
	}
	return reply, nil
}

// die is uniform in [0, 1), and always the same for the same id.
func die(id string) float64 {
	sum := sha256.Sum256([]byte(id))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
}
