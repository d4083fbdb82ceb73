package sandbox

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// listSMS lists an account's messages, newest first: To, From, DateSent with DateSent< and
// DateSent>, Page and PageSize. Both ends are included, as DateSent<= and DateSent>= look in a URL.
func (s *Sandbox) listSMS(q *request, sid string) answer {
	page, size := 0, 50
	for name, into := range map[string]*int{"Page": &page, "PageSize": &size} {
		if v := q.form.Get(name); v != "" {
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 || name == "PageSize" && n < 1 {
				return twilioError(http.StatusBadRequest, 20001, name+" is not valid")
			}
			*into = n
		}
	}
	size = min(size, 1000)
	from, to, ok1 := dateSent(q.form)
	if !ok1 {
		return twilioError(http.StatusBadRequest, 20001, "DateSent is not a date")
	}
	rows := []map[string]any{}
	skip, more := page*size, false
	for _, m := range slices.Backward(s.texts) {
		at := m.Clock.Truncate(time.Second) // Twilio shows and knows seconds only
		if m.Account != sid || q.form.Get("To") != "" && q.form.Get("To") != m.To || q.form.Get("From") != "" && q.form.Get("From") != m.From ||
			!from.IsZero() && at.Before(from) || !to.IsZero() && at.After(to) {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		if more = len(rows) == size; more {
			break
		}
		rows = append(rows, m.show())
	}
	uri := func(page int) string {
		p := url.Values{}
		for _, name := range []string{"To", "From", "DateSent", "DateSent<", "DateSent>"} {
			if q.form.Has(name) {
				p.Set(name, q.form.Get(name))
			}
		}
		p.Set("PageSize", strconv.Itoa(size))
		p.Set("Page", strconv.Itoa(page))
		return twilioVersion + "/Accounts/" + sid + "/Messages.json?" + p.Encode()
	}
	out := map[string]any{"messages": rows, "page": page, "page_size": size, "start": page * size, "end": max(page*size+len(rows)-1, 0),
		"uri": uri(page), "first_page_uri": uri(0), "next_page_uri": nil, "previous_page_uri": nil}
	if more {
		out["next_page_uri"] = uri(page+1) + "&PageToken=PA" + rows[len(rows)-1]["sid"].(string)
	}
	if page > 0 {
		out["previous_page_uri"] = uri(page - 1)
	}
	return ok(out)
}

// dateSent reads the span of dates. A date without a time is its midnight, in UTC; DateSent alone
// is that whole day.
func dateSent(p url.Values) (from, to time.Time, fine bool) {
	for _, name := range []string{"DateSent", "DateSent<", "DateSent>"} {
		v := p.Get(name)
		if v == "" {
			continue
		}
		at, err := time.Parse(time.DateOnly, v)
		if err != nil {
			if at, err = time.Parse(time.RFC3339, v); err != nil {
				return from, to, false
			}
		}
		at = at.Truncate(time.Second)
		switch name {
		case "DateSent":
			from = at.UTC().Truncate(24 * time.Hour)
			to = from.Add(24*time.Hour - time.Second)
		case "DateSent<":
			to = at
		case "DateSent>":
			from = at
		}
	}
	return from, to, true
}
