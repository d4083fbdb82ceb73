package message

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/resend/resend-go/v2"

	"phantom/input"
)

const resendHost = "https://api.resend.com"

// resendAt returns Resend's own client over one exchange. Its constructor takes an address from the
// environment: ours replaces it.
func (s *Service) resendAt(e *exchange, key string) (*resend.Client, error) {
	client := resend.NewCustomClient(e.client(), key)
	base := s.config.ResendBase
	if base == "" {
		base = resendHost
	}
	var err error
	client.BaseURL, err = url.Parse(strings.TrimSuffix(base, "/") + "/")
	return client, err
}

// emailBytes is an email as the client writes it, to be frozen.
func emailBytes(email *resend.SendEmailRequest) (json.RawMessage, error) {
	var text bytes.Buffer
	if err := json.NewEncoder(&text).Encode(email); err != nil {
		return nil, fmt.Errorf("marshal email: %w", err)
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}

// sendEmail hands frozen bytes to Resend, once. Resend keeps an idempotency key for 24 hours: with
// the same bytes it answers again what it has answered. After by nothing leaves; zero is no limit.
func (s *Service) sendEmail(ctx context.Context, key, idempotencyKey string, email json.RawMessage, by time.Time) answer {
	e := newExchange(ctx)
	e.leaveBy(by, s.config.Now)
	client, err := s.resendAt(e, key)
	if err != nil {
		return answer{outcome: busy, why: "RESEND_API_BASE cannot be read"}
	}
	request, err := client.NewRequestWithOptions(ctx, http.MethodPost, "emails", email, &resend.SendEmailOptions{IdempotencyKey: idempotencyKey})
	if err != nil {
		return answer{outcome: busy, why: "the request could not be built"}
	}
	var sent resend.SendEmailResponse
	_, err = client.Perform(request, &sent) //nolint:bodyclose // Perform closes it
	if err == nil && e.status < 300 && sent.Id != "" {
		return answer{outcome: taken, id: sent.Id}
	}
	return e.ofResend()
}

// resendProblem is the shape of Resend's errors. Its message may quote the request and is not kept.
// https://resend.com/docs/api-reference/errors
type resendProblem struct {
	Name string `json:"name"`
}

var codeShape = regexp.MustCompile(`^[a-z][a-z_]{0,40}$`)

// problem is the name of Resend's error, "" where it gave none.
func (e *exchange) problem() string {
	var p resendProblem
	if json.Unmarshal(e.body, &p) != nil || !codeShape.MatchString(p.Name) {
		return ""
	}
	return p.Name
}

func (e *exchange) ofResend() answer {
	name := e.problem()
	why := fmt.Sprintf("Resend answered %d %s", e.status, name)
	switch {
	case e.late:
		return answer{outcome: late, why: whyLate}
	case !e.left:
		return answer{outcome: busy, why: "Resend could not be reached"}
	case e.status == http.StatusTooManyRequests && (name == "daily_quota_exceeded" || name == "monthly_quota_exceeded"):
		// Resend's own word that it took nothing
		return answer{outcome: busy, why: why + ": the plan allows no more emails for now (https://resend.com/settings/usage)", wait: time.Hour}
	case e.status == 0, e.status < 400, e.status >= 500, e.status == http.StatusRequestTimeout, e.status == http.StatusTooManyRequests:
		// A mere 429 is no exception: what stands between us and Resend may answer it for a request
		// that arrived.
		return answer{outcome: unknown, why: why}
	case e.status == http.StatusConflict && name == "invalid_idempotent_request":
		return answer{outcome: conflict, why: why}
	case e.status == http.StatusConflict:
		return answer{outcome: unknown, why: why}
	case e.status == http.StatusUnauthorized, e.status == http.StatusForbidden:
		return answer{outcome: keyRefused, why: why + ": check the key and the sender's domain, and set the channel anew (PUT /api/channels/resend)"}
	default:
		return answer{outcome: refused, why: why}
	}
}

// checkResend asks Resend whether a key works. One that may only send is told so, and works.
func (s *Service) checkResend(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	e := newExchange(ctx)
	client, err := s.resendAt(e, key)
	if err != nil {
		return ErrProvider
	}
	_, _ = client.Domains.ListWithContext(ctx)
	switch {
	case e.status == http.StatusOK, e.status == http.StatusUnauthorized && e.problem() == "restricted_api_key":
		return nil
	case e.status >= 400 && e.status < 500 && e.status != http.StatusTooManyRequests && e.status != http.StatusRequestTimeout:
		return input.Wrong("api_key", "is refused by Resend: create one at https://resend.com/api-keys")
	default:
		return ErrProvider
	}
}
