package web_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76/webhook"

	"phantom/connect"
	"phantom/db/dbtest"
	"phantom/ghost"
	"phantom/internal/stage"
	"phantom/web"
)

const (
	webhookPath   = "/api/webhooks/stripe"
	webhookSecret = "whsec_phantomTests4Kq8Zt"
)

// event is one as Stripe sends it, with what must not be kept: an email, an amount, a card.
func event(account, id, kind, object string) string {
	return `{"id":"` + id + `","object":"event","api_version":"2023-10-16","created":` + strconv.FormatInt(time.Now().Unix(), 10) +
		`,"livemode":false,"pending_webhooks":1,"request":{"id":null,"idempotency_key":null},"type":"` + kind + `","account":"` + account +
		`","data":{"object":{"id":"` + object + `","object":"invoice","customer_email":"` + canary + `@example.com","amount_due":4900,"subscription":"sub_1"}}}`
}

func signed(body, secret string, at time.Time) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: []byte(body), Secret: secret, Timestamp: at}).Header
}

// post sends an event over the wire.
func (b *bench) post(body, signature string) answer {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+webhookPath, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	if signature != "" {
		b.stripe.secret(strings.TrimPrefix(signature[strings.LastIndex(signature, "=")+1:], "="))
		request.Header.Set("Stripe-Signature", signature)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	_, _ = b.ends.Write(append(text, '\n'))
	got := answer{response.StatusCode, response.Header, string(text)}
	b.checkHeaders(got)
	b.conforms(http.MethodPost, webhookPath, got)
	return got
}

func (b *bench) send(body string) answer {
	b.t.Helper()
	return b.post(body, signed(body, webhookSecret, time.Now()))
}

func (a answer) wantStatus(t *testing.T, status string) {
	t.Helper()
	if a.status != http.StatusOK || a.body != `{"status":"`+status+`"}` {
		t.Errorf("got %d %s, want 200 %s", a.status, a.body, status)
	}
}

func (b *bench) rows(table string) (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// handler is a server of its own over the bench's database, to be called without a wire.
func (b *bench) handler(secrets ...string) http.Handler {
	ghosts := ghost.New(b.pool, b.service, slog.New(slog.DiscardHandler))
	ghosts.DatabaseTimeout = time.Minute // a busy machine may need it
	return web.New(web.Config{
		Connect: b.service, Ghost: ghosts, Ping: b.pool.Ping,
		Log: slog.New(slog.NewJSONHandler(b.log, nil)), WebhookSecrets: secrets,
	}).Handler()
}

func call(handler http.Handler, body string, signatures ...string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodPost, webhookPath, strings.NewReader(body))
	if len(signatures) > 0 {
		request.Header["Stripe-Signature"] = signatures
	}
	got := httptest.NewRecorder()
	handler.ServeHTTP(got, request)
	return got
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.browser().handshake().wantSuccess(t)
	account := b.world.Accounts()[0]
	b.send(event(account, "evt_1", "invoice.paid", "in_1")).wantStatus(t, "received")
	b.send(event(account, "evt_1", "invoice.paid", "in_1")).wantStatus(t, "received")
	b.send(event("acct_unknown", "evt_2", "invoice.paid", "in_1")).wantStatus(t, "ignored")
	b.send(event(account, "evt_3", "customer.created", "cus_1")).wantStatus(t, "ignored")
	b.send(strings.Replace(event(account, "evt_4", "invoice.paid", "in_1"), `"livemode":false`, `"livemode":true`, 1)).wantStatus(t, "ignored")
	b.send(`{"id":"evt_5","type":"balance.available","created":1,"livemode":false,"data":{"object":{"object":"balance"}}}`).wantStatus(t, "ignored")
	if b.rows("webhook_events") != 1 || b.rows("scheduled_tasks") != 1 {
		t.Errorf("%d events, %d tasks", b.rows("webhook_events"), b.rows("scheduled_tasks"))
	}
	b.send(event(account, "evt_6", "account.application.deauthorized", "ca_1")).wantStatus(t, "received")
	b.send(event(account, "evt_7", "invoice.paid", "in_2")).wantStatus(t, "ignored")
	lines := b.lines()
	if last := lines[len(lines)-1]; len(lines) != 2 || last.Msg != "[SECURITY] merchant disconnected: tokens forgotten, tasks parked" || last.Account != account {
		t.Errorf("log %+v", lines)
	}
	b.browser().handshake().wantSuccess(t)
	b.send(event(account, "evt_8", "invoice.paid", "in_2")).wantStatus(t, "received")

	// Nothing of a payload is kept anywhere.
	for table, shown := range map[string]string{"webhook_events": "evt_1", "scheduled_tasks": "sub_1"} {
		var text string
		if err := b.pool.QueryRow(t.Context(), "SELECT string_agg("+table+"::text, ' ') FROM "+table).Scan(&text); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, canary) || strings.Contains(text, "4900") || !strings.Contains(text, shown) {
			t.Errorf("%s: %s", table, text)
		}
	}
}

// A customer's payment methods are hints as the rest: in any shape of an event, at most their own
// ghosts are read anew.
func TestEventsOfPaymentMethods(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.browser().handshake().wantSuccess(t)
	account := b.world.Accounts()[0]
	if _, err := b.pool.Exec(t.Context(), `INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id,
			stripe_invoice_id, amount, currency, rule, decline_class, attempt_count)
		SELECT id, gen_random_uuid(), 'cus_known', 'sub_known', 'in_known', 100, 'usd', 'past_due', 'timed', 1 FROM merchants`); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range []struct {
		kind, object, data string
		read               bool
	}{
		{"payment_method.attached", `"id":"pm_1","customer":"cus_known"`, ``, true},
		{"payment_method.updated", `"id":"pm_1","customer":{"id":"cus_known"}`, ``, true},
		{"payment_method.automatically_updated", `"id":"pm_1","customer":"cus_known"`, `,"previous_attributes":{"card":{"exp_year":2024}}`, true},
		{"payment_method.detached", `"id":"pm_1","customer":null`, `,"previous_attributes":{"customer":"cus_known"}`, true},
		{"payment_method.detached", `"id":"pm_1","customer":null`, ``, false},
		{"payment_method.detached", `"id":"pm_1","customer":null`, `,"previous_attributes":null`, false},
		{"payment_method.detached", `"id":"pm_1","customer":null`, `,"previous_attributes":["cus_known"]`, false},
		{"payment_method.detached", `"id":"pm_1","customer":null`, `,"previous_attributes":"cus_known"`, false},
		{"payment_method.detached", `"id":"pm_1","customer":null`, `,"previous_attributes":{"customer":7}`, false},
		{"payment_method.detached", `"id":"pm_1","customer":null`, `,"previous_attributes":{"customer":"../cus_known"}`, false},
		{"payment_method.detached", `"id":"pm_1","customer":"cus_other"`, `,"previous_attributes":{"customer":"cus_known"}`, false},
		{"customer.source.expiring", `"id":"card_1","customer":"cus_known"`, ``, true},
		{"customer.updated", `"id":"cus_known"`, `,"previous_attributes":{"default_source":null}`, true},
		{"customer.updated", `"id":"cus_other","customer":"cus_known"`, ``, false},
		{"customer.deleted", `"id":"cus_known","deleted":true`, ``, true},
		{"invoice.payment_action_required", `"id":"in_1","subscription":"sub_known"`, ``, true},
		{"invoice.updated", `"id":"in_1","subscription":null,"parent":{"subscription_details":{"subscription":"sub_known"}}`, ``, true},
		{"invoice.updated", `"id":"in_1","parent":{"subscription_details":{"subscription":{"id":"sub_known"}}}`, ``, true},
		{"invoice.updated", `"id":"in_1","parent":{"subscription_details":["sub_known"]}`, ``, false},
		{"invoice.updated", `"id":"in_1","parent":"sub_known"`, ``, false},
		{"charge.failed", `"id":"ch_1","invoice":"in_1","customer":"cus_known"`, ``, false},
	} {
		n++
		if _, err := b.pool.Exec(t.Context(), "DELETE FROM scheduled_tasks"); err != nil {
			t.Fatal(err)
		}
		b.send(`{"id":"evt_`+strconv.Itoa(n)+`","type":"`+c.kind+`","account":"`+account+`","created":`+strconv.FormatInt(time.Now().Unix(), 10)+
			`,"livemode":false,"data":{"object":{`+c.object+`}`+c.data+`}}`).wantStatus(t, "received")
		var read bool
		if err := b.pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM scheduled_tasks WHERE kind = 'refresh' AND params ->> 'subscription' = 'sub_known')").
			Scan(&read); err != nil {
			t.Fatal(err)
		}
		if read != c.read {
			t.Errorf("%s {%s}%s: read anew %t", c.kind, c.object, c.data, read)
		}
	}
	if b.rows("webhook_events") != n {
		t.Errorf("%d events of %d", b.rows("webhook_events"), n)
	}
}

func TestWebhookMethods(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *options) { o.database = noDatabase })
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"} {
		got := b.browser().do(method, webhookPath)
		if got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "POST" {
			t.Errorf("%s: %d %v", method, got.status, got.header)
		}
	}
	b.browser().do("POST", webhookPath+"/").wantError(t, 404, "not_found")
}

// Every bit of body and header counts, however little it changes the meaning.
func TestEveryBitOfAWebhookIsSigned(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.browser().handshake().wantSuccess(t)
	handler := b.handler(webhookSecret)
	body := event(b.world.Accounts()[0], "evt_1", "invoice.paid", "in_1")
	signature := signed(body, webhookSecret, time.Now())
	refused := func(what string, got *httptest.ResponseRecorder) {
		t.Helper()
		if got.Code != http.StatusBadRequest || !strings.Contains(got.Body.String(), `"code":"invalid_signature"`) {
			t.Errorf("%s: %d %s", what, got.Code, got.Body)
		}
	}
	flips := 0
	for i := range 8 * len(body) {
		changed := []byte(body)
		changed[i/8] ^= 1 << (i % 8)
		refused("body, bit "+strconv.Itoa(i), call(handler, string(changed), signature))
		flips++
	}
	for i := range 8 * len(signature) {
		changed := []byte(signature)
		changed[i/8] ^= 1 << (i % 8)
		refused("header, bit "+strconv.Itoa(i)+": "+string(changed), call(handler, body, string(changed)))
		flips++
	}
	at, mac, _ := strings.Cut(strings.TrimPrefix(signature, "t="), ",v1=")
	for name, headers := range map[string][]string{
		"none":                {},
		"empty":               {""},
		"twice":               {signature, signature},
		"a forged one first":  {"t=" + at + ",v1=" + strings.Repeat("0", 64), signature},
		"only the time":       {"t=" + at},
		"only the signature":  {"v1=" + mac},
		"another scheme":      {"t=" + at + ",v0=" + mac},
		"no scheme":           {"t=" + at + "," + mac},
		"capital hex":         {"t=" + at + ",v1=" + strings.ToUpper(mac)},
		"half of it":          {"t=" + at + ",v1=" + mac[:32]},
		"more than it":        {"t=" + at + ",v1=" + mac + "00"},
		"an empty one":        {"t=" + at + ",v1="},
		"a plus sign":         {"t=+" + at + ",v1=" + mac},
		"a leading zero":      {"t=0" + at + ",v1=" + mac},
		"a fraction":          {"t=" + at + ".0,v1=" + mac},
		"in milliseconds":     {"t=" + at + "000,v1=" + mac},
		"a space":             {"t=" + at + ", v1=" + mac},
		"two times":           {"t=" + at + ",t=" + at + ",v1=" + mac},
		"another time first":  {"t=1,t=" + at + ",v1=" + mac},
		"another time last":   {signature + ",t=1"},
		"a time too large":    {"t=99999999999999999999999999,v1=" + mac},
		"a negative time":     {"t=-" + at + ",v1=" + mac},
		"a null byte":         {signature + "\x00"},
		"garbage":             {"zqx"},
		"many of one":         {"t=" + at + strings.Repeat(",v1="+strings.Repeat("0", 64), 100)},
		"a longer body's":     {signed(body+" ", webhookSecret, time.Now())},
		"another secret's":    {signed(body, webhookSecret+"x", time.Now())},
		"an empty secret's":   {signed(body, "", time.Now())},
		"the secret without":  {signed(body, strings.TrimPrefix(webhookSecret, "whsec_"), time.Now())},
		"another's signature": {signed(event("acct_2", "evt_1", "invoice.paid", "in_1"), webhookSecret, time.Now())},
	} {
		refused(name, call(handler, body, headers...))
	}
	for _, changed := range []string{"", body + " ", body + "\n", body[:len(body)-1], " " + body} {
		refused("another body", call(handler, changed, signature))
	}
	if b.rows("webhook_events") != 0 || b.rows("scheduled_tasks") != 0 {
		t.Error("a forged event was stored")
	}
	if got := call(handler, body, signature); got.Code != http.StatusOK || got.Body.String() != `{"status":"received"}` {
		t.Errorf("the true one: %d %s", got.Code, got.Body)
	}
	t.Logf("%d bits flipped", flips)
	// The operator learns of it once, and not what it was.
	if n := strings.Count(b.log.String(), "a webhook is refused"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if strings.Contains(b.log.String(), mac) {
		t.Error("a signature is logged")
	}
}

func TestWebhookTimes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	handler := b.handler(webhookSecret)
	body := event("acct_1", "evt_1", "invoice.paid", "in_1")
	for _, test := range []struct {
		age    time.Duration
		status int
	}{
		{0, 200}, {290 * time.Second, 200}, {-290 * time.Second, 200}, // the machine may be busy
		{301 * time.Second, 400}, {-320 * time.Second, 400}, {time.Hour, 400}, {-time.Hour, 400}, {24 * 365 * time.Hour, 400}, {-24 * 365 * time.Hour, 400},
	} {
		if got := call(handler, body, signed(body, webhookSecret, time.Now().Add(-test.age))); got.Code != test.status {
			t.Errorf("%s old: %d %s", test.age, got.Code, got.Body)
		}
	}
}

// While a secret rolls, Stripe signs with both, and we may know one or both.
func TestWebhookSecretsRoll(t *testing.T) {
	t.Parallel()
	b := setup(t)
	body := event("acct_1", "evt_1", "invoice.paid", "in_1")
	of := func(secrets ...string) string {
		header := "t=" + strconv.FormatInt(time.Now().Unix(), 10)
		for _, secret := range secrets {
			full := signed(body, secret, time.Now())
			header += full[strings.Index(full, ",v1="):]
		}
		return header
	}
	for _, test := range []struct {
		ours, ownTimeouts []string
		status            int
	}{
		{[]string{"whsec_old"}, []string{"whsec_old"}, 200},
		{[]string{"whsec_old", "whsec_new"}, []string{"whsec_old"}, 200},
		{[]string{"whsec_old", "whsec_new"}, []string{"whsec_new"}, 200},
		{[]string{"whsec_old"}, []string{"whsec_new", "whsec_old"}, 200},
		{[]string{"whsec_new"}, []string{"whsec_new", "whsec_old"}, 200},
		{[]string{"whsec_new"}, []string{"whsec_old"}, 400},
		{[]string{"whsec_old", "whsec_new"}, []string{"whsec_other"}, 400},
		{[]string{""}, []string{""}, 400},
		{[]string{"", "whsec_new"}, []string{""}, 400},
		{nil, []string{""}, 503},
	} {
		if got := call(b.handler(test.ours...), body, of(test.ownTimeouts...)); got.Code != test.status {
			t.Errorf("%v for %v: %d %s", test.ownTimeouts, test.ours, got.Code, got.Body)
		}
	}
}

func TestWebhooksNotConfigured(t *testing.T) {
	t.Parallel()
	b := setup(t)
	body := event("acct_1", "evt_1", "invoice.paid", "in_1")
	for _, signature := range []string{"", "t=1,v1=00", signed(body, "", time.Now()), signed(body, webhookSecret, time.Now())} {
		got := call(b.handler(), body, signature)
		unset := answer{got.Code, got.Header(), got.Body.String()}
		unset.wantError(t, 503, "webhooks_not_configured")
		b.conforms(http.MethodPost, webhookPath, unset)
	}
	if len(b.lines()) != 0 {
		t.Errorf("log %s", b.log)
	}
}

// What is signed and no event we can read is refused as such; nothing of it comes back.
func TestMalformedEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.browser().handshake().wantSuccess(t)
	account := b.world.Accounts()[0]
	good := event(account, "evt_1", "invoice.paid", "in_1")
	for name, body := range map[string]string{
		"nothing":             "",
		"no JSON":             canary,
		"half":                good[:len(good)/2],
		"two":                 good + good,
		"an array":            "[" + good + "]",
		"null":                "null",
		"a string":            `"` + canary + `"`,
		"no fields":           "{}",
		"no id":               strings.Replace(good, `"id":"evt_1"`, `"id":""`, 1),
		"an id of another":    strings.Replace(good, `"id":"evt_1"`, `"id":["`+canary+`"]`, 1),
		"an id with a path":   strings.Replace(good, `"id":"evt_1"`, `"id":"../`+canary+`"`, 1),
		"a zero byte":         strings.Replace(good, `"id":"evt_1"`, `"id":"evt\u0000"`, 1),
		"no type":             strings.Replace(good, `"type":"invoice.paid"`, `"type":null`, 1),
		"no time":             strings.Replace(good, `"created":`, `"create":`, 1),
		"a time as a text":    strings.Replace(good, `"created":`, `"created":"x","y":`, 1),
		"a negative time":     strings.Replace(good, `"created":`, `"created":-`, 1),
		"a time too large":    strings.Replace(good, `"created":`, `"created":9`, 1),
		"a time beyond":       strings.Replace(good, `"created":`, `"created":9999999999`, 1),
		"no data":             strings.Replace(good, `"data":`, `"date":`, 1),
		"data of another":     strings.Replace(good, `"data":{"object":{`, `"data":{"object":7,"x":{`, 1),
		"an object's path":    strings.Replace(good, `"in_1"`, `"in_1/../../account"`, 1),
		"an object's number":  strings.Replace(good, `"in_1"`, `17`, 1),
		"an object's address": strings.Replace(good, `"in_1"`, `"`+canary+`@example.com"`, 1),
		"a mode as a text":    strings.Replace(good, `"livemode":false`, `"livemode":"false"`, 1),
		"deep arrays":         strings.Repeat("[", 1<<20),
		"deep objects":        strings.Repeat(`{"a":`, 1<<17),
		"deep, within":        strings.Replace(good, `"subscription":"sub_1"`, `"subscription":`+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000), 1),
		"a number too long":   strings.Replace(good, `"created":`, `"created":`+strings.Repeat("9", 1<<19), 1),
		"bad UTF-8":           strings.Replace(good, `evt_1`, "evt_\xff\xfe", 1),
	} {
		b.send(body).wantError(t, 400, "invalid_event")
		if t.Failed() {
			t.Fatal(name)
		}
	}
	if b.rows("webhook_events") != 0 {
		t.Error("one was stored")
	}
	// What of an object has another shape than expected is as good as missing, for it is only a
	// hint.
	for i, hint := range []string{"null", "7", "[]", `{"id":"sub_1"}`, `{"id":7}`, `{"id":{"id":"x"}}`, `"../x"`, strings.Repeat("[", 5000) + strings.Repeat("]", 5000)} {
		body := strings.Replace(event(account, "evt_h"+strconv.Itoa(i), "invoice.paid", "in_"+strconv.Itoa(i)), `"subscription":"sub_1"`, `"subscription":`+hint, 1)
		b.send(body).wantStatus(t, "received")
	}
	var hints string
	if err := b.pool.QueryRow(t.Context(), "SELECT string_agg(coalesce(params->>'subscription', '-'), '') FROM (SELECT params FROM scheduled_tasks ORDER BY id) t").Scan(&hints); err != nil {
		t.Fatal(err)
	}
	if hints != "---sub_1----" {
		t.Errorf("hints %s", hints)
	}
}

func TestLargeEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.browser().handshake().wantSuccess(t)
	of := func(size int) string {
		body := event(b.world.Accounts()[0], "evt_"+strconv.Itoa(size), "invoice.paid", "in_1")
		return body[:len(body)-1] + `,"x":"` + strings.Repeat("x", size-len(body)-7) + `"}`
	}
	b.send(of(65<<10)).wantStatus(t, "received") // more than any other route takes
	b.send(of(1<<20)).wantStatus(t, "received")
	b.send(of(1<<20+1)).wantError(t, 413, "request_too_large")
	b.send(of(2<<20)).wantError(t, 413, "request_too_large")
	for _, size := range []int{1 << 20, 1<<20 + 1, 2 << 20} { // without a length
		body := of(size)
		request := httptest.NewRequest(http.MethodPost, webhookPath, io.MultiReader(strings.NewReader(body)))
		request.ContentLength = -1
		request.Header.Set("Stripe-Signature", signed(body, webhookSecret, time.Now()))
		got := httptest.NewRecorder()
		b.handler(webhookSecret).ServeHTTP(got, request)
		if want := map[bool]int{true: 200, false: 413}[size <= 1<<20]; got.Code != want {
			t.Errorf("%d bytes in chunks: %d %s", size, got.Code, got.Body)
		}
	}
	// A body with a header that cannot be right is not even read.
	body := &counted{text: strings.NewReader(of(1 << 20))}
	request := httptest.NewRequest(http.MethodPost, webhookPath, body)
	request.Header.Set("Stripe-Signature", "t=1,v1="+strings.Repeat("0", 64))
	got := httptest.NewRecorder()
	b.handler(webhookSecret).ServeHTTP(got, request)
	if got.Code != 400 || body.read != 0 {
		t.Errorf("%d after %d bytes", got.Code, body.read)
	}
	if n := b.rows("webhook_events"); n != 2 {
		t.Errorf("%d events", n)
	}
}

type counted struct {
	text *strings.Reader
	read int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.text.Read(p)
	c.read += n
	return n, err
}

// A thousand deliveries of one event over the wire, many at once, are one.
func TestWebhookReplays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.browser().handshake().wantSuccess(t)
	handler := b.handler(webhookSecret)
	body := event(b.world.Accounts()[0], "evt_1", "customer.subscription.updated", "sub_1")
	signature := signed(body, webhookSecret, time.Now())
	var left atomic.Int32
	left.Store(1000)
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				if got := call(handler, body, signature); got.Code != http.StatusOK || got.Body.String() != `{"status":"received"}` {
					t.Errorf("%d %s", got.Code, got.Body)
				}
			}
		})
	}
	group.Wait()
	if b.rows("webhook_events") != 1 || b.rows("scheduled_tasks") != 1 {
		t.Errorf("%d events, %d tasks", b.rows("webhook_events"), b.rows("scheduled_tasks"))
	}
}

// With the database gone Stripe is told to come again; nothing is lost or half stored.
func TestWebhookWithoutDatabase(t *testing.T) {
	t.Parallel()
	database := dbtest.URL(t)
	g, through := newGate(t, database)
	b := setup(t, func(o *options) { o.database, o.timeout = through, ownTimeouts })
	b.browser().handshake().wantSuccess(t)
	body := event(b.world.Accounts()[0], "evt_1", "invoice.paid", "in_1")
	g.shut()
	b.send(body).wantError(t, 503, "database_unavailable")
	b.send(body).wantError(t, 503, "database_unavailable")
	g.open()
	b.send(body).wantStatus(t, "received")
	var said []string
	for _, l := range b.lines() {
		said = append(said, l.Msg)
	}
	if want := []string{
		"[STRIPE] merchant connected", "[DATABASE] PostgreSQL does not answer: requests get 503 until it does", "[DATABASE] PostgreSQL answers again",
	}; !slices.Equal(said, want) {
		t.Errorf("log %q", said)
	}
}

// BenchmarkWebhook takes a new event each time: verified, stored, its task enqueued.
func BenchmarkWebhook(bench *testing.B) {
	pool := dbtest.Pool(bench)
	stage.Merchant(bench, pool, "acct_1")
	log := slog.New(slog.DiscardHandler)
	handler := web.New(web.Config{
		Ghost: ghost.New(pool, connect.New(connect.Config{Log: log}, pool), log), Log: log, WebhookSecrets: []string{webhookSecret},
	}).Handler()
	for n := 0; bench.Loop(); n++ {
		body := event("acct_1", "evt_"+strconv.Itoa(n), "invoice.paid", "in_1")
		if got := call(handler, body, signed(body, webhookSecret, time.Now())); got.Body.String() != `{"status":"received"}` {
			bench.Fatal(got.Code, got.Body)
		}
	}
}
