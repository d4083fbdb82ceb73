package demo

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"phantom/billing"
	"phantom/sandbox"
)

// world is one of the sandboxes, which hold the same merchant, and what is seen of it from outside.
// All are looked at in the same way, past PHANTOM's own books.
type world struct {
	box     *sandbox.Sandbox
	base    string
	account string
	client  *http.Client

	debts     map[string]*debt // by invoice: all that any ghost has ever owed
	atRisk    map[string]int64 // what ghosts owe now, by currency
	ghosts    int
	recovered map[string]int64 // of those debts, by currency
	invoices  map[string]int   // that were paid, by currency
	attempts  int              // charges of the fixed schedule
}

// debt is an invoice that a ghost owes.
type debt struct {
	currency  string
	remaining int64
	since     time.Time // its first failure, or the demo's start if that was earlier
	over      bool      // paid, or void
	charged   bool      // open and charged automatically: the fixed schedule is for these
	held      bool      // Smart Retries was told to let go of it
	tries     int       // of the fixed schedule
}

// neighbours is how many customers each of the other merchants has.
const neighbours = 40

// american is the number of the merchant whose customers an SMS can reach.
const american = 2

// openWorld opens a sandbox with the merchant, and at least so many others.
func (d *run) openWorld(others int, emails bool) (*world, error) {
	start := d.start
	box, err := sandbox.New(sandbox.Config{
		Seed: max(d.Seed, 1), Merchants: max(others+1, american+1), Customers: neighbours, CustomersOf: map[int]int{american: d.Customers},
		Respond: true, StripeEmails: emails, Now: func() time.Time { return start },
	})
	if err != nil {
		return nil, fmt.Errorf("[STRIPE] sandbox: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("[STRIPE] sandbox: %w", err)
	}
	server := box.Server()
	go func() { _ = server.Serve(listener) }()
	transport := &http.Transport{Proxy: nil}
	d.onStop(func() {
		box.Close()
		<-box.Mailed()
		transport.CloseIdleConnections()
		_ = server.Close()
	})
	return &world{
		box: box, base: "http://" + listener.Addr().String(), account: box.Accounts()[american],
		client: &http.Client{Transport: transport, Timeout: 30 * time.Second},
		debts:  map[string]*debt{}, recovered: map[string]int64{}, invoices: map[string]int{},
	}, nil
}

// call asks the sandbox as the merchant and reads a good answer. Others are their status alone.
func (w *world) call(ctx context.Context, method, path string, form url.Values, key string, into any) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, method, w.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+sandbox.SecretKey)
	request.Header.Set("Stripe-Account", w.account)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := w.client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("[STRIPE] sandbox: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && response.StatusCode < 300 && into != nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return 0, fmt.Errorf("[STRIPE] sandbox: %w", err)
	}
	return response.StatusCode, nil
}

// allow has a merchant say yes on Stripe's page, and returns what the browser brings back.
func (w *world) allow(ctx context.Context, page, account string) (url.Values, error) {
	address, err := url.Parse(page)
	if err != nil {
		return nil, err
	}
	query := address.Query()
	query.Set("sandbox_account", account)
	address.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, err
	}
	client := *w.client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	_ = response.Body.Close()
	back, err := response.Location()
	if err != nil {
		return nil, err
	}
	return back.Query(), nil
}

// authorize connects the merchant without PHANTOM, so that the world lives.
func (w *world) authorize(ctx context.Context) error {
	query := url.Values{
		"client_id": {sandbox.ClientID}, "response_type": {"code"}, "scope": {"read_write"}, "redirect_uri": {w.base},
	}
	back, err := w.allow(ctx, w.base+"/oauth/authorize?"+query.Encode(), w.account)
	if err != nil {
		return err
	}
	status, err := w.call(ctx, http.MethodPost, "/oauth/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {back.Get("code")}, "client_secret": {sandbox.SecretKey},
	}, "", nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the exchange of the code gets %d", status)
	}
	return err
}

// demoInvoice is what is read of an invoice.
type demoInvoice struct {
	Status           string
	Currency         string
	Remaining        int64  `json:"amount_remaining"`
	CollectionMethod string `json:"collection_method"`
	Transitions      struct {
		FinalizedAt int64 `json:"finalized_at"`
	} `json:"status_transitions"`
}

// look asks who owes what now, and what has become of what was owed before.
func (w *world) look(ctx context.Context, start time.Time) error {
	w.atRisk = map[string]int64{}
	owing := map[string]bool{}
	ghosts := w.box.Truth(w.account)
	w.ghosts = len(ghosts)
	for _, g := range ghosts {
		w.atRisk[g.Currency] += g.Amount
		for _, id := range g.Invoices {
			owing[id] = true
			if w.debts[id] != nil {
				continue
			}
			var i demoInvoice
			if status, err := w.call(ctx, http.MethodGet, "/v1/invoices/"+id, nil, "", &i); err != nil || status != http.StatusOK {
				return cmp.Or(err, fmt.Errorf("[STRIPE] sandbox: invoice %s gets %d", id, status))
			}
			since := time.Unix(i.Transitions.FinalizedAt, 0)
			if since.Before(start) {
				since = start
			}
			w.debts[id] = &debt{
				currency: i.Currency, remaining: i.Remaining, since: since, charged: i.Status == billing.InvoiceOpen && i.CollectionMethod == "charge_automatically",
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.debts)) {
		debt := w.debts[id]
		if debt.over || owing[id] {
			continue
		}
		var i demoInvoice
		if status, err := w.call(ctx, http.MethodGet, "/v1/invoices/"+id, nil, "", &i); err != nil || status != http.StatusOK {
			return cmp.Or(err, fmt.Errorf("[STRIPE] sandbox: invoice %s gets %d", id, status))
		}
		switch i.Status {
		case billing.InvoicePaid:
			debt.over = true
			w.recovered[debt.currency] += debt.remaining
			w.invoices[debt.currency]++
		case billing.InvoiceVoid:
			debt.over = true
		}
	}
	return nil
}

// mainCurrency is that of most debts: amounts of two currencies do not compare.
func (w *world) mainCurrency() string {
	count := map[string]int{}
	for _, debt := range w.debts {
		count[debt.currency]++
	}
	main := "usd"
	for _, code := range slices.Sorted(maps.Keys(count)) {
		if count[code] > count[main] {
			main = code
		}
	}
	return main
}

// next is when a schedule charges next, nil for never.
func (w *world) next(schedule []int) *time.Time {
	var first *time.Time
	for _, debt := range w.debts {
		if at := debt.next(schedule); at != nil && (first == nil || at.Before(*first)) {
			first = at
		}
	}
	return first
}

func (d *debt) next(schedule []int) *time.Time {
	if d.over || !d.charged || d.tries >= len(schedule) {
		return nil
	}
	at := d.since.AddDate(0, 0, schedule[d.tries])
	return &at
}

// charge charges what a schedule says is due. Smart Retries is off for what it charges, as it is
// for what PHANTOM charges. Without a schedule it does nothing.
func (w *world) charge(ctx context.Context, schedule []int, now time.Time) error {
	if len(schedule) == 0 {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(w.debts)) {
		debt := w.debts[id]
		if debt.charged && !debt.held && !debt.over {
			debt.held = true
			if _, err := w.call(ctx, http.MethodPost, "/v1/invoices/"+id, url.Values{"auto_advance": {"false"}}, "hold_"+id, nil); err != nil {
				return err
			}
		}
		at := debt.next(schedule)
		if at == nil || at.After(now) {
			continue
		}
		debt.tries++
		status, err := w.call(ctx, http.MethodPost, "/v1/invoices/"+id+"/pay", nil, "plain_"+id+"_"+strconv.Itoa(debt.tries), nil)
		if err != nil {
			return err
		}
		if status == http.StatusOK || status == http.StatusPaymentRequired {
			w.attempts++
		}
	}
	return nil
}
