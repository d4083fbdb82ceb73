package recovery

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"time"

	"phantom/billing"
	"phantom/connect"
	"phantom/db"
	"phantom/state"
)

// clockSkew is how far Stripe's clock and the database's may differ.
const clockSkew = 2 * time.Minute

// execution is what the charges of an invoice say of a task: whether it was executed is found at
// Stripe alone, in the same way before every send and when a request is settled.
type execution struct {
	charge *billing.Charge  // that bears the task's key; nil where none does
	unsure []billing.Charge // whose event has not come yet: they may be the task's
	crowd  bool             // the account has more events around a charge than are looked through
}

// findExecution looks for what the task has done since a time from which on its charges may come.
// It asks whose key each charge of its invoice bears that is not known to be another attempt's;
// usually there is none. charges are the customer's.
func (j *job) findExecution(ctx context.Context, charges []billing.Charge, since time.Time) (e execution, err error) {
	var mine []billing.Charge
	for _, c := range charges {
		if c.Invoice == j.p.Object && !c.At().Before(since.Add(-clockSkew)) {
			mine = append(mine, c)
		}
	}
	if len(mine) == 0 {
		return e, nil
	}
	attempts, err := j.attemptsOnObject(ctx)
	if err != nil {
		return e, err
	}
	for _, c := range mine {
		hash := j.reader.Hash("charge", c.ID)
		if slices.ContainsFunc(attempts, func(a db.Attempt) bool { return a.TaskID != j.t.ID && bytes.Equal(a.Charge, hash) }) {
			continue
		}
		key, known, err := keyOf(ctx, j.reader, c)
		switch {
		case errors.Is(err, errTooManyEvents):
			e.crowd = true
			e.unsure = append(e.unsure, c)
		case err != nil:
			return e, err
		case !known && j.attempt.SentAt == nil && j.now.Sub(c.At()) > eventLife:
			// Stripe tells of it no more
		case !known:
			e.unsure = append(e.unsure, c)
		case key == "task_"+j.t.ID.String():
			e.charge = &c
			return e, nil
		}
	}
	return e, nil
}

// chargeOutcome says what a charge of ours has brought.
func chargeOutcome(c billing.Charge) outcome {
	o := outcome{status: state.TaskSucceeded, result: state.AttemptPaid, why: "paid"}
	switch c.Status {
	case billing.ChargeSucceeded:
	case billing.ChargePending:
		o = outcome{status: state.TaskSucceeded, result: state.AttemptProcessing, why: "the bank is still moving the money"}
	default:
		o = declined(c.Class())
	}
	o.charge, o.at = c.ID, c.At()
	return o
}

// keyOf is the idempotency key of the request that made a charge, as its event tells: "" where
// Stripe itself or somebody in the dashboard did. It is not known where there is no event yet, or
// none any more: Stripe keeps events for 30 days. Nearly always the event stands right beside its
// charge, and a minute of a busy account has more events than are looked through.
func keyOf(ctx context.Context, reader *connect.Reader, c billing.Charge) (key string, known bool, err error) {
	types := []string{"charge.succeeded", "charge.failed", "charge.pending"}
	// it is made pending, and what comes of it later bears no key
	if c.Method.Rail() == billing.RailDebit {
		types = []string{"charge.pending"}
	}
	for _, span := range [][2]time.Duration{{-2 * time.Second, 3 * time.Second}, {-10 * time.Second, time.Minute}} {
		err := readEvents(ctx, reader, types, c.At().Add(span[0]), c.At().Add(span[1]),
			func(e requestEvent) bool {
				if e.Data.Object.ID == c.ID && slices.Contains(types, e.Type) {
					known = true
					key = cmp.Or(key, e.Request.Key)
				}
				return known
			})
		if known || err != nil {
			return key, known, err
		}
	}
	return "", false, nil
}

// mostEventPages bounds the search for an execution among all events of an account.
const mostEventPages = 30

// errTooManyEvents says that an account has had more events since than are looked through.
var errTooManyEvents = errors.New("too many events around a charge to be sure whose it was")

// requestEvent is what is read of an event.
type requestEvent struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Data struct {
		Object struct {
			ID string `json:"id"`
		} `json:"object"`
	} `json:"data"`
	Request struct {
		Key string `json:"idempotency_key"`
	} `json:"request"`
}

// readEvents reads the events of some types within a span, to the end of the page on which enough
// says that it has seen what it needs.
func readEvents(ctx context.Context, reader *connect.Reader, types []string, from, to time.Time, enough func(requestEvent) bool) error {
	query := url.Values{
		"limit": {"100"}, "types[]": types,
		"created[gte]": {strconv.FormatInt(from.Unix(), 10)}, "created[lte]": {strconv.FormatInt(to.Unix(), 10)},
	}
	for range mostEventPages {
		var page struct {
			Data    []requestEvent `json:"data"`
			HasMore bool           `json:"has_more"`
		}
		if err := billing.GetJSON(ctx, reader, "/v1/events", query, &page); err != nil {
			return err
		}
		seen := false
		for _, e := range page.Data {
			seen = enough(e) || seen
		}
		if seen || !page.HasMore || len(page.Data) == 0 {
			return nil
		}
		query.Set("starting_after", page.Data[len(page.Data)-1].ID)
	}
	return errTooManyEvents
}
