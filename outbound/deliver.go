package outbound

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"code.dny.dev/ssrf"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/task"
)

// waits are how long a delivery waits after each try that was in vain: three days in all.
var waits = []time.Duration{
	5 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// States of a delivery.
const (
	pending   = "pending"
	delivered = "delivered"
	failed    = "failed"
)

// HandleDeliver is the handler of [KindDeliver]. One that is repeated, after a crash or a time-out,
// bears the same webhook-id.
func (s *Service) HandleDeliver(ctx context.Context, t *task.Task) error {
	row, err := s.queries.DeliveryGet(ctx, db.DeliveryGetParams{MerchantID: t.MerchantID, ID: t.ID})
	if errors.Is(err, pgx.ErrNoRows) { // its endpoint was deleted
		return nil
	}
	if err != nil {
		return fmt.Errorf("read delivery: %w", err)
	}
	if row.State != pending {
		return nil
	}
	tried := db.DeliveryTriedParams{MerchantID: t.MerchantID, ID: t.ID, State: failed}
	if row.DisabledAt != nil {
		return s.end(ctx, tried, "the endpoint is disabled")
	}
	if row.Disconnected {
		return s.end(ctx, tried, "the merchant has disconnected")
	}
	if !s.slots.take(t.MerchantID) {
		return task.Snooze(2 * time.Second)
	}
	defer s.slots.give(t.MerchantID)
	secret, err := row.Secret.Reveal(secretContext(row.EndpointID))
	if err != nil {
		return err // no repetition opens it: a person is asked
	}
	status, why := s.post(ctx, row, secret)
	if status != 0 {
		tried.Status = &status
	}
	switch {
	case status/100 == 2:
		tried.State = delivered
		return s.end(ctx, tried, "")
	case status == http.StatusGone:
		if _, err := s.queries.EndpointDisable(ctx, db.EndpointDisableParams{MerchantID: t.MerchantID, ID: row.EndpointID, Why: &gone}); err != nil {
			return fmt.Errorf("disable endpoint: %w", err)
		}
		return s.end(ctx, tried, gone)
	case int(row.Attempts) >= len(waits):
		return s.end(ctx, tried, why)
	}
	tried.State = pending
	if err := s.end(ctx, tried, why); err != nil {
		return err
	}
	return task.Snooze(waits[row.Attempts])
}

var gone = "it has answered 410: it wants nothing more"

// end writes down what became of a try.
func (s *Service) end(ctx context.Context, tried db.DeliveryTriedParams, why string) error {
	if why != "" {
		tried.Why = &why
	}
	if err := s.queries.DeliveryTried(ctx, tried); err != nil {
		return fmt.Errorf("store what became of a delivery: %w", err)
	}
	return nil
}

// post sends one request. Of what comes back only the status is looked at.
func (s *Service) post(ctx context.Context, row db.DeliveryGetRow, secret string) (status int32, why string) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, row.Url, bytes.NewReader(row.Body))
	if err != nil {
		return 0, "the address cannot be used"
	}
	id, at := "msg_"+row.ID.String(), time.Now()
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "PHANTOM")
	r.Header["webhook-id"] = []string{id}
	r.Header["webhook-timestamp"] = []string{strconv.FormatInt(at.Unix(), 10)}
	signatures, err := s.signatures(ctx, secret, id, at, row.Body)
	if err != nil { // a key may be mended or rotated while it is tried again
		s.config.Log.Error("[SYSTEM] an event could not be signed and is tried again: see phantom doctor", "delivery", row.ID, "error", err)
		return 0, "it could not be signed"
	}
	r.Header["webhook-signature"] = []string{signatures}
	response, err := s.client.Do(r)
	if err != nil {
		return 0, describe(err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	_ = response.Body.Close()
	return int32(response.StatusCode), fmt.Sprintf("it has answered %d", response.StatusCode)
}

// signatures are v1, by the endpoint's secret, and v1a, by the key whose public half is in
// /.well-known/jwks.json.
func (s *Service) signatures(ctx context.Context, secret, id string, at time.Time, body []byte) (string, error) {
	signed := append([]byte(id+"."+strconv.FormatInt(at.Unix(), 10)+"."), body...)
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return "", errors.New("an endpoint's secret is none of ours") // its text is left out
	}
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write(signed)
	all := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if s.config.Sign != nil {
		private, err := s.config.Sign(ctx)
		if err != nil {
			return "", fmt.Errorf("read what signs: %w", err)
		}
		if private != nil {
			all += " v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(private, signed))
		}
	}
	return all, nil
}

// describe says why nothing came back, without the address.
func describe(err error) string {
	var resolving *net.DNSError
	var network net.Error
	switch {
	case errors.Is(err, ssrf.ErrProhibitedIP) || errors.Is(err, ssrf.ErrProhibitedPort) || errors.Is(err, ssrf.ErrProhibitedNetwork):
		return "the address leads into a private network, or to a port that is not taken"
	case errors.As(err, &resolving):
		return "the address's name is not known"
	case errors.As(err, &network) && network.Timeout():
		return "it did not answer in time"
	}
	return "no connection could be made, or it was closed"
}
