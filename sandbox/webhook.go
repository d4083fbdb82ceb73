package sandbox

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Webhook says where events go and how badly the post works. Events of merchants that are connected
// are sent, one after another, once they happen; those of the generated past are not.
type Webhook struct {
	URL     string        `json:"url"`     // on the loopback interface; "" sends nothing
	Secret  string        `json:"secret"`  // whsec_…
	Copies  int           `json:"copies"`  // each event so many times; 0 means once
	Delay   time.Duration `json:"-"`       // before each batch
	Shuffle bool          `json:"shuffle"` // in any order among what is waiting
	Basil   bool          `json:"basil"`   // in the shape of API version 2025-03-31.basil
	Tries   int           `json:"tries"`   // of one copy, until it is answered with 2xx; 0 means 5
	Events  []string      `json:"events"`  // the types that are sent; none means all
	// whose events are sent; none means every connected merchant's
	Accounts []string `json:"accounts"`
	// it is an endpoint of the one account in Accounts itself, connected or not: events do not name
	// the account
	Own bool `json:"own"`
}

// listWebhooks is GET /v1/webhook_endpoints: the platform's own alone.
func (s *Sandbox) listWebhooks(q *request) answer {
	if !q.isPlat {
		return apiError(http.StatusForbidden, "invalid_request_error", "", "", "The sandbox lists webhook endpoints to the platform alone.")
	}
	type endpoint struct {
		ID          string   `json:"id"`
		Object      string   `json:"object"`
		Application text     `json:"application"`
		Events      []string `json:"enabled_events"`
		Status      string   `json:"status"`
		URL         string   `json:"url"`
	}
	data := []endpoint{}
	if hook := s.post.hook; hook.URL != "" {
		events := hook.Events
		if len(events) == 0 {
			events = []string{"*"}
		}
		data = append(data, endpoint{"we_1", "webhook_endpoint", text(ClientID), events, "enabled", hook.URL})
	}
	return ok(map[string]any{"object": "list", "url": "/v1/webhook_endpoints", "has_more": false, "data": data})
}

func (w Webhook) validate() error {
	if w.URL == "" {
		return nil
	}
	if err := loopback(w.URL); err != nil {
		return fmt.Errorf("the webhook's URL %w", err)
	}
	if w.Secret == "" {
		return errors.New("the webhook needs a secret")
	}
	return nil
}

// Sign is the value of the header Stripe-Signature for a payload: the HMAC-SHA-256 of "<Unix
// time>.<payload>".
func Sign(payload []byte, secret string, at time.Time) string {
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(stamp + "."))
	mac.Write(payload)
	return "t=" + stamp + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// post is the queue of events to be sent. A goroutine empties it and ends.
type post struct {
	hook    Webhook
	queue   []*event
	running chan struct{} // closed when the goroutine ends; nil if none runs
	closed  chan struct{}
	sent    uint64
	client  *http.Client
}

func newPostClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Second},
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// SetWebhook changes where events go from now on.
func (s *Sandbox) SetWebhook(w Webhook) error {
	if err := w.validate(); err != nil {
		return fmt.Errorf("set webhook: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.post.hook = w
	return nil
}

// mail puts an event into the queue. Callers hold the lock.
func (s *Sandbox) mail(a *account, e *event) {
	hook := &s.post.hook
	if hook.URL == "" || e.Type != "account.application.deauthorized" && !s.lives(a.ID) {
		return
	}
	if len(hook.Accounts) > 0 && !slices.Contains(hook.Accounts, a.ID) {
		return
	}
	named := *e
	if !hook.Own {
		named.Account = text(a.ID)
	}
	s.post.queue = append(s.post.queue, &named)
	if s.post.running == nil {
		s.post.running = make(chan struct{})
		go s.deliver(s.post.running)
	}
}

// lives says whether events of an account are sent. Callers hold the lock.
func (s *Sandbox) lives(account string) bool {
	return s.grants.connected(account) || s.post.hook.Own && slices.Contains(s.post.hook.Accounts, account)
}

// Mailed is closed once no event waits to be sent.
func (s *Sandbox) Mailed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.post.running != nil {
		return s.post.running
	}
	none := make(chan struct{})
	close(none)
	return none
}

// Close ends the sending of events; what waits is lost.
func (s *Sandbox) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.post.closed:
	default:
		close(s.post.closed)
	}
}

// Advance plays the world of every connected merchant up to the clock, so that what falls due is
// sent.
func (s *Sandbox) Advance() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now().Unix()
	for id, a := range s.accounts {
		if s.lives(id) {
			a.advance(now)
		}
	}
}

// deliver empties the queue. One turn of the world happens under one lock, so its events are met
// together.
func (s *Sandbox) deliver(done chan struct{}) {
	defer close(done)
	for {
		s.mu.Lock()
		hook, batch := s.post.hook, s.post.queue
		s.post.queue = nil
		if len(batch) == 0 || s.isClosed() {
			s.post.running = nil
			s.mu.Unlock()
			return
		}
		s.post.sent++
		r := stream(s.cfg.Seed, "post", s.post.sent)
		s.mu.Unlock()
		s.sleep(hook.Delay)
		var letters [][]byte
		for _, e := range batch {
			if len(hook.Events) > 0 && !slices.Contains(hook.Events, e.Type) {
				continue
			}
			// here, because under the lock it would hold up everybody
			payload, err := json.Marshal(e)
			if err != nil {
				continue // cannot happen: what an event holds has been shown by the API
			}
			if hook.Basil {
				payload = basil(payload)
			}
			for range max(hook.Copies, 1) {
				letters = append(letters, payload)
			}
		}
		if hook.Shuffle {
			r.Shuffle(len(letters), func(i, j int) { letters[i], letters[j] = letters[j], letters[i] })
		}
		for _, payload := range letters {
			s.send(hook, payload)
		}
	}
}

func (s *Sandbox) isClosed() bool {
	select {
	case <-s.post.closed:
		return true
	default:
		return false
	}
}

func (s *Sandbox) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.post.closed:
	}
}

// send tries one copy until it is taken, each time with a fresh signature, as Stripe does.
func (s *Sandbox) send(hook Webhook, payload []byte) {
	tries := hook.Tries
	if tries == 0 {
		tries = 5
	}
	for n := range tries {
		if n > 0 {
			s.sleep(min(50*time.Millisecond<<n, 5*time.Second))
		}
		if s.isClosed() || s.sendOnce(hook, payload) {
			return
		}
	}
}

func (s *Sandbox) sendOnce(hook Webhook, payload []byte) bool {
	req, err := http.NewRequest(http.MethodPost, hook.URL, bytes.NewReader(payload))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
	req.Header.Set("Stripe-Signature", Sign(payload, hook.Secret, time.Now()))
	resp, err := s.post.client.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody))
	return resp.StatusCode >= 200 && resp.StatusCode < 300
}
