// Package emulator leads tests to the emulators of Resend and Twilio that others wrote.
package emulator

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// The variables of the environment in which `make emulators` names the emulators that others wrote
// (npm emulate). They take what we send.
const (
	Resend = "PHANTOM_EMULATE_RESEND"
	Twilio = "PHANTOM_EMULATE_TWILIO"
)

// Emulator is one that runs elsewhere, behind a wire that can lose an answer.
type Emulator struct {
	t    *testing.T
	base *url.URL
	URL  string      // leads to it
	Lose atomic.Bool // the answer to the next POST, once the emulator has given it
}

// New returns the emulator that a variable of the environment names. Without it the test is
// skipped.
func New(t *testing.T, variable string) *Emulator {
	t.Helper()
	base := os.Getenv(variable)
	if base == "" {
		t.Skip(variable + " names no emulator")
	}
	address, err := url.Parse(base)
	if err != nil || address.Host == "" {
		t.Fatalf("%s: %q is no URL", variable, base)
	}
	e := &Emulator{t: t, base: address}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(address) },
		ModifyResponse: func(r *http.Response) error {
			if r.Request.Method == http.MethodPost && e.Lose.Swap(false) {
				panic(http.ErrAbortHandler)
			}
			return nil
		},
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	e.URL = server.URL
	return e
}

// list asks the emulator itself.
func (e *Emulator) list(user, password, path string, query url.Values, to any) {
	e.t.Helper()
	address := e.base.JoinPath(path)
	address.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, address.String(), nil)
	if err != nil {
		e.t.Fatal(err)
	}
	request.SetBasicAuth(user, password)
	response, err := (&http.Client{Timeout: 30 * time.Second}).Do(request)
	if err != nil {
		e.t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(to); err != nil || response.StatusCode != http.StatusOK {
		e.t.Fatalf("%s: %d %v", path, response.StatusCode, err)
	}
}

// Email is one as the emulator shows it.
type Email struct {
	ID, From, Subject, HTML, Text string
	To                            []string
	Headers                       map[string]string
}

// Emails are all that the emulator has taken for an address.
func (e *Emulator) Emails(to string) []Email {
	e.t.Helper()
	var all struct{ Data []Email }
	e.list("", "", "/emails", nil, &all)
	return slices.DeleteFunc(all.Data, func(m Email) bool { return !slices.Contains(m.To, to) })
}

// SMS is one as the emulator shows it.
type SMS struct{ SID, To, From, Body, Direction string }

// Texts are all that the emulator lists for a number.
func (e *Emulator) Texts(account, token, to string) []SMS {
	e.t.Helper()
	var all struct{ Messages []SMS }
	e.list(account, token, "/2010-04-01/Accounts/"+account+"/Messages.json", url.Values{"To": {to}, "PageSize": {"1000"}}, &all)
	return all.Messages
}
