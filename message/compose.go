package message

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/resend/resend-go/v2"

	"phantom/billing"
	"phantom/connect"
	"phantom/db"
	"phantom/decline"
	"phantom/gate"
	"phantom/money"
	"phantom/playbook"
	"phantom/task"
	"phantom/vault"
	"phantom/zone"
)

// letter is a message as it will leave, and who it is for. It is what is sealed.
type letter struct {
	Invoice string          `json:"invoice"`
	Person  []byte          `json:"person"`
	Persons [][]byte        `json:"persons"`
	Channel []byte          `json:"channel"` // fingerprint of the account
	Email   json.RawMessage `json:"email,omitempty"`
	SMS     *text           `json:"sms,omitempty"`

	secret string
}

// number is where an SMS goes, "" of an email.
func (l *letter) number() string {
	if l == nil || l.SMS == nil {
		return ""
	}
	return l.SMS.To
}

// draft is a message that is being composed.
type draft struct {
	*letter
	m        *message
	ghost    db.MessageGetGhostRow
	account  channel
	invoice  *invoice
	template Template
	reader   *connect.Reader
	to       string // their address, "" for none that can be written to
	fields   fields
}

// compose writes a message from what Stripe says now. Where there is nothing to send its error is
// an [*ending].
func (s *Service) compose(ctx context.Context, m *message) (*letter, error) {
	d, err := s.newDraft(ctx, m)
	if err == nil {
		err = s.address(ctx, d)
	}
	if err == nil {
		err = s.checkBill(ctx, d)
	}
	if err == nil {
		err = s.word(ctx, d)
	}
	switch {
	case err != nil:
		return nil, err
	case m.Channel == playbook.Email:
		return d.letter, s.composeEmail(d)
	}
	return d.letter, s.composeSMS(ctx, d)
}

// newDraft reads what PHANTOM itself has for a message: the ghost and the account.
func (s *Service) newDraft(ctx context.Context, m *message) (*draft, error) {
	d, merchantID := &draft{m: m}, m.task.MerchantID
	var err error
	d.ghost, err = s.queries.MessageGetGhost(ctx, db.MessageGetGhostParams{MerchantID: merchantID, ID: m.GhostID})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, stop(skipped("the ghost is gone"))
	}
	if err != nil {
		return nil, fmt.Errorf("read ghost: %w", err)
	}
	d.account, err = s.open(ctx, merchantID, providerOf(m.Channel))
	if errors.Is(err, ErrNotFound) {
		return nil, stop(skipped("the channel is not set up"))
	}
	if err != nil {
		return nil, err
	}
	if d.reader, err = s.connect.Reader(ctx, merchantID); err != nil {
		return nil, err
	}
	m.hash = d.reader.Hash
	d.letter = &letter{Invoice: m.invoice, Channel: d.account.fingerprint(m.hash), Persons: [][]byte{m.Customer}, secret: d.account.secret}
	return d, nil
}

// address says who the message is for, as far as that is known without Stripe.
func (s *Service) address(ctx context.Context, d *draft) (err error) {
	m := d.m
	d.to, err = EmailOf(m.GhostID, d.ghost.Email)
	switch {
	case errors.Is(err, vault.ErrOpen) && m.Channel == playbook.Email:
		return stop(skippedFor(gate.SealedEmail))
	case err != nil && !errors.Is(err, vault.ErrOpen):
		return err
	}
	if d.to != "" {
		d.Persons = append(d.Persons, m.hash.Email(d.to))
	}
	// Anyone who is over a cap already is not worth a question to Stripe. The count that decides
	// comes later.
	if err := s.underCaps(ctx, s.queries, m, d.Persons, m.Now); err != nil {
		return err
	}
	return nil
}

// checkBill reads at Stripe what the message is about, and whether it may be written.
func (s *Service) checkBill(ctx context.Context, d *draft) error {
	if err := writable(ctx, d.reader, d.ghost.StripeCustomerID, d.Invoice); err != nil {
		return err
	}
	invoice, err := readBill(ctx, d.reader, d.Invoice)
	if err != nil {
		return err
	}
	if err := d.m.mayTouch(invoice); err != nil {
		return err
	}
	switch {
	case invoice.settled():
		return stop(skipped("the invoice is settled"))
	case invoice.page == "":
		return stop(skipped("the invoice has no page to pay on"))
	case !s.config.payPage(invoice.page):
		return stop(skipped("the invoice's page to pay on is not at stripe.com"))
	}
	d.invoice = invoice
	if d.m.Channel != playbook.Email {
		return nil
	}
	return s.presentAddress(ctx, d)
}

// presentAddress takes the address that the customer has now: an invoice keeps the one of its day.
// Where that one's owner has said stop it stays: they are not to be written to at another one.
func (s *Service) presentAddress(ctx context.Context, d *draft) error {
	if present := strings.TrimSpace(d.invoice.owner.Email); present != d.to && isMailbox(present) {
		stopped := false
		if d.to != "" {
			var err error
			stopped, err = s.queries.SuppressionHolds(ctx, db.SuppressionHoldsParams{MerchantID: d.m.task.MerchantID, Channel: playbook.Email, Person: d.m.hash.Email(d.to)})
			if err != nil {
				return fmt.Errorf("read suppressions: %w", err)
			}
		}
		if !stopped {
			d.to = present
			d.Persons = append(d.Persons, d.m.hash.Email(present))
		}
	}
	if d.to == "" {
		return stop(skippedFor(gate.NoEmail))
	}
	d.Person = d.m.hash.Email(d.to)
	return nil
}

// word chooses the template that the customer can read, and what it says.
func (s *Service) word(ctx context.Context, d *draft) (err error) {
	m, bill := d.m, d.invoice
	d.template, err = s.templateFor(ctx, m.task.MerchantID, m.Channel, m.Template, languageOf(bill.owner.Locales, bill.owner.Address.Country))
	if errors.Is(err, ErrNotFound) {
		return stop(failed("its template does not exist"))
	}
	if err != nil {
		return err
	}
	w := wordsOf(d.template.language)
	d.fields = fields{
		CustomerName: addressee(cmp.Or(bill.owner.Name, bill.customerName)), Company: company(bill.accountName),
		Amount: money.Local(bill.remaining, bill.currency, d.template.language, bill.owner.Address.Country), InvoiceNumber: plain(bill.number, 40), PayURL: bill.page,
		DeclineReason: w.reasonOf(bill.method(), d.ghost.DeclineClass), Method: w.Method[bill.method()], CardHint: w.cardHint(bill),
		Tried: bill.tried(), SameMethod: d.ghost.DeclineClass != decline.Never,
	}
	if m.Channel == playbook.SMS {
		d.fields.Amount = inGSM.Replace(d.fields.Amount)
	}
	local := zone.OfGhost(m.Zone, m.Timezone)
	if m.nextCharge.After(m.Now) && d.fields.Tried && d.fields.SameMethod {
		d.fields.NextAttempt = w.date(m.nextCharge.In(local))
	}
	if d.ghost.AccessEnds.After(m.Now) {
		d.fields.AccessEnds = w.date(d.ghost.AccessEnds.In(local))
	}
	return nil
}

// mayTouch puts a message off whose customer is left alone, as the invoice that was just read says,
// and skips it where that is too old.
func (m *message) mayTouch(i *invoice) error {
	if !m.byHand && m.playbook.TooOld(i.created, m.Now) {
		return stop(skippedFor(gate.TooOld))
	}
	r := gate.MayTouch(m.playbook, i.owner.Metadata, i.contract, m.Channel, m.Now)
	if !r.Yes() {
		return task.Snooze(r.Until.Sub(m.Now))
	}
	return nil
}

func stop(e ending) error { return &e }

// writable fails where a customer must not be written to about an invoice now: with an [*ending]
// where they dispute one of their charges, for they are in their bank's hands, and with a snooze
// where a bank is still moving the money for it.
func writable(ctx context.Context, reader *connect.Reader, customer, invoice string) error {
	charges, err := billing.ReadCharges(ctx, reader, customer, time.Now())
	if err != nil {
		return connect.Unhurried(ctx, err)
	}
	if slices.ContainsFunc(charges, billing.Charge.Contested) {
		return stop(skipped("the customer disputes a charge"))
	}
	if slices.ContainsFunc(charges, func(c billing.Charge) bool { return c.Status == billing.ChargePending && c.Invoice == invoice }) {
		return task.Snooze(24 * time.Hour)
	}
	return nil
}

// Unreachable are the codes that say that a customer cannot be reached on a channel. They are
// looked for among the messages of before.
var Unreachable = []string{string(gate.NoEmail), string(gate.NoPhone), string(gate.NoMobile)}

// Sentences are the words of [Unreachable], as servers from before there were codes have stored
// them.
var Sentences = []string{gate.NoEmail.Words(), gate.NoPhone.Words(), gate.NoMobile.Words()}

func (s *Service) composeEmail(d *draft) error {
	name, ok := sender(d.account.from)
	if !ok {
		return stop(failed("the channel's sender is no address"))
	}
	if d.fields.Company == "" {
		d.fields.Company = company(name)
	}
	if d.fields.Company == "" {
		return stop(skipped("neither the account at Stripe nor the channel's sender has a name"))
	}
	d.fields.UnsubscribeURL = s.config.PublicURL + "/u/" + unsubscribeToken(d.m.task.MerchantID, d.Person, d.m.hash)
	rendered, err := d.template.render(d.fields)
	if err != nil {
		return stop(failed("its template cannot be rendered: " + err.Error()))
	}
	d.Email, err = emailBytes(&resend.SendEmailRequest{
		From: d.account.from, To: []string{d.to}, Subject: rendered.Subject, Html: rendered.HTML, Text: rendered.Text,
		Headers: map[string]string{ // RFC 8058
			"List-Unsubscribe":      "<" + d.fields.UnsubscribeURL + ">",
			"List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
		},
	})
	return err
}

func (s *Service) composeSMS(ctx context.Context, d *draft) error {
	owner, err := readCustomer(ctx, d.reader, d.ghost.StripeCustomerID)
	if err != nil {
		return err
	}
	to, ok := parsePhone(owner.phone, owner.country)
	switch {
	case owner.phone == "":
		return stop(skippedFor(gate.NoPhone))
	case !ok || !textable(to):
		return stop(skippedFor(gate.NoMobile))
	case d.fields.Company == "":
		return stop(skipped("the account at Stripe has no public name"))
	}
	d.Person = d.m.hash.Phone(to)
	d.Persons = append(d.Persons, d.Person)
	rendered, err := d.template.render(d.fields)
	if err != nil {
		return stop(failed("its template cannot be rendered: " + err.Error()))
	}
	d.SMS = &text{d.account.account, d.account.from, to, rendered.Text}
	return nil
}

// EmailOf opens a ghost's address, "" where there is none that can be written to. Its error says
// that it does not open: that is this ghost's alone, and ends nothing that is about many.
func EmailOf(id uuid.UUID, email *vault.StoredToken) (string, error) {
	if email == nil {
		return "", nil
	}
	address, err := email.Reveal("ghost_targets.email:" + id.String())
	if err != nil {
		return "", err
	}
	if address = strings.TrimSpace(address); !isMailbox(address) {
		return "", nil
	}
	return address, nil
}
