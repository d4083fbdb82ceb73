package ghost

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/go-faster/jx"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/billing"
	"phantom/connect"
	"phantom/db"
	"phantom/vault"
	"phantom/zone"
)

const (
	pageSize = 100
	// A checkpoint comes after so many pages: it bounds what a reader holds in memory and what a
	// killed audit reads again.
	pagesPerCheckpoint = 2
)

// errTaken says that another process reads this audit: our lease was lost.
var errTaken = errors.New("another process has gone on with this audit")

// page is what matters of one answer beside its facts.
type page struct {
	count        int
	more         bool
	newest, last int64 // created times of its first and last object
	lastID       string
	stays        place // of the last object that stays, if there is one
}

// place is how far a window is read.
type place struct {
	cursor  *string
	to      time.Time
	objects int64 // read since the last checkpoint
}

func placeOf(id string, created, objects int64) place {
	return place{&id, at(created).Add(time.Second), objects}
}

// read reads a window to its end, or gives its older half away where another reader is idle.
// Failures of Stripe's are a [*connect.ReadError].
//
// Stripe refuses a cursor whose object is gone, as a draft may be at any time. So what is stored is
// the place of the last object that stays, and the reader goes back there. What lies between is
// read again, and nothing twice: of what may go no fact is kept.
func (a *audit) read(ctx context.Context, w window, all *windows) error {
	facts := &facts{audit: a}
	saved, stays := w.cursor, place{cursor: w.cursor, to: w.to}
	for pages := 1; ; pages++ {
		p, err := a.page(ctx, w, facts)
		if errors.Is(err, connect.ErrNotFound) && text0(w.cursor) != text0(stays.cursor) {
			w.cursor, w.to, facts.objects = stays.cursor, stays.to, stays.objects
			continue
		}
		if err != nil {
			return err
		}
		if p.stays.cursor != nil {
			stays = p.stays
		}
		if p.count > 0 {
			w.cursor, w.to = &p.lastID, at(p.last).Add(time.Second)
		}
		var given *window
		if p.more && all.hungry() {
			given = w.split(p, a.row.Until)
		}
		if p.more && given == nil && pages%pagesPerCheckpoint != 0 {
			continue
		}
		until := stays
		if !p.more {
			until.objects = facts.objects
		}
		if err := a.checkpoint(ctx, w, saved, until, given, !p.more, facts); err != nil {
			return err
		}
		if !p.more {
			return nil
		}
		if given != nil {
			all.add(*given)
		}
		saved = stays.cursor
		after := facts.objects - stays.objects
		facts.reset()
		facts.objects, stays.objects = after, 0
	}
}

// split takes the older half of what is left of a window, where the density of a page says that it
// is worth two requests. What is given away ends before the audit's until: the window that reaches
// beyond has no upper end.
func (w *window) split(p page, until time.Time) *window {
	left, span := at(p.last).Sub(w.from), max(at(p.newest).Sub(at(p.last)), time.Second)
	middle := w.from.Add(left / 2).Truncate(time.Second)
	if left < 2*span || !middle.After(w.from) || !middle.Before(at(p.last)) || !middle.Before(until) {
		return nil
	}
	older := &window{id: newID(), list: w.list, from: w.from, to: middle}
	w.from = middle
	return older
}

// page reads the next page of a window.
func (a *audit) page(ctx context.Context, w window, facts *facts) (p page, err error) {
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
	path := "/v1/" + w.list
	switch w.list {
	case "subscriptions":
		query.Set("status", "all") // or canceled ones are left out
		query.Set("expand[]", "data.customer")
	case openInvoices:
		path = "/v1/invoices"
		query.Set("status", billing.InvoiceOpen)
		query.Set("expand[]", "data.payment_intent")
	}
	if w.from.After(epoch) {
		query.Set("created[gte]", strconv.FormatInt(w.from.Unix(), 10))
	}
	switch {
	case w.cursor != nil:
		query.Set("starting_after", *w.cursor)
	case w.to.Before(a.row.Until):
		// the newest window has no upper end: rows that appear while we page come before the cursor
		query.Set("created[lt]", strconv.FormatInt(w.to.Unix(), 10))
	}
	mark := facts.mark()
	err = a.reader.Get(ctx, path, query, func(d *jx.Decoder) error {
		p = page{}
		facts.rewind(mark) // after an answer that broke off
		return fields(d, func(d *jx.Decoder, key string) error {
			switch key {
			case "has_more":
				return truth(d, &p.more)
			case "data":
				return d.Arr(func(d *jx.Decoder) error {
					id, created, stays, err := facts.add(w.list, d)
					if p.count == 0 {
						p.newest = created
					}
					p.count++
					p.lastID, p.last = id, created
					if stays {
						p.stays = placeOf(id, created, facts.objects)
					}
					return err
				})
			}
			return d.Skip()
		})
	})
	if err == nil && p.more && p.lastID == "" {
		err = &connect.ReadError{Err: errors.New("stripe's answer promises more and holds nothing")}
	}
	return p, err
}

// checkpoint stores what was read together with how far the window is read, and what is given away
// of it.
func (a *audit) checkpoint(ctx context.Context, w window, saved *string, until place, given *window, done bool, facts *facts) error {
	state := "open"
	if done {
		state = "done"
	}
	err := db.InCopyTx(ctx, a.s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		changed, err := queries.AuditCheckpoint(ctx, db.AuditCheckpointParams{
			MerchantID: a.row.MerchantID, AuditID: a.row.ID, ID: w.id, Cursor: until.cursor, Before: saved, FromAt: w.from, ToAt: until.to,
			Read: until.objects, State: state,
		})
		if err != nil {
			return err
		}
		if changed == 0 {
			return errTaken
		}
		if given != nil {
			if err := queries.AuditCreateWindow(ctx, given.row(a.row)); err != nil {
				return err
			}
		}
		return facts.store(ctx, queries)
	})
	if err != nil {
		return fmt.Errorf("store a checkpoint: %w", err)
	}
	a.progressed.Do(func() {
		a.task.Attempt = 1
		if err = a.s.queries.TaskProgressed(ctx, db.TaskProgressedParams{MerchantID: a.task.MerchantID, ID: a.task.ID, Fence: a.task.Fence}); err != nil {
			err = fmt.Errorf("note progress: %w", err)
		}
	})
	return err
}

func (w window) row(audit db.Audit) db.AuditCreateWindowParams {
	return db.AuditCreateWindowParams{MerchantID: audit.MerchantID, AuditID: audit.ID, ID: w.id, List: w.list, FromAt: w.from, ToAt: w.to}
}

// facts are what a reader has read since its last checkpoint.
type facts struct {
	audit         *audit
	objects       int64
	subscriptions []db.AuditAddSubscriptionsParams
	invoices      []db.AuditAddInvoicesParams
	intents       []db.AuditAddIntentsParams
	charges       []db.AuditAddChargesParams
	disputes      []db.AuditAddDisputesParams
	tried         cardAttempts
}

func (f *facts) reset() { f.rewind(facts{}) }

// mark and rewind undo what an answer that broke off has added.
func (f *facts) mark() facts { return *f }

func (f *facts) rewind(to facts) {
	f.objects = to.objects
	f.subscriptions = f.subscriptions[:len(to.subscriptions)]
	f.invoices = f.invoices[:len(to.invoices)]
	f.intents = f.intents[:len(to.intents)]
	f.charges = f.charges[:len(to.charges)]
	f.disputes = f.disputes[:len(to.disputes)]
	f.tried.rewind(&to.tried)
}

// add reads one object of a list and keeps what of it may decide something. stays says that Stripe
// will always know the object; of another, a draft or what a test clock drives, nothing is kept.
func (f *facts) add(list string, d *jx.Decoder) (id string, created int64, stays bool, err error) {
	f.objects++
	switch list {
	case "subscriptions":
		var s subscription
		err = s.decode(d)
		f.addSubscription(&s)
		return s.ID, s.created, !s.testClock, err
	case "invoices":
		var i invoice
		err = i.decode(d)
		f.addInvoice(&i)
		for _, intent := range i.payments {
			f.addIntent(&i, intent)
		}
		return i.ID, i.created, !i.testClock && i.Status != billing.InvoiceDraft, err
	case openInvoices:
		var i invoice
		err = i.decode(d)
		if i.Intent != "" {
			f.addIntent(&i, i.intentID)
		}
		return i.ID, i.created, !i.testClock, err
	case "charges":
		var c charge
		err = c.decode(d)
		f.addCharge(&c)
		return c.id, c.created, true, err
	default:
		var p contest
		err = p.decode(d)
		f.addDispute(&p)
		return p.id, p.created, true, err
	}
}

func (f *facts) addSubscription(s *subscription) {
	if s.testClock {
		return
	}
	f.subscriptions = append(f.subscriptions, db.AuditAddSubscriptionsParams{
		MerchantID: f.audit.row.MerchantID, AuditID: f.audit.row.ID, ID: s.ID, Customer: s.Customer,
		Status: s.Status, Paused: s.Paused, CreatedAt: at(s.created), Leaving: s.Leaving, Ignored: s.Ignored,
		Products: listed(s.Products), Prices: listed(s.Prices), EndedAt: s.ended(), Pause: s.pause, PausedByUs: s.byUs,
		Monthly: s.monthly, Currency: s.currency,
	})
}

// listed is a list for a column that is never null.
func listed(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func (f *facts) addIntent(i *invoice, intent string) {
	if i.testClock {
		return
	}
	f.intents = append(f.intents, db.AuditAddIntentsParams{
		MerchantID: f.audit.row.MerchantID, AuditID: f.audit.row.ID, Invoice: i.ID, Status: i.Intent, Intent: &intent,
	})
}

func (f *facts) addDispute(p *contest) {
	row := db.AuditAddDisputesParams{
		MerchantID: f.audit.row.MerchantID, AuditID: f.audit.row.ID, Charge: p.charge,
		IsOpen: billing.DisputeIsOpen(p.status), CreatedAt: at(p.created),
	}
	if billing.DisputeIsLost(p.status) {
		row.Lost = p.amount
	}
	f.disputes = append(f.disputes, row)
	if !billing.DisputeIsKnown(p.status) {
		f.audit.noteStatus(p.status)
	}
}

func (f *facts) addInvoice(i *invoice) {
	if i.testClock || i.Subscription == "" || i.Status == billing.InvoiceDraft {
		return
	}
	row := db.AuditAddInvoicesParams{
		MerchantID: f.audit.row.MerchantID, AuditID: f.audit.row.ID, Subscription: i.Subscription, ID: i.ID, Status: i.Status,
		CreatedAt: at(i.created), SendInvoice: i.SendInvoice, Currency: i.Currency, AmountRemaining: i.Remaining,
		AttemptCount: i.AttemptCount, DueAt: i.dueAt(), PaidOutOfBand: i.OutOfBand, Lines: i.Lines, Separate: i.Separate,
	}
	if i.to > i.from {
		from, to := at(i.from), at(i.to)
		row.PeriodFrom, row.PeriodTo = &from, &to
	}
	if i.Email != "" && i.unpaid() {
		sealed := vault.Store("audit_invoices.email:"+i.ID, i.Email)
		row.Email = &sealed
	}
	f.invoices = append(f.invoices, row)
}

func (i *invoice) unpaid() bool {
	return i.Remaining > 0 && (i.Status == billing.InvoiceOpen || i.Status == billing.InvoiceUncollectible)
}

func (i *invoice) dueAt() *time.Time {
	if i.due == 0 {
		return nil
	}
	due := at(i.due)
	return &due
}

func (f *facts) addCharge(c *charge) {
	local := at(c.created).In(f.audit.zoneOf(c))
	row := db.AuditAddChargesParams{
		MerchantID: f.audit.row.MerchantID, AuditID: f.audit.row.ID, Sequence: c.sequence(), CreatedAt: at(c.created),
		Outcome: c.outcome(), Refunded: c.refunded, DayOfWeek: int16(local.Weekday()), HourOfDay: int16(local.Hour()),
	}
	if c.disputed {
		row.Disputed = &c.id
	}
	if c.invoice == "" && c.intent != "" {
		row.Intent = &c.intent
	}
	if c.brand != "" {
		row.Brand = &c.brand
	}
	if c.customer != "" {
		row.Customer, row.Amount, row.Currency, row.Funding = &c.customer, &c.amount, &c.currency, &c.funding
	}
	if c.outcome() == billing.ChargeFailed || c.outcome() == billing.ChargeBlocked {
		class, code := c.decline()
		row.DeclineClass, row.DeclineCode = &class, &code
		if zone := zoneToStore(c, f.audit.reader.Merchant); zone != "" {
			row.Zone = &zone
		}
		if country := c.placed(); country != "" {
			row.Country = &country
		}
	}
	// A million hashes cost a second: only those are made that the budget of a card, or a debt's
	// last attempt, may need.
	if c.fingerprint != "" && (row.DeclineClass != nil || c.created > f.audit.budgetFrom) {
		row.Card = f.audit.reader.Hash("card", c.fingerprint)
	}
	f.charges = append(f.charges, row)
	f.tried.hash, f.tried.from = f.audit.reader.Hash, f.audit.budgetFrom
	f.tried.add(c)
}

// zoneOf is the time zone of who was charged.
func (a *audit) zoneOf(c *charge) *time.Location {
	country, own := c.placed(), ""
	if a.reader.Merchant.Country != nil {
		country = cmp.Or(country, *a.reader.Merchant.Country)
	}
	if a.reader.Merchant.Timezone != nil {
		own = *a.reader.Merchant.Timezone
	}
	return zone.OfCustomer(country, own)
}

// zoneToStore is the name of the zone of who was charged, or "" where the charge tells no country
// that has one.
func zoneToStore(c *charge, m db.Merchant) string {
	country := c.placed()
	if len(zone.InCountries(country)) == 0 {
		return ""
	}
	return zone.OfCustomer(country, text0(m.Timezone)).String()
}

// placed is the country of who was charged, or else that of the card.
func (c *charge) placed() string { return cmp.Or(c.country, c.cardCountry) }

// store copies the facts in.
func (f *facts) store(ctx context.Context, queries *db.Queries) error {
	if len(f.subscriptions) > 0 {
		if _, err := queries.AuditAddSubscriptions(ctx, f.subscriptions); err != nil {
			return err
		}
	}
	if len(f.invoices) > 0 {
		if _, err := queries.AuditAddInvoices(ctx, f.invoices); err != nil {
			return err
		}
	}
	if len(f.intents) > 0 {
		if _, err := queries.AuditAddIntents(ctx, f.intents); err != nil {
			return err
		}
	}
	if len(f.charges) > 0 {
		if _, err := queries.AuditAddCharges(ctx, f.charges); err != nil {
			return err
		}
	}
	if len(f.disputes) > 0 {
		if _, err := queries.AuditAddDisputes(ctx, f.disputes); err != nil {
			return err
		}
	}
	return f.tried.store(ctx, queries, f.audit.row.MerchantID)
}

// fails only without randomness, which Go ends the process for
func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }
