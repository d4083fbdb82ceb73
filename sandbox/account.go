package sandbox

import (
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"
	_ "time/tzdata" // the same world on machines without time zones
)

// profile is what kind of business a merchant is.
type profile struct {
	Name, Country, Currency, Zone, MCC string
	Monthly                            []int64 // prices in minor units; a year costs ten months
	Paydays                            []int   // local days of the month, as most are paid there
	Weekly                             int     // of a hundred customers are paid by the week
	Places                             []place
}

// place is where customers live; zone is "" where that is the merchant's.
type place struct{ city, postalCode, zone string }

// Currencies without decimals (JPY) and with three (KWD) are here on purpose: minor units differ.
var profiles = []profile{
	{"Nordlicht Software", "DE", "eur", "Europe/Berlin", "7372", []int64{1900, 4900, 12900}, []int{1, 15, 28}, 0,
		[]place{{"Berlin", "10115", ""}, {"Hamburg", "20095", ""}, {"Leipzig", "04109", ""}}},
	{"Kumo Learning", "JP", "jpy", "Asia/Tokyo", "8299", []int64{980, 2480, 6800}, []int{10, 25}, 0,
		[]place{{"Tokyo", "100-0001", ""}, {"Osaka", "530-0001", ""}, {"Sapporo", "060-0001", ""}}},
	{"Juniper Media", "US", "usd", "America/New_York", "5815", []int64{900, 1500, 4900}, []int{1, 15}, 55,
		[]place{{"New York", "10001", ""}, {"Columbus", "43004", ""}, {"Denver", "80014", "America/Denver"}}},
	{"Petrel Fitness", "GB", "gbp", "Europe/London", "7997", []int64{1200, 2900}, []int{25, 28}, 15,
		[]place{{"London", "EC1A 1BB", ""}, {"Leeds", "LS1 4AP", ""}}},
	{"Souq Analytics", "KW", "kwd", "Asia/Kuwait", "7374", []int64{4500, 15000}, []int{24}, 0,
		[]place{{"Kuwait City", "13001", ""}}},
	{"Ipê Cursos", "BR", "brl", "America/Sao_Paulo", "8244", []int64{3990, 8990}, []int{5, 20}, 5,
		[]place{{"São Paulo", "01310-000", ""}, {"Recife", "50010-000", "America/Recife"}}},
}

// world is what all accounts share.
type world struct {
	seed      uint64
	epoch     int64
	customers int
	sameIDs   bool
	open      int  // customers with one open invoice each in place of the cast; 0 = the cast
	emails    bool // Stripe writes to customers
	respond   bool // customers answer
}

// stream is a source of random numbers for one purpose. Because every decision has its own, what
// happens to one object does not depend on how often another was touched.
func stream(seed uint64, purpose string, parts ...any) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(purpose))
	for _, p := range parts {
		h.Write([]byte{0})
		switch p := p.(type) {
		case string:
			h.Write([]byte(p))
		case uint64:
			h.Write(u64(p))
		case int:
			h.Write(u64(uint64(p)))
		case int64:
			h.Write(u64(uint64(p)))
		}
	}
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

const base62Digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func base62(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = base62Digits[r.IntN(62)]
	}
	return string(b)
}

// accountFacts is the account object as the API shows it.
type accountFacts struct {
	head
	BusinessProfile struct {
		MCC  string `json:"mcc"`
		Name string `json:"name"`
		URL  text   `json:"url"`
	} `json:"business_profile"`
	BusinessType     string `json:"business_type"`
	ChargesEnabled   bool   `json:"charges_enabled"`
	Country          string `json:"country"`
	DefaultCurrency  string `json:"default_currency"`
	DetailsSubmitted bool   `json:"details_submitted"`
	Email            string `json:"email"`
	Metadata         dict   `json:"metadata"`
	PayoutsEnabled   bool   `json:"payouts_enabled"`
	Settings         struct {
		Dashboard struct {
			DisplayName string `json:"display_name"`
			Timezone    string `json:"timezone"`
		} `json:"dashboard"`
	} `json:"settings"`
	Type string `json:"type"`
}

// account is one merchant and everything it owns.
type account struct {
	accountFacts
	world      world
	profile    profile
	loc        *time.Location
	tables     map[string]*table
	prices     []*price
	foreign    *price // in another currency than the merchant's own
	contracts  []*contract
	bulk       int // charges of a history to be written, 0 for none
	loaded     bool
	clock      int64 // the world has been played up to here
	due        int64 // and nothing happens by itself before this
	eventFloor int64 // older events are gone
	cause      eventRequest
	tell       func(*account, *event) // hears of every event after the generated past
	quiet      bool                   // the past is being generated
	written    int                    // emails of Stripe's own
	retried    int                    // charges of Stripe's own, of invoices that had failed
}

func (w world) newAccount(name string, p profile) *account {
	r := stream(w.seed, "account", name)
	a := &account{world: w, profile: p}
	a.head = head{ID: "acct_1" + base62(r, 15), Object: "account", Created: w.epoch - 3*365*86400 - int64(r.IntN(200*86400))}
	a.BusinessProfile.MCC, a.BusinessProfile.Name = p.MCC, p.Name
	slug := strings.ToLower(strings.NewReplacer(" ", "-", "ê", "e").Replace(p.Name))
	a.BusinessProfile.URL = text("https://" + slug + ".example.com")
	a.BusinessType, a.Country, a.DefaultCurrency = "company", p.Country, p.Currency
	a.ChargesEnabled, a.DetailsSubmitted, a.PayoutsEnabled = true, true, true
	a.Email, a.Metadata, a.Type = "billing@"+slug+".example.com", dict{}, "standard"
	a.Settings.Dashboard.DisplayName, a.Settings.Dashboard.Timezone = p.Name, p.Zone
	loc, err := time.LoadLocation(p.Zone)
	if err != nil {
		loc = time.UTC // cannot happen: the zones are linked in
	}
	a.loc = loc
	a.tables = map[string]*table{}
	for name, noun := range map[string]string{
		"customers": "customer", "subscriptions": "subscription", "invoices": "invoice", "charges": "charge", "disputes": "dispute",
		"events": "event", "payment_intents": "payment_intent", "payment_methods": "PaymentMethod",
	} {
		a.tables[name] = newTable(noun)
	}
	return a
}

// id makes the id of an object that is known by parts.
func (a *account) id(prefix string, n int, parts ...any) string {
	space := a.ID
	if a.world.sameIDs {
		space = "every account"
	}
	return prefix + base62(stream(a.world.seed, prefix, append([]any{space}, parts...)...), n)
}

func (a *account) put(name string, o object) { a.tables[name].add(o) }

func (a *account) sortTables() {
	for _, t := range a.tables {
		t.sort()
	}
}

const eventLife = 30 * 86400

// advance plays the world up to now: renewals, retries, expiries, settlements.
func (a *account) advance(now int64) {
	if !a.loaded {
		a.loaded = true
		a.eventFloor = now - eventLife
		a.populate()
		a.due = 1
		a.quiet = true
		defer func() { a.quiet = false }()
	}
	if now < a.clock {
		return // a clock that was set back changes nothing
	}
	a.clock = now
	a.eventFloor = now - eventLife
	a.tables["events"].dropBefore(a.eventFloor)
	if a.due == 0 || now < a.due {
		return
	}
	a.cause = eventRequest{}
	a.due = 0
	for _, c := range a.contracts {
		next := c.play(now)
		if next != 0 && (a.due == 0 || next < a.due) {
			a.due = next
		}
	}
	a.sortTables()
	if a.bulk > 0 { // what the living have not charged
		newHistory(a, max(1, a.bulk-len(a.tables["charges"].rows))).shelve()
		a.bulk = 0
	}
}

// expect sees to it that the world is played when a contract's next turn falls due. Only it is
// asked, not all: with ten thousand contracts that would be most of a mutation's cost. A turn that
// was put off costs one look too many.
func (a *account) expect(c *contract) {
	if next, _ := c.next(); next != 0 && (a.due == 0 || next < a.due) {
		a.due = next
	}
}

func (t *table) dropBefore(floor int64) {
	n := 0
	for n < len(t.rows) && t.rows[n].meta().Created < floor {
		delete(t.byID, t.rows[n].meta().ID)
		n++
	}
	t.rows = t.rows[n:]
}

// emit appends an event. before holds the changed fields' old values, or nil.
func (a *account) emit(t int64, typ string, o object, before map[string]any) {
	if t < a.eventFloor {
		return
	}
	e := &event{APIVersion: APIVersion, Type: typ, Request: a.cause,
		Data: eventData{Object: snapshot(o), PreviousAttributes: before}}
	e.head = head{Object: "event", Created: t}
	for n := 0; ; n++ { // the same thing can happen twice in a second
		e.ID = a.id("evt_1", 23, o.meta().ID, typ, t, n)
		if a.tables["events"].byID[e.ID] == nil {
			break
		}
	}
	a.put("events", e)
	if !a.quiet {
		a.tell(a, e)
	}
}
