package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// SMSReply is a text message from a customer's phone to one of our numbers.
type SMSReply struct {
	To   string `json:"to"`   // our number
	From string `json:"from"` // the phone
	Body string `json:"body"`

	// URL is where Twilio's webhook goes, on the loopback interface; "" posts nothing. SignedURL is
	// what is signed where the receiver knows itself by another address.
	URL       string `json:"url"`
	SignedURL string `json:"signed_url"`

	Account string `json:"account"` // AC…; "" means the one that last wrote from To, or TwilioSID
	// signs; "" means the one last used by the account, or TwilioToken
	Token string `json:"token"`
}

// SMSReplied says what became of a reply.
type SMSReplied struct {
	SID    string `json:"sid"`
	Status int    `json:"status"` // of the webhook's answer; 0 if none was posted
	Body   string `json:"body"`   // of the webhook's answer
}

var (
	stopWords  = []string{"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"}
	startWords = []string{"START", "YES", "UNSTOP"}
)

// Reply lets a phone write to one of our numbers. As at Twilio a STOP opts the phone out of what
// comes from that number, a START in again, and either is posted to the webhook like any other
// message.
func (s *Sandbox) Reply(r SMSReply) (SMSReplied, error) {
	if err := loopback(r.URL); err != nil {
		return SMSReplied{}, fmt.Errorf("sms reply: the URL %w", err)
	}
	if !e164.MatchString(r.From) || r.To == "" {
		return SMSReplied{}, errors.New("sms reply: from must be a phone number, and to one of ours")
	}
	m := s.receive(&r)
	if r.URL == "" {
		return SMSReplied{SID: m.SID}, nil
	}
	form := url.Values{"MessageSid": {m.SID}, "SmsSid": {m.SID}, "SmsMessageSid": {m.SID}, "AccountSid": {m.Account}, "From": {m.From}, "To": {m.To},
		"Body": {m.Body}, "NumMedia": {"0"}, "NumSegments": {"1"}, "SmsStatus": {"received"}, "ApiVersion": {"2010-04-01"}}
	req, err := http.NewRequest(http.MethodPost, r.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return SMSReplied{}, fmt.Errorf("sms reply: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	req.Header.Set("User-Agent", "TwilioProxy/1.1")
	req.Header.Set("X-Twilio-Signature", SignTwilio(r.Token, orElse(r.SignedURL, r.URL), form))
	resp, err := s.post.client.Do(req)
	if err != nil {
		return SMSReplied{}, fmt.Errorf("sms reply: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody)) // what has come is shown
	return SMSReplied{m.SID, resp.StatusCode, string(body)}, nil
}

// receive keeps the message, minds a STOP, and fills in what the reply leaves open.
func (s *Sandbox) receive(r *SMSReply) *SMS {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range slices.Backward(s.texts) {
		if r.Account == "" && !m.Inbound && m.From == r.To {
			r.Account = m.Account
		}
	}
	r.Account = orElse(r.Account, TwilioSID)
	r.Token = orElse(orElse(r.Token, s.tokens[r.Account]), TwilioToken)
	switch word := strings.ToUpper(strings.TrimSpace(r.Body)); {
	case slices.Contains(stopWords, word):
		s.optedOut[texting{r.To, r.From}] = true
	case slices.Contains(startWords, word):
		delete(s.optedOut, texting{r.To, r.From})
	}
	return s.text(SMS{Account: r.Account, To: r.To, From: r.From, Body: r.Body, Inbound: true, Clock: s.now()})
}

// loopback refuses a URL of another machine. "" is none and fine.
func loopback(target string) error {
	if target == "" {
		return nil
	}
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" {
		return errors.New("must be http://")
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return errors.New("must name localhost or a loopback address")
	}
	return nil
}
