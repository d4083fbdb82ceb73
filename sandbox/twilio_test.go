package sandbox

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

const (
	twilioSID   = "AC0123456789abcdef0123456789abcdef"
	twilioToken = "twilio_sandbox_1"
	twilioBase  = "/twilio/2010-04-01/Accounts/" + twilioSID
	ourNumber   = "+15550100000"
	phone       = "+491713920000"
)

func (b *bench) twilio(method, path, token string, form url.Values) (reply, error) {
	target, body := b.url+path, ""
	if method == http.MethodGet {
		target += "?" + form.Encode()
	} else {
		body = form.Encode()
	}
	req, err := http.NewRequest(method, target, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(twilioSID, token)
	return b.roundTrip(req)
}

func (b *bench) sms(to, from, body string) reply {
	b.t.Helper()
	r, err := b.twilio(http.MethodPost, twilioBase+"/Messages.json", twilioToken, url.Values{"To": {to}, "From": {from}, "Body": {body}})
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func TestSMSRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Customers = 1 })
	for name, c := range map[string]struct {
		to, from, body string
		code           float64
	}{
		"no to":       {"", ourNumber, "x", 21604},
		"no from":     {phone, "", "x", 21603},
		"no body":     {phone, ourNumber, "", 21602},
		"long body":   {phone, ourNumber, strings.Repeat("x", 1601), 21617},
		"not E.164":   {"0171 3920000", ourNumber, "x", 21211},
		"invalid":     {"+15005550001", ourNumber, "x", 21211},
		"bad from":    {phone, "+0", "x", 21212},
		"opted out":   {"+15005550004", ourNumber, "x", 21610},
		"half a plus": {"+", ourNumber, "x", 21211},
	} {
		if r := b.sms(c.to, c.from, c.body); r.status != 400 || r.field("code") != c.code || r.field("status") != 400.0 || r.text("message") == "" {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	for _, token := range []string{"", "wrong"} {
		for method, path := range map[string]string{http.MethodPost: twilioBase + "/Messages.json", http.MethodGet: twilioBase + ".json"} {
			r, err := b.twilio(method, path, token, url.Values{"To": {phone}, "From": {ourNumber}, "Body": {"x"}})
			if err != nil || r.status != 401 || r.field("code") != 20003.0 || r.text("message") != "Authenticate" || r.field("status") != 401.0 {
				t.Errorf("%s %s: %v %d %s", method, path, err, r.status, r.body)
			}
		}
	}
	if len(b.s.Messages()) != 0 || len(b.s.Ledger("")) != 0 {
		t.Errorf("accepted: %+v", b.s.Messages())
	}
}

func TestSMS(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Customers = 1 })
	for i := range 5 {
		r := b.sms(phone, ourNumber, fmt.Sprint("message ", i))
		if r.status != http.StatusCreated || r.text("status") != "queued" || !strings.HasPrefix(r.text("sid"), "SM") || len(r.text("sid")) != 34 || r.text("to") != phone {
			t.Fatalf("%d %s", r.status, r.body)
		}
		if one, _ := b.twilio(http.MethodGet, twilioBase+"/Messages/"+r.text("sid")+".json", twilioToken, nil); one.text("status") != "delivered" {
			t.Errorf("%d %s", one.status, one.body)
		}
		b.clock.add(time.Hour)
	}
	b.sms("+491713920001", ourNumber, "to somebody else")
	list := func(form url.Values) (bodies []string, next string) {
		t.Helper()
		r, err := b.twilio(http.MethodGet, twilioBase+"/Messages.json", twilioToken, form)
		var page struct {
			Messages []struct {
				Body     string
				DateSent string `json:"date_sent"`
			}
			Next string `json:"next_page_uri"`
			Size int    `json:"page_size"`
		}
		if err != nil || json.Unmarshal([]byte(r.body), &page) != nil || r.status != 200 {
			t.Fatalf("%v %d %s", err, r.status, r.body)
		}
		for _, m := range page.Messages {
			if _, err := time.Parse(time.RFC1123Z, m.DateSent); err != nil {
				t.Error(err)
			}
			bodies = append(bodies, strings.TrimPrefix(m.Body, "message "))
		}
		return bodies, page.Next
	}
	at := func(h int) string { return birth.Add(time.Duration(h) * time.Hour).Format(time.RFC3339) }
	for name, c := range map[string]struct {
		form url.Values
		want string
	}{
		"all":          {nil, "to somebody else 4 3 2 1 0"},
		"to":           {url.Values{"To": {phone}}, "4 3 2 1 0"},
		"from another": {url.Values{"From": {"+15550100001"}}, ""},
		"since":        {url.Values{"To": {phone}, "DateSent>": {at(3)}}, "4 3"},
		"until":        {url.Values{"To": {phone}, "DateSent<": {at(1)}}, "1 0"},
		"a day":        {url.Values{"To": {phone}, "DateSent": {birth.Format(time.DateOnly)}}, "4 3 2 1 0"},
		"the day on":   {url.Values{"To": {phone}, "DateSent>": {birth.AddDate(0, 0, 1).Format(time.DateOnly)}}, ""},
		"second page":  {url.Values{"To": {phone}, "PageSize": {"2"}, "Page": {"1"}}, "2 1"},
	} {
		if got, _ := list(c.form); strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
	var walked []string
	for uri := "/2010-04-01/Accounts/" + twilioSID + "/Messages.json?PageSize=2&To=" + url.QueryEscape(phone); uri != ""; {
		_, query, _ := strings.Cut(uri, "?")
		form, _ := url.ParseQuery(query)
		rows, next := list(form)
		walked, uri = append(walked, rows...), next
	}
	if strings.Join(walked, " ") != "4 3 2 1 0" {
		t.Errorf("page by page: %v", walked)
	}
	if r, _ := b.twilio(http.MethodGet, twilioBase+"/Messages.json", twilioToken, url.Values{"DateSent>": {"soon"}}); r.status != 400 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r, _ := b.twilio(http.MethodGet, twilioBase+".json", twilioToken, nil); r.text("status") != "active" || r.text("sid") != twilioSID {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r, _ := b.twilio(http.MethodGet, twilioBase+"/Calls.json", twilioToken, nil); r.status != 404 || r.field("code") != 20404.0 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r, _ := b.twilio(http.MethodGet, twilioBase+".json", TwilioToken, nil); r.status != 200 {
		t.Errorf("a token without an underscore: %d %s", r.status, r.body)
	}
	got := control[[]SMS](b, http.MethodGet, "/sandbox/sms", "")
	if len(got) != 6 || got[0].Body != "message 0" || got[0].Account != twilioSID || len(b.s.Ledger(twilioSID)) != 6 {
		t.Errorf("%+v", got)
	}
	b.s.Fail(Fault{Path: "/twilio/", Method: http.MethodPost, Status: 429})
	if r := b.sms(phone, ourNumber, "x"); r.status != 429 || r.field("code") != 20429.0 || len(b.s.Messages()) != 6 {
		t.Errorf("429: %d %s", r.status, r.body)
	}
	b.s.Fail(Fault{Path: "/twilio/", Method: http.MethodPost, Drop: true, After: true})
	if _, err := b.twilio(http.MethodPost, twilioBase+"/Messages.json", twilioToken, url.Values{"To": {phone}, "From": {ourNumber}, "Body": {"x"}}); err == nil ||
		len(b.s.Messages()) != 7 {
		t.Errorf("dropped after: %v, %d messages", err, len(b.s.Messages()))
	}
}

// The vector is the one in Twilio's documentation of webhook security.
func TestSignTwilio(t *testing.T) {
	t.Parallel()
	form := url.Values{"CallSid": {"CA1234567890ABCDE"}, "Caller": {"+12349013030"}, "Digits": {"1234"}, "From": {"+12349013030"}, "To": {"+18005551212"}}
	if got := SignTwilio("12345", "https://mycompany.com/myapp.php?foo=1&bar=2", form); got != "0/KCTR6DLpKmkAf8muzZqo1nDgQ=" {
		t.Error(got)
	}
}

func TestSMSReply(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Customers = 1 })
	var seen []url.Values
	var signed []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		seen, signed = append(seen, r.PostForm), append(signed, r.Header.Get("X-Twilio-Signature"))
		_, _ = io.WriteString(w, "<Response/>")
	}))
	t.Cleanup(srv.Close)
	reply := func(body, more string) SMSReplied {
		t.Helper()
		return control[SMSReplied](b, http.MethodPost, "/sandbox/sms-reply",
			fmt.Sprintf(`{"to": %q, "from": %q, "body": %q, "url": %q%s}`, ourNumber, phone, body, srv.URL+"/hook?a=1", more))
	}
	reply("Who are you?", "") // before anything was sent
	if seen[0].Get("AccountSid") != TwilioSID || signed[0] != SignTwilio(TwilioToken, srv.URL+"/hook?a=1", seen[0]) {
		t.Errorf("%v %v", seen, signed)
	}
	seen, signed = nil, nil
	b.sms(phone, ourNumber, "pay, please")
	done := reply(" stop ", "")
	if done.Status != 200 || done.Body != "<Response/>" || len(seen) != 1 || seen[0].Get("Body") != " stop " || seen[0].Get("AccountSid") != twilioSID ||
		seen[0].Get("MessageSid") != done.SID || seen[0].Get("From") != phone || signed[0] != SignTwilio(twilioToken, srv.URL+"/hook?a=1", seen[0]) {
		t.Errorf("%+v, %v %v", done, seen, signed)
	}
	if r := b.sms(phone, ourNumber, "again"); r.status != 400 || r.field("code") != 21610.0 {
		t.Errorf("after STOP: %d %s", r.status, r.body)
	}
	if r := b.sms(phone, "+15550100001", "from another number"); r.status != http.StatusCreated {
		t.Errorf("another number: %d %s", r.status, r.body)
	}
	reply("START", `, "signed_url": "https://app.example.com/hook", "token": "other"`)
	if signed[1] != SignTwilio("other", "https://app.example.com/hook", seen[1]) {
		t.Error("not signed as asked")
	}
	if r := b.sms(phone, ourNumber, "welcome back"); r.status != http.StatusCreated {
		t.Errorf("after START: %d %s", r.status, r.body)
	}
	in := 0
	for _, m := range b.s.Messages() {
		if m.Inbound {
			in++
		}
	}
	if in != 3 {
		t.Errorf("%d received", in)
	}
	for name, r := range map[string]SMSReply{
		"far away":  {To: ourNumber, From: phone, Body: "STOP", URL: "http://192.0.2.1/hook"},
		"not http":  {To: ourNumber, From: phone, Body: "STOP", URL: "file:///etc/passwd"},
		"no number": {To: ourNumber, From: "Ada", Body: "STOP"},
		"no us":     {From: phone, Body: "STOP"},
	} {
		if _, err := b.s.Reply(r); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
