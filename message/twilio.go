package message

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // Twilio signs with it, and as an HMAC it holds
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"

	twilio "github.com/twilio/twilio-go/client"
	api "github.com/twilio/twilio-go/rest/api/v2010"

	"phantom/input"
)

const twilioHost = "https://api.twilio.com"

// twilioAt is the transport under Twilio's own library: one exchange, with its context, to our
// host. The library's client has neither.
type twilioAt struct {
	exchange       *exchange
	base           string
	account, token string
}

func (t *twilioAt) AccountSid() string       { return t.account }
func (t *twilioAt) SetTimeout(time.Duration) {}
func (t *twilioAt) SetOauth(twilio.OAuth)    {}
func (t *twilioAt) OAuth() twilio.OAuth      { return nil }

// SendRequest implements [twilio.BaseClient]. An answer that is no success is an error, and noted
// in the exchange.
func (t *twilioAt) SendRequest(method, address string, data url.Values, headers map[string]any, _ ...byte) (*http.Response, error) {
	target, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	text := strings.TrimSuffix(t.base, "/") + target.EscapedPath()
	var body string
	if method == http.MethodPost {
		body = data.Encode()
	} else if len(data) > 0 {
		text += "?" + data.Encode()
	}
	request, err := http.NewRequestWithContext(t.exchange.ctx, method, text, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		request.Header.Set(name, fmt.Sprint(value))
	}
	request.SetBasicAuth(t.account, t.token)
	response, err := t.exchange.client().Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode < 200 || response.StatusCode >= 300 {
		_ = response.Body.Close()
		return nil, errors.New("twilio refused")
	}
	return response, nil
}

func (s *Service) twilioAt(ctx context.Context, account, token string) (*api.ApiService, *exchange) {
	e := newExchange(ctx)
	base := s.config.TwilioBase
	if base == "" {
		base = twilioHost
	}
	// Not the library's constructor, which reads the environment.
	return api.NewApiService(&twilio.RequestHandler{Client: &twilioAt{e, base, account, token}}), e
}

// text is a frozen SMS.
type text struct {
	Account string `json:"account"`
	From    string `json:"from"`
	To      string `json:"to"`
	Body    string `json:"body"`
}

// sendSMS hands an SMS to Twilio, which has no idempotency keys: anyone who calls this twice may
// send twice. After by nothing leaves; zero is no limit.
func (s *Service) sendSMS(ctx context.Context, token string, t text, by time.Time) answer {
	service, e := s.twilioAt(ctx, t.Account, token)
	e.leaveBy(by, s.config.Now)
	message, err := service.CreateMessage(new(api.CreateMessageParams).SetTo(t.To).SetFrom(t.From).SetBody(t.Body))
	if err == nil && message != nil && message.Sid != nil && *message.Sid != "" {
		return answer{outcome: taken, id: *message.Sid}
	}
	return e.ofTwilio()
}

// Codes of Twilio's errors. https://www.twilio.com/docs/api/errors
const (
	twilioTooMany  = 20429
	twilioOptedOut = 21610
)

// twilioSender are those about the sender's number: no text to anybody can leave.
var twilioSender = []int{21212, 21601, 21603, 21606, 21659, 21660}

func (e *exchange) ofTwilio() answer {
	var problem struct {
		Code int `json:"code"` // its message quotes the number
	}
	_ = json.Unmarshal(e.body, &problem)
	why := fmt.Sprintf("Twilio answered %d, error %d", e.status, problem.Code)
	switch {
	case e.late:
		return answer{outcome: late, why: whyLate}
	case !e.left:
		return answer{outcome: busy, why: "Twilio could not be reached"}
	case e.status == http.StatusTooManyRequests && problem.Code == twilioTooMany:
		return answer{outcome: busy, why: why} // Twilio's own word that it took nothing
	case e.status < 400, e.status >= 500, problem.Code == 0:
		return answer{outcome: unknown, why: why}
	case problem.Code == twilioOptedOut:
		return answer{outcome: optedOut, why: "the customer has told Twilio STOP"}
	case slices.Contains(twilioSender, problem.Code):
		return answer{outcome: keyRefused, why: why + ": check that from is a number that this account may send SMS from, and set the channel anew (PUT /api/channels/twilio)"}
	case e.status == http.StatusUnauthorized, e.status == http.StatusForbidden:
		return answer{outcome: keyRefused, why: why + ": check the account, and set the channel anew (PUT /api/channels/twilio)"}
	default:
		return answer{outcome: refused, why: why}
	}
}

// skew is how far Twilio's clock and ours may be apart.
const skew = 2 * time.Minute

// findSMS looks an SMS up in the account. It returns "" where it is not there, which proves
// nothing: a message that was just taken may not be listed yet.
func (s *Service) findSMS(ctx context.Context, token string, t text, since time.Time) (id string, err error) {
	service, _ := s.twilioAt(ctx, t.Account, token)
	params := new(api.ListMessageParams).SetTo(t.To).SetDateSentAfter(since.Add(-24 * time.Hour)).SetPageSize(1000)
	page, err := service.PageMessage(params, "", "")
	if err != nil || page == nil {
		return "", errors.New("twilio gave no list of messages")
	}
	for _, m := range page.Messages {
		// A trial account sets words before the text.
		if m.Sid != nil && m.Body != nil && strings.HasSuffix(*m.Body, t.Body) && m.To != nil && *m.To == t.To && madeAfter(m, since.Add(-skew)) {
			return *m.Sid, nil
		}
	}
	return "", nil
}

func madeAfter(m api.ApiV2010Message, since time.Time) bool {
	for _, date := range []*string{m.DateCreated, m.DateSent} {
		if date == nil {
			continue
		}
		if at, err := mail.ParseDate(*date); err == nil {
			return at.After(since)
		}
	}
	return false
}

// checkTwilio asks Twilio whether an account's token works.
func (s *Service) checkTwilio(ctx context.Context, account, token string) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	service, e := s.twilioAt(ctx, account, token)
	found, err := service.FetchAccount(account)
	switch {
	case err == nil && found.Status != nil && *found.Status != "active":
		return input.Wrong("account_sid", "names an account that is suspended or closed")
	case err == nil:
		return nil
	case e.status == http.StatusUnauthorized, e.status == http.StatusForbidden, e.status == http.StatusNotFound:
		return input.Wrong("auth_token", "is refused by Twilio for this account_sid: find both at https://console.twilio.com")
	default:
		return ErrProvider
	}
}

// twilioSignature is X-Twilio-Signature: the address, and the parameters sorted by name.
// https://www.twilio.com/docs/usage/security#validating-requests
func twilioSignature(token, address string, form url.Values) string {
	mac := hmac.New(sha1.New, []byte(token))
	_, _ = mac.Write([]byte(address))
	for _, name := range slices.Sorted(maps.Keys(form)) {
		for _, value := range form[name] {
			_, _ = mac.Write([]byte(name + value))
		}
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
