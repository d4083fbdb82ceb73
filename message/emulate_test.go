package message

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/resend/resend-go/v2"

	"phantom/internal/emulator"
)

// Accounts that the emulators know.
const (
	emulatedKey   = "re_canary7Zq3vT7w"
	emulatedSID   = "AC0123456789abcdef0123456789abcdef"
	emulatedToken = "canaryToken7Zq3vT7wcanaryToken7Z"
)

// The same key gives the same email, and none to other bytes.
func TestEmulatedKeys(t *testing.T) {
	t.Parallel()
	e := emulator.New(t, emulator.Resend)
	s := &Service{config: Config{ResendBase: e.URL, Now: time.Now}}
	run := uuid.NewString() // the emulator may remember an earlier one
	to := "again.canary7zq@" + run + ".example.com"
	send := func(subject string) answer {
		email, err := emailBytes(&resend.SendEmailRequest{From: "Example Billing <billing@example.com>", To: []string{to}, Subject: subject, Text: "text"})
		if err != nil {
			t.Fatal(err)
		}
		return s.sendEmail(t.Context(), emulatedKey, "task_"+run, email, time.Time{})
	}
	first, second, other := send("one"), send("one"), send("another")
	if first.outcome != taken || second != first || other.outcome != conflict || len(e.Emails(to)) != 1 {
		t.Errorf("%+v, %+v, %+v: %+v", first, second, other, e.Emails(to))
	}
	if got := send(""); got.outcome != refused {
		t.Errorf("without a subject: %+v", got)
	}
}

// What Twilio refuses is read as its refusal.
func TestEmulatedRefusals(t *testing.T) {
	t.Parallel()
	e := emulator.New(t, emulator.Twilio)
	s := &Service{config: Config{TwilioBase: e.URL, Now: time.Now}}
	const to = "+14155550123"
	got := s.sendSMS(t.Context(), emulatedToken, text{emulatedSID, "+14155558888", to, "text"}, time.Time{})
	if got.outcome != refused || !strings.Contains(got.why, "21606") {
		t.Errorf("from a number of somebody else's: %+v", got)
	}
	got = s.sendSMS(t.Context(), strings.ToLower(emulatedToken), text{emulatedSID, "+14155559999", to, "text"}, time.Time{})
	if got.outcome != keyRefused {
		t.Errorf("with another token: %+v", got)
	}
}
