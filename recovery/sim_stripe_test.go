//go:build failpoints

package recovery

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"

	"phantom/sandbox"
)

// simStripe is the way to the sandbox, without a network, and all that goes wrong on it.
type simStripe struct{ s *sim }

var errLostAnswer = errors.New("connection closed")

// serve lets the sandbox answer at the virtual clock.
func (s *sim) serve(request *http.Request) *http.Response {
	recorder := httptest.NewRecorder()
	s.world.ServeHTTP(recorder, request)
	response := recorder.Result()
	body := recorder.Body.Bytes()
	for _, m := range s.merchant {
		for card, shown := range m.cards {
			if card != shown {
				body = bytes.ReplaceAll(body, []byte(card), []byte(shown))
			}
		}
	}
	if request.Method == http.MethodGet && request.URL.Path == "/v1/events" &&
		request.Header.Get("Stripe-Account") == "" {
		body = s.visible(body)
	}
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	response.Request = request
	return response
}

// visible takes out of a list of events those that Stripe does not show yet.
func (s *sim) visible(body []byte) []byte {
	var page map[string]any
	if json.Unmarshal(body, &page) != nil || s.draining && !s.weather.neverEvents {
		return body
	}
	data, _ := page["data"].([]any)
	page["data"] = slices.DeleteFunc(data, func(e any) bool {
		event := e.(map[string]any)
		created := time.Unix(int64(event["created"].(float64)), 0)
		delay, never := s.weather.delayOf(s.seed, event["id"].(string))
		hidden := never || !s.draining && s.now.Before(created.Add(delay))
		if hidden {
			s.count("event not shown yet")
		}
		return hidden
	})
	out, err := json.Marshal(page)
	s.must(err)
	return out
}

// RoundTrip carries a request of the product's to Stripe, or does not, and brings an answer, or
// does not.
func (t simStripe) RoundTrip(request *http.Request) (*http.Response, error) {
	s := t.s
	switch {
	case !strings.HasPrefix(request.URL.Path, "/v1/"):
		return s.serve(request), nil
	case request.Method == http.MethodGet:
		return s.get(request)
	}
	return s.mutation(request)
}

func said(request *http.Request, status int, body string) *http.Response {
	header := http.Header{"Content-Type": {"application/json"}, "Request-Id": {"req_sim"}}
	if strings.HasPrefix(body, "<") {
		header.Set("Content-Type", "text/html")
	}
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1,
		ProtoMinor: 1, Header: header,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: request,
	}
}

const (
	simHTML    = "<html><body>Access denied by the proxy</body></html>"
	simRefusal = `{"error":{"type":"invalid_request_error","message":"Invalid API Key provided"}}`
	simFailure = `{"error":{"type":"api_error","message":"An unknown error occurred"}}`
	simLimit   = `{"error":{"type":"invalid_request_error","code":"rate_limit","message":"Too many
		requests"}}`
	simInUse = `{"error":{"type":"idempotency_error","code":"idempotency_key_in_use","message":"in
		use"}}`
)

// get answers a read: late, wrong or not at all.
func (s *sim) get(request *http.Request) (*http.Response, error) {
	dice := s.dice("GET " + request.URL.String())
	w := s.running
	if w != nil && w.object != "" && request.URL.Path == "/v1/invoices/"+w.object {
		s.passed[w.key] = true // it is read once the charges have told all
	}
	if w != nil && w.sequential && !s.draining {
		decides := request.URL.Path == "/v1/charges" || request.URL.Path == "/v1/invoices/"+w.object
		if w.object != "" && dice.Float64() < s.weather.turns && decides {
			answer := s.serve(request)
			s.turnBetween(w, dice)
			return answer, nil
		} else if dice.Float64() < s.weather.slowReads { // other things happen meanwhile
			s.count("slow read")
			slow := time.Duration(dice.IntN(9000)) * time.Millisecond
			if dice.IntN(2) == 0 { // the way back is slow: what is read is old
				answer := s.serve(request)
				s.pause(w, slow)
				return answer, nil
			}
			s.pause(w, slow)
		} else if dice.Float64() < 0.1 {
			s.pause(w, time.Duration(dice.IntN(300))*time.Millisecond)
		}
	}
	if w != nil && !s.draining && s.weather.lies && request.URL.Path == "/v1/account" &&
		dice.IntN(2) == 0 {
		s.count("account refused in error")
		s.denied = true
		return said(request, http.StatusUnauthorized, simRefusal), nil
	}
	if w != nil && !s.draining && dice.Float64() < s.weather.spoiltReads {
		switch dice.IntN(7) {
		case 0:
			s.count("read lost")
			return nil, errLostAnswer
		case 1:
			s.count("read 500")
			return said(request, http.StatusInternalServerError, simFailure), nil
		case 2:
			s.count("read 429")
			return said(request, http.StatusTooManyRequests, simLimit), nil
		case 3:
			if s.weather.refusals {
				s.count("read 401")
				s.denied = s.denied || request.URL.Path == "/v1/account"
				return said(request, http.StatusUnauthorized, simRefusal), nil
			}
		case 4:
			if s.weather.refusals {
				s.count("read 403 of a proxy")
				return said(request, http.StatusForbidden, simHTML), nil
			}
		case 5:
			if s.weather.refusals {
				s.count("read HTML")
				return said(request, http.StatusOK, simHTML), nil
			}
		}
	}
	return s.serve(request), nil
}

// mutation carries a change to Stripe.
func (s *sim) mutation(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	s.must(err)
	carry := func() *http.Response {
		again := request.Clone(s.ctx)
		again.Body = io.NopCloser(bytes.NewReader(body))
		s.count("request carried")
		answer := s.serve(again)
		s.checkExecutions()
		return answer
	}
	s.checkLeaving(request)
	s.say("  leaves: %s %s", request.Method, request.URL.Path)
	dice := s.dice(request.Method + " " + request.URL.Path)
	w := s.running
	if s.draining || w == nil || dice.Float64() >= s.weather.spoiltWrites {
		return carry(), nil
	}
	kind := dice.IntN(14)
	after := dice.IntN(2) == 0
	if s.weather.refusals && dice.IntN(3) == 0 {
		kind = 8 + dice.IntN(3)
	}
	lose := func(what string) {
		if s.weather.refusals && w.merchant != nil && dice.IntN(4) == 0 {
			s.plan(s.now.Add(time.Duration(dice.IntN(90))*time.Second), "a merchant leaves",
				func() { s.leave(w.merchant, dice) })
		}
		s.count(what)
		s.say("  %s (carried out: %t)", what, after)
		if after {
			carry()
		}
	}
	switch kind {
	case 0, 1, 2:
		lose("answer lost")
		return nil, errLostAnswer
	case 3: // it arrives when nobody waits any more
		s.count("request arrives late")
		s.say("  arrives late")
		s.flying++
		s.plan(s.now.Add(time.Duration(500+dice.IntN(9000))*time.Millisecond), "a late request arrives",
			func() {
				s.flying--
				carry()
			})
		return nil, errLostAnswer
	case 4:
		lose("500")
		return said(request, http.StatusInternalServerError, simFailure), nil
	case 5:
		s.count("500 stored")
		s.world.Fail(sandbox.Fault{Method: request.Method, Path: request.URL.Path,
			Status: http.StatusInternalServerError, Store: true, After: after})
		return carry(), nil
	case 6:
		s.count("409")
		return said(request, http.StatusConflict, simInUse), nil
	case 7:
		s.count("429")
		return said(request, http.StatusTooManyRequests, simLimit), nil
	case 8:
		if s.weather.refusals {
			lose("write 401")
			return said(request, http.StatusUnauthorized, simRefusal), nil
		}
	case 9:
		if s.weather.refusals {
			lose("write 403 of a proxy")
			return said(request, http.StatusForbidden, simHTML), nil
		}
	case 10:
		if s.weather.refusals {
			lose("write HTML")
			return said(request, http.StatusOK, simHTML), nil
		}
	case 11:
		lose("answer cut")
		return said(request, http.StatusOK, `{"id":"in_`), nil
	case 12, 13: // the process dies while the request is under way
		if s.weather.crashes > 0 {
			lose("crash while flying")
			runtime.Goexit()
		}
	}
	return carry(), nil
}

// ask reads what is true at Stripe, past all that goes wrong.
func (s *sim) ask(m *simMerchant, path string, query url.Values, into any) bool {
	address := "http://stripe.test" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequest(http.MethodGet, address, nil)
	s.must(err)
	request.Header.Set("Authorization", "Bearer "+sandbox.SecretKey)
	request.Header.Set("Stripe-Account", m.account)
	response := s.serve(request)
	if response.StatusCode != http.StatusOK {
		return false
	}
	s.must(json.NewDecoder(response.Body).Decode(into))
	return true
}

// post changes something at Stripe in the merchant's name.
func (s *sim) post(m *simMerchant, path string, form url.Values) bool {
	return s.send(m, path, form).StatusCode == http.StatusOK
}

func (s *sim) send(m *simMerchant, path string, form url.Values) *http.Response {
	request, err := http.NewRequest(http.MethodPost, "http://stripe.test"+path,
		strings.NewReader(form.Encode()))
	s.must(err)
	request.Header.Set("Authorization", "Bearer "+sandbox.SecretKey)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if strings.HasPrefix(path, "/v1/") {
		request.Header.Set("Stripe-Account", m.account)
	}
	return s.serve(request)
}

// trueCharge is a charge as the sandbox tells it, read apart from the product's own reading.
type trueCharge struct {
	ID, Status, Invoice, Customer string
	Created                       int64
	Disputed                      bool
	Dispute                       struct {
		Status  string
		Created int64
	}
	Outcome struct {
		NetworkStatus string `json:"network_status"`
	}
	Method struct {
		Card struct{ Brand, Fingerprint string }
	} `json:"payment_method_details"`
}

// contested says whether a dispute about it is open.
func (c trueCharge) contested() bool {
	return c.Disputed && !slices.Contains([]string{"won", "lost", "warning_closed"}, c.Dispute.Status)
}

// blocked says that it never reached the card's network.
func (c trueCharge) blocked() bool { return c.Outcome.NetworkStatus == "not_sent_to_network" }

func (s *sim) charges(m *simMerchant) (all []trueCharge, connected bool) {
	query := url.Values{"limit": {"100"}, "expand[]": {"data.dispute"}}
	for {
		var page struct {
			Data    []trueCharge
			HasMore bool `json:"has_more"`
		}
		if !s.ask(m, "/v1/charges", query, &page) {
			return nil, false
		}
		all = append(all, page.Data...)
		if !page.HasMore {
			return all, true
		}
		query.Set("starting_after", page.Data[len(page.Data)-1].ID)
	}
}
