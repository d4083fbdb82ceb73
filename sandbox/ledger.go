package sandbox

import (
	"maps"
	"strings"
	"time"
)

// Execution is one line of the ledger: something that was really done in the world. Replays,
// refused twins and failed validations are none; declines are.
type Execution struct {
	Account string `json:"account"` // acct_…, "resend", or Twilio's AC…
	Key     string `json:"key"`     // Idempotency-Key; "" if there was none
	Method  string `json:"method"`
	Path    string `json:"path"`
	Object  string `json:"object"` // id of what was changed or made
	// the object's status just before, as "open" of an invoice; "" if it has none or is new
	Before   string    `json:"before"`
	Status   int       `json:"status"`   // of the real answer, no matter what a fault made of it
	At       time.Time `json:"at"`       // wall clock: a test compares it with its own
	Clock    time.Time `json:"clock"`    // the sandbox's clock
	Request  string    `json:"request"`  // Request-Id
	Metadata dict      `json:"metadata"` // what the request set, as planned_attempt
	Order    uint64    `json:"order"`    // 1, 2, 3 … over all accounts
	// the key was executed before: forgotten in between, or in another account
	Repeated bool `json:"repeated_by_key"`
}

// enter writes an execution into the ledger. Callers hold the lock.
func (s *Sandbox) enter(q *request, account, before string, status int) {
	e := Execution{Account: account, Key: q.key, Method: q.Method, Path: q.URL.Path, Before: before, Status: status, At: time.Now(), Clock: q.now,
		Request: q.id, Metadata: dict{}, Order: uint64(len(s.ledger)) + 1}
	if q.target != nil {
		e.Object = q.target.meta().ID
	}
	for name, values := range q.form {
		if key, nested := strings.CutPrefix(name, "metadata["); nested {
			e.Metadata[strings.TrimSuffix(key, "]")] = values[0]
		}
	}
	if q.key != "" {
		e.Repeated = s.executed[q.key] > 0
		s.executed[q.key]++
	}
	s.ledger = append(s.ledger, e)
}

// statusOf is what the ledger says of an object before it was changed.
func statusOf(o object) string {
	switch o := o.(type) {
	case *invoice:
		return o.Status
	case *subscription:
		return o.Status
	}
	return ""
}

// Ledger lists what was executed in an account, or with "" in all, oldest first.
func (s *Sandbox) Ledger(account string) []Execution {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Execution{}
	for _, e := range s.ledger {
		if account == "" || e.Account == account {
			out = append(out, e)
		}
	}
	return out
}

// PaidTwice lists the invoices whose charges have taken more than they ask for, unless it was given
// back: this is what customers have lost. An answer of 200 says less, for a debit that is under way
// may still fail.
func (s *Sandbox) PaidTwice() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var twice []string
	for _, id := range s.ids {
		a := s.accounts[id]
		a.advance(s.now().Unix())
		paid := map[string]int64{}
		for _, row := range a.tables["charges"].rows {
			if c, is := row.(*charge); is && c.Paid {
				paid[string(c.Invoice)] += c.Amount - c.AmountRefunded
			}
		}
		for _, row := range a.tables["invoices"].rows {
			if i, is := row.(*invoice); is && paid[i.ID] > i.Total {
				twice = append(twice, i.ID)
			}
		}
	}
	return twice
}

// Executions says how often the mutation with this Idempotency-Key was really executed, over all
// accounts and for the life of the sandbox: replays, refused twins and failed validations do not
// count, declines do.
func (s *Sandbox) Executions(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.executed[key]
}

// AllExecutions is Executions of every key.
func (s *Sandbox) AllExecutions() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.executed)
}
