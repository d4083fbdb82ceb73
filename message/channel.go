package message

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/resend/resend-go/v2"

	"phantom/db"
	"phantom/input"
	"phantom/playbook"
	"phantom/state"
	"phantom/task"
	"phantom/trail"
	"phantom/vault"
)

// Providers of messages.
const (
	Resend = "resend"
	Twilio = "twilio"
)

var (
	// ErrProvider says that Resend or Twilio gave no clear answer: try again later.
	ErrProvider = errors.New("the provider gave no clear answer")
	// ErrTooManyTests says that a merchant has sent their test messages of the day.
	ErrTooManyTests = errors.New("the test messages of the day are used up")
)

// askPatience is how long a provider is waited for while the merchant waits for our answer.
const askPatience = 7 * time.Second

// triesAnHour is how many credentials that a provider refuses a merchant may have tried in an hour,
// over both providers. It is counted in the database, so that neither another process nor a restart
// gives more.
const triesAnHour = 5

// TooManyTriesError says that a provider has refused too many of a merchant's credentials.
type TooManyTriesError struct {
	Wait time.Duration // until there is room for another try
}

func (e *TooManyTriesError) Error() string { return "too many credentials were refused" }

// testsADay is how many test messages a merchant may send in 24 hours, over both channels.
const testsADay = 10

// Channels are a merchant's own accounts, without what is secret of them; nil for what is not set
// up.
type Channels struct {
	Resend *ResendChannel `json:"resend"`
	Twilio *TwilioChannel `json:"twilio"`
}

// ResendChannel sends emails.
type ResendChannel struct {
	From      string    `json:"from"`
	UpdatedAt time.Time `json:"updated_at"`
}

// TwilioChannel sends SMS.
type TwilioChannel struct {
	AccountSID string    `json:"account_sid"`
	From       string    `json:"from"`
	UpdatedAt  time.Time `json:"updated_at"`
	// where Twilio must send incoming messages: STOP comes there
	WebhookURL string `json:"webhook_url"`
}

var (
	resendKeyShape   = regexp.MustCompile(`^re_[A-Za-z0-9_]{8,200}$`)
	twilioSIDShape   = regexp.MustCompile(`^AC[0-9a-fA-F]{32}$`)
	twilioTokenShape = regexp.MustCompile(`^[0-9a-zA-Z]{32,64}$`)
)

func secretContext(merchantID uuid.UUID, provider string) string {
	return "channels.secret:" + merchantID.String() + "/" + provider
}

// SetResend checks a key with Resend and stores it, sealed. Its errors are a [*input.FieldError],
// [ErrProvider], a [*TooManyTriesError] or the database's.
func (s *Service) SetResend(ctx context.Context, merchantID uuid.UUID, key, from string) (ResendChannel, error) {
	if !resendKeyShape.MatchString(key) {
		return ResendChannel{}, input.Wrong("api_key", "must be a key of Resend's (re_…)")
	}
	if _, ok := sender(from); !ok {
		return ResendChannel{}, input.Wrong("from", "must be an address of your verified domain, or a name with it: Example Billing <billing@example.com>")
	}
	if err := s.try(ctx, merchantID, func() error { return s.checkResend(ctx, key) }); err != nil {
		return ResendChannel{}, err
	}
	at, err := s.putChannel(ctx, playbook.Email, db.ChannelPutParams{
		MerchantID: merchantID, Provider: Resend, Sender: from, Secret: vault.NewToken(secretContext(merchantID, Resend), key),
	})
	if err != nil {
		return ResendChannel{}, err
	}
	return ResendChannel{from, at}, nil
}

// SetTwilio is SetResend for an account of Twilio's.
func (s *Service) SetTwilio(ctx context.Context, merchantID uuid.UUID, account, token, from string) (TwilioChannel, error) {
	switch {
	case !twilioSIDShape.MatchString(account):
		return TwilioChannel{}, input.Wrong("account_sid", "must be AC and 32 hex digits")
	case !twilioTokenShape.MatchString(token):
		return TwilioChannel{}, input.Wrong("auth_token", "must be the account's auth token: 32 letters and digits")
	case !e164Shape.MatchString(from):
		return TwilioChannel{}, input.Wrong("from", "must be a number of yours at Twilio in the form +15551234567")
	}
	if err := s.try(ctx, merchantID, func() error { return s.checkTwilio(ctx, account, token) }); err != nil {
		return TwilioChannel{}, err
	}
	at, err := s.putChannel(ctx, playbook.SMS, db.ChannelPutParams{
		MerchantID: merchantID, Provider: Twilio, Account: account, Sender: from, Secret: vault.NewToken(secretContext(merchantID, Twilio), token),
	})
	if err != nil {
		return TwilioChannel{}, err
	}
	return TwilioChannel{account, from, at, s.twilioURL(merchantID)}, nil
}

// putChannel stores an account, and lets the messages go on that waited for a person because the
// channel's key was refused.
func (s *Service) putChannel(ctx context.Context, channel string, put db.ChannelPutParams) (at time.Time, err error) {
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		before, after := channelTold{}, channelTold{SetUp: true}
		old, err := queries.ChannelLock(ctx, db.ChannelLockParams{MerchantID: put.MerchantID, Provider: put.Provider})
		switch {
		case err == nil:
			account, from := old.Account != put.Account, old.Sender != put.Sender
			before.SetUp, after.AccountChanged, after.FromChanged = true, &account, &from
		case !errors.Is(err, pgx.ErrNoRows):
			return err
		}
		if at, err = queries.ChannelPut(ctx, put); err != nil {
			return err
		}
		woken, err := queries.TaskWakeMessages(ctx, db.TaskWakeMessagesParams{MerchantID: put.MerchantID, Kind: channel})
		if err != nil {
			return fmt.Errorf("wake messages: %w", err)
		}
		if woken > 0 {
			if err := task.Rouse(ctx, tx); err != nil {
				return err
			}
		}
		return trail.Record(ctx, tx, trail.Change{
			Merchant: put.MerchantID, Action: "channel.put", Object: put.Provider, Before: before, After: after,
		})
	})
	if err != nil {
		return at, fmt.Errorf("store channel: %w", err)
	}
	return at, nil
}

// try has a provider look at credentials. A try counts before it is made, so that many at once are
// no more, and is forgiven where nothing was refused. Beyond the bound its error is a
// [*TooManyTriesError].
func (s *Service) try(ctx context.Context, merchantID uuid.UUID, check func() error) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make id: %w", err)
	}
	var wait float64
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) (err error) {
		queries := db.New(tx)
		if err := queries.MerchantLock(ctx, merchantID); err != nil {
			return err
		}
		wait, err = queries.CredentialTake(ctx, db.CredentialTakeParams{MerchantID: merchantID, ID: id, Most: triesAnHour})
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("count tries: %w", err)
	case wait > 0:
		return &TooManyTriesError{time.Duration(wait * float64(time.Second))}
	}
	checked := check()
	var refused *input.FieldError
	if errors.As(checked, &refused) {
		return checked
	}
	if err := s.queries.CredentialForgive(ctx, db.CredentialForgiveParams{MerchantID: merchantID, ID: id}); err != nil {
		return fmt.Errorf("forgive a try: %w", err)
	}
	return checked
}

// Channels shows what a merchant has set up.
func (s *Service) Channels(ctx context.Context, merchantID uuid.UUID) (Channels, error) {
	rows, err := s.queries.ChannelList(ctx, merchantID)
	if err != nil {
		return Channels{}, fmt.Errorf("list channels: %w", err)
	}
	var all Channels
	for _, row := range rows {
		switch row.Provider {
		case Resend:
			all.Resend = &ResendChannel{row.Sender, row.UpdatedAt}
		case Twilio:
			all.Twilio = &TwilioChannel{row.Account, row.Sender, row.UpdatedAt, s.twilioURL(merchantID)}
		}
	}
	return all, nil
}

// DeleteChannel forgets an account, no matter who uses it: a key that has leaked must go at once.
// Messages on it are skipped as they fall due, and their hunts go on. It fails with [ErrNotFound].
func (s *Service) DeleteChannel(ctx context.Context, merchantID uuid.UUID, provider string) error {
	err := db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		count, err := db.New(tx).ChannelDelete(ctx, db.ChannelDeleteParams{MerchantID: merchantID, Provider: provider})
		if err != nil {
			return err
		}
		if count == 0 {
			return ErrNotFound
		}
		return trail.Record(ctx, tx, trail.Change{
			Merchant: merchantID, Action: "channel.delete", Object: provider, Before: channelTold{SetUp: true}, After: channelTold{},
		})
	})
	if err != nil {
		return fmt.Errorf("delete channel: %w", err)
	}
	return nil
}

// channel is a merchant's account, opened.
type channel struct {
	account, from, secret string
}

func providerOf(channel string) string {
	if channel == playbook.SMS {
		return Twilio
	}
	return Resend
}

// open reads an account with its secret. It fails with [ErrNotFound].
func (s *Service) open(ctx context.Context, merchantID uuid.UUID, provider string) (channel, error) {
	row, err := s.queries.ChannelGet(ctx, db.ChannelGetParams{MerchantID: merchantID, Provider: provider})
	if errors.Is(err, pgx.ErrNoRows) {
		return channel{}, ErrNotFound
	}
	if err != nil {
		return channel{}, fmt.Errorf("read channel: %w", err)
	}
	secret, err := row.Secret.Reveal(secretContext(merchantID, provider))
	if err != nil {
		return channel{}, fmt.Errorf("read channel: %w", err)
	}
	return channel{row.Account, row.Sender, secret}, nil
}

// fingerprint tells whether a message's provider account is still the one that it was first sent
// through: an idempotency key means nothing to another one.
func (c channel) fingerprint(hash Hasher) []byte { return hash("channel", c.account+"/"+c.secret) }

// Words of a test message.
const (
	testSubject = "Test message from PHANTOM"
	testText    = "This is a test message. Your channel works: PHANTOM can send your customers messages about failed payments."
	testHTML    = `<!doctype html><html lang="en"><body style="font-family:sans-serif"><p>` + testText + `</p></body></html>`
)

// TestChannel sends one test message. Its errors are [ErrNotFound] where the channel is not set up,
// a [*input.FieldError], [ErrTooManyTests], [ErrProvider] or the database's.
func (s *Service) TestChannel(ctx context.Context, merchantID uuid.UUID, provider, to string) error {
	if provider != Resend && provider != Twilio {
		return ErrNotFound
	}
	hash, err := s.connect.Hasher(ctx, merchantID)
	if err != nil {
		return err
	}
	kind, person := playbook.Email, Hasher(hash).Email(to)
	switch {
	case provider == Resend && !isMailbox(to):
		return input.Wrong("to", "must be an email address")
	case provider == Twilio && !textable(to):
		return input.Wrong("to", "must be a mobile number in the form +15551234567, of a country that is written to")
	case provider == Twilio:
		kind, person = playbook.SMS, Hasher(hash).Phone(to)
	}
	c, err := s.open(ctx, merchantID, provider)
	if err != nil {
		return err
	}
	suppressed, err := s.queries.SuppressionHolds(ctx, db.SuppressionHoldsParams{MerchantID: merchantID, Channel: kind, Person: person})
	if err != nil {
		return fmt.Errorf("read suppressions: %w", err)
	}
	if suppressed {
		return input.Wrong("to", "has asked not to be written to")
	}
	id, err := s.takeTest(ctx, merchantID, provider)
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	var got answer
	if provider == Resend {
		email, err := emailBytes(&resend.SendEmailRequest{From: c.from, To: []string{to}, Subject: testSubject, Html: testHTML, Text: testText})
		if err != nil {
			return err
		}
		got = s.sendEmail(asking, c.secret, "test_"+id.String(), email, time.Time{})
	} else {
		got = s.sendSMS(asking, c.secret, text{c.account, c.from, to, testText}, time.Time{})
	}
	switch got.outcome {
	case taken:
		return nil
	case optedOut:
		return input.Wrong("to", "has told Twilio STOP")
	case refused, keyRefused, conflict:
		return input.Wrong("channel", "refused the message: "+got.why)
	default:
		return ErrProvider
	}
}

// takeTest counts a test message, before it is sent: what becomes of it is not known then.
func (s *Service) takeTest(ctx context.Context, merchantID uuid.UUID, provider string) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make id: %w", err)
	}
	var count int64
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		if err := queries.MerchantLock(ctx, merchantID); err != nil {
			return err
		}
		if err := queries.ChannelForgetTests(ctx, merchantID); err != nil {
			return err
		}
		count, err = queries.ChannelTake(ctx, db.ChannelTakeParams{MerchantID: merchantID, ID: id, Most: testsADay})
		if err != nil || count == 0 {
			return err
		}
		return trail.Record(ctx, tx, trail.Change{Merchant: merchantID, Action: "channel.test", Object: provider})
	})
	if err != nil {
		return uuid.Nil, fmt.Errorf("count test message: %w", err)
	}
	if count == 0 {
		return uuid.Nil, ErrTooManyTests
	}
	return id, nil
}

// CheckSteps finds the steps that could not be sent: every template must exist, and of a playbook
// that recovers every channel be set up.
func (s *Service) CheckSteps(ctx context.Context, merchantID uuid.UUID, p playbook.Playbook) error {
	steps := p.AllSteps()
	if len(steps) == 0 {
		return nil
	}
	channels, err := s.Channels(ctx, merchantID)
	if err != nil {
		return err
	}
	templates, err := s.Templates(ctx, merchantID)
	if err != nil {
		return err
	}
	for _, step := range steps {
		field := step.Field
		if p.Mode == state.ModeRecover && (step.Channel == playbook.Email && channels.Resend == nil || step.Channel == playbook.SMS && channels.Twilio == nil) {
			return input.Wrong(field+".channel", "is not set up: PUT /api/channels/"+providerOf(step.Channel)+" first")
		}
		if !slices.ContainsFunc(templates, func(t Template) bool { return t.Channel == step.Channel && t.Name == step.Template }) {
			return input.Wrong(field+".template", "must be the name of a template: "+strings.Join(ourNames, ", ")+" or one of yours")
		}
	}
	return nil
}

// channelTold is what the log says of a channel: neither account nor sender, nor the secret.
type channelTold struct {
	SetUp          bool  `json:"set_up"`
	AccountChanged *bool `json:"account_changed,omitempty"`
	FromChanged    *bool `json:"from_changed,omitempty"`
}
