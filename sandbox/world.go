package sandbox

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// author writes one customer's story.
type author struct {
	acc      *account
	r        *rand.Rand
	i        int
	epoch    int64
	start    int64
	customer *customer
}

var (
	firstNames = strings.Fields("Ada Bruno Chiara Dmitri Elif Farah Goran Hana Imani Jonas Kaori Lena Mateo Nadia Oskar Priya Quentin Rosa Sven Tara Umut Vera Wanda Ximena Yusuf Zoe")
	lastNames  = strings.Fields("Almeida Berg Castro Dahl Eriksen Fujita Garcia Hoffmann Ito Jensen Kovacs Lindqvist Moreau Novak Okafor Petrov Quinn Rossi Suzuki Tanaka Ueda Varga Weber Xu Yamada Zeller")
)

// populate plans every customer. Nothing happens before the clock is advanced.
func (a *account) populate() {
	a.makePrices()
	if a.world.open > 0 {
		a.populateOpen()
		return
	}
	var roles []int
	for i, role := range cast {
		for range role.n {
			roles = append(roles, i)
		}
	}
	newcomers := a.world.customers / 4
	r := stream(a.world.seed, "roles", a.ID)
	r.Shuffle(len(roles), func(i, j int) { roles[i], roles[j] = roles[j], roles[i] })
	for i := range a.world.customers {
		w := &author{acc: a, i: i, epoch: a.world.epoch, r: stream(a.world.seed, "customer", a.ID, i)}
		w.start = w.ago(150, 545)
		w.newCustomer()
		cast[roles[i%len(roles)]].tell(w)
		w.customer.Created = w.customer.wallet0(w.start) - int64(60+w.r.IntN(day))
		a.put("customers", w.customer)
	}
	for i := range newcomers { // they come one after another in the year after the epoch
		w := &author{acc: a, i: a.world.customers + i, epoch: a.world.epoch}
		w.r = stream(a.world.seed, "customer", a.ID, w.i)
		w.start = w.epoch + int64(i+1)*365*day/int64(newcomers) + int64(w.r.IntN(day))
		w.newCustomer()
		w.customer.Created = w.start - int64(60+w.r.IntN(hour))
		c := w.subscribe(w.mortal(w.card([]habit{liquid, liquid, payday, moody}[w.r.IntN(4)])))
		c.at(w.customer.Created, func(t int64) {
			a.put("customers", w.customer)
			a.emit(t, "customer.created", w.customer, nil)
		})
	}
	for _, table := range a.tables {
		// a plan may date a row after it was added, so the rows themselves are looked at
		table.messy = true
	}
	a.sortTables()
}

// wallet0 is when the customer first did anything.
func (cu *customer) wallet0(start int64) int64 {
	for _, k := range cu.wallet {
		start = min(start, k.pm.Created)
	}
	return start
}

// ago is a random moment between so many days before the epoch, on the 28th of a month at the
// latest.
func (w *author) ago(least, most int) int64 {
	t := time.Unix(w.epoch-int64(least)*day-int64(w.r.IntN((most-least)*day+1)), 0).UTC()
	if t.Day() > 28 && most > 0 {
		t = t.AddDate(0, 0, -3)
	}
	return t.Unix()
}

func (a *account) makePrices() {
	names := []string{"Basic", "Plus", "Scale"}
	for i, monthly := range a.profile.Monthly {
		for _, every := range []string{"month", "year"} {
			p := a.newPrice(names[i]+" ("+every+"ly)", every, a.profile.Currency, monthly, i)
			if every == "year" {
				p.UnitAmount *= 10
				p.UnitAmountDecimal = fmt.Sprint(p.UnitAmount)
			}
			a.prices = append(a.prices, p)
		}
	}
	// with other decimals than at home
	abroad := map[string]string{"jpy": "usd", "kwd": "jpy", "usd": "jpy"}[a.profile.Currency]
	if abroad == "" {
		abroad = "kwd"
	}
	a.foreign = a.newPrice("Basic abroad (monthly)", "month", abroad, map[string]int64{"jpy": 1480, "kwd": 4500, "usd": 1700}[abroad], len(names))
}

func (a *account) newPrice(name, every, currency string, amount int64, i int) *price {
	p := &price{Active: true, BillingScheme: "per_unit", Currency: currency, Nickname: name, Product: a.id("prod_", 14, i),
		Recurring: recurring{every, 1, "licensed"}, Type: "recurring", UnitAmount: amount, UnitAmountDecimal: fmt.Sprint(amount), Metadata: dict{}}
	p.head = head{ID: a.id("price_1", 23, i, every), Object: "price", Created: a.Created + int64(i)*day}
	return p
}

func (w *author) newCustomer() {
	a, r := w.acc, w.r
	first, last := firstNames[r.IntN(len(firstNames))], lastNames[r.IntN(len(lastNames))]
	cu := &customer{
		Name: text(first + " " + last), Currency: a.profile.Currency, Metadata: dict{},
		Email: text(strings.ToLower(fmt.Sprintf("%s.%s.%d@example.com", first, last, w.i))),
	}
	cu.head = head{ID: a.id("cus_", 14, w.i), Object: "customer"}
	cu.InvoicePrefix = strings.ToUpper(cu.ID[len(cu.ID)-8:])
	if r.IntN(5) > 0 {
		place := a.profile.Places[r.IntN(len(a.profile.Places))]
		cu.Address = address{City: text(place.city), Country: text(a.profile.Country), PostalCode: text(place.postalCode)}
	}
	w.customer = cu
	w.reach()
}

// card gives the customer a payment method, which becomes the default.
func (w *author) card(h habit) *card {
	a, r, cu := w.acc, w.r, w.customer
	n := len(cu.wallet)
	pm := &paymentMethod{Type: "card", Customer: text(cu.ID), Metadata: dict{},
		BillingDetails: billingDetails{Address: cu.Address, Email: cu.Email, Name: cu.Name, Phone: cu.Phone}}
	pm.head = head{ID: a.id("pm_1", 23, cu.ID, n), Object: "payment_method", Created: w.start - 30}
	fingerprint := a.id("", 16, "fingerprint", cu.ID, n)
	last4 := fmt.Sprintf("%04d", r.IntN(10000))
	if h == bankDebit {
		pm.Type, pm.SepaDebit = "sepa_debit", &sepaDetails{"37040044", "DE", fingerprint, last4}
	} else {
		expiry := time.Unix(a.world.epoch, 0).UTC().AddDate(0, 2+r.IntN(40), 0)
		pm.Card = &cardDetails{
			Brand: []string{"visa", "visa", "visa", "mastercard", "mastercard", "amex"}[r.IntN(6)], Country: a.profile.Country,
			ExpMonth: int(expiry.Month()), ExpYear: expiry.Year(), Fingerprint: fingerprint, Last4: last4,
			Funding: []string{"credit", "debit", "debit", "prepaid"}[r.IntN(4)],
		}
	}
	k := &card{pm: pm, habit: h}
	cu.wallet = append(cu.wallet, k)
	cu.InvoiceSettings.DefaultPaymentMethod = text(pm.ID)
	a.put("payment_methods", pm)
	return k
}

// mortal lets every other card die in the year after the epoch, so that new ghosts keep appearing.
func (w *author) mortal(k *card) *card {
	if w.r.IntN(2) > 0 {
		return k
	}
	return w.dead(k, max(w.epoch, w.start)+int64(1+w.r.IntN(365*day)), hard[w.r.IntN(len(hard))])
}

// dead lets a card end at a time and in a way.
func (w *author) dead(k *card, at int64, end decline) *card {
	k.dies, k.end = at, end
	if end.reason == "expired_card" && k.pm.Card != nil && at > 1 {
		gone := time.Unix(at, 0).UTC()
		k.pm.Card.ExpMonth, k.pm.Card.ExpYear = int(gone.AddDate(0, -1, 0).Month()), gone.AddDate(0, -1, 0).Year()
	}
	return k
}

// subscribe plans a subscription from w.start on. One in eight is yearly.
func (w *author) subscribe(k *card) *contract {
	a, r, cu := w.acc, w.r, w.customer
	p := a.prices[2*r.IntN(len(a.prices)/2)]
	if r.IntN(8) == 0 && w.start < w.epoch-400*day {
		p = a.prices[1]
	}
	c := a.newContract(cu, p, k, w.start)
	if k != nil && r.IntN(2) == 0 {
		c.sub.DefaultPaymentMethod = text(k.pm.ID)
	}
	c.sub.Created = 0 // not yet
	c.at(w.start, c.start)
	return c
}

// renewal is the n-th last renewal before the epoch.
func (w *author) renewal(c *contract, n int) int64 {
	last := 0
	for c.periodStart(last+1) < w.epoch {
		last++
	}
	return c.periodStart(max(last-n+1, 0))
}

// debtor plans a card that is dead from the lag-th last renewal on.
func (w *author) debtor(lag int, after ending) *contract {
	c := w.subscribe(w.card(liquid))
	if w.renewal(c, lag) == w.start { // a yearly one is too young to have failed before
		w.monthly(c)
	}
	c.after = after
	end := hard[(w.i+w.r.IntN(3))%len(hard)]
	if w.r.IntN(3) == 0 {
		end = insufficientFunds
	}
	w.dead(c.card, w.renewal(c, lag)-day, end)
	return c
}

// hidden plans a debt from an old card while a new one has paid since.
func (w *author) hidden(after ending) *contract {
	c := w.debtor(3, after)
	old, fresh := c.card, w.card(liquid)
	fresh.pm.Created = w.renewal(c, 2) - 3*day
	w.customer.InvoiceSettings.DefaultPaymentMethod = text(old.pm.ID)
	c.at(fresh.pm.Created, func(int64) { c.switchCard(fresh) })
	return c
}

func (w *author) monthly(c *contract) { c.setPrice(w.acc.prices[0]) }

func (w *author) yearly(c *contract) { c.setPrice(w.acc.prices[1]) }

func (c *contract) setPrice(p *price) {
	c.price, c.sub.Items.Data[0].Price, c.sub.Currency = p, p, p.Currency
}

// partly plans two debts, of the older of which a third comes in. dispute is the status of a
// dispute about that part; "" is none.
func (w *author) partly(dispute string) *contract {
	c := w.debtor(2, keepPastDue)
	w.dead(c.card, c.card.dies, insufficientFunds)
	c.at(w.renewal(c, 2)+3*day, func(t int64) {
		for _, inv := range c.open {
			if inv.Status != "open" {
				continue
			}
			if ch := c.payPart(inv, inv.AmountRemaining/3, t); dispute != "" {
				c.acc.dispute(ch, t, dispute)
			}
			return
		}
	})
	return c
}

// replaceIntents gives the oldest open invoice another payment intent.
func (c *contract) replaceIntents(t int64) {
	for _, inv := range c.open {
		if inv.Status == "open" && c.acc.pending(inv) == nil {
			inv.replaceIntent(t)
			return
		}
	}
}

// upgrade plans a customer who takes a larger plan with a card that no longer pays and asks for it
// three times within some hours. Each time the period begins anew and another invoice over two
// lines fails; the last time another card may pay.
func (w *author) upgrade(paid bool) {
	a := w.acc
	w.start = w.monthsAgo(5, 20)
	k := w.card(liquid)
	c := w.subscribe(k)
	w.monthly(c)
	first := w.epoch - 9*day
	if time.Unix(first, 0).UTC().Day() > 27 { // so that all three lie on the 28th at the latest
		first -= 4 * day
	}
	w.dead(k, first-hour, doNotHonor)
	for n := range 3 {
		c.at(first+int64(n)*5*hour, func(t int64) {
			c.setPrice(a.prices[2])
			c.sub.BillingCycleAnchor, c.period = t, 0
			c.nextPeriod()
			inv := c.newInvoice(t, "subscription_update")
			inv.AutoAdvance = false // the merchant's shop asks again itself
			seats := *inv.Lines.Data[0]
			seats.ID, seats.Type, seats.Proration = a.id("il_1", 23, inv.ID, 1), "invoiceitem", true
			seats.Price, seats.Quantity, seats.Amount = a.prices[0], 2, 2*a.prices[0].UnitAmount
			seats.Description = "Remaining time on 2 × " + seats.Price.Nickname
			inv.Lines.Data = []*line{&seats, inv.Lines.Data[0]}
			inv.setAmount(seats.Amount + c.price.UnitAmount)
			if paid && n == 2 {
				w.start = t + 30
				c.switchCard(w.card(liquid))
				inv.welcome = true
			}
			c.finalize(inv, t)
		})
	}
}

func (w *author) paused(behavior string) {
	c := w.subscribe(w.card(liquid))
	c.at(w.renewal(c, 2)-day, func(t int64) {
		c.sub.PauseCollection = &pauseCollection{Behavior: behavior}
		c.acc.emit(t, "customer.subscription.updated", c.sub, map[string]any{"pause_collection": nil})
	})
}

// byInvoice plans a customer who is sent invoices and pays them after so many days; 0 stops paying
// two renewals ago.
func (w *author) byInvoice(late int) *contract {
	c := w.subscribe(w.card(liquid))
	c.sub.CollectionMethod, c.sub.DaysUntilDue, c.late = "send_invoice", 14, late
	if late == 0 {
		c.late = 6
		c.at(w.renewal(c, 2)-day, func(int64) { c.late = 0 })
	}
	return c
}

func (c *contract) lastPaid() *charge {
	rows := c.acc.tables["charges"].rows
	for i := len(rows) - 1; i >= 0; i-- {
		if ch := rows[i].(*charge); ch.Customer == c.cust.ID && ch.Paid && !ch.Disputed {
			return ch
		}
	}
	return nil
}

func (c *contract) dispute(t int64, status string) *dispute {
	ch := c.lastPaid()
	if ch == nil {
		return nil
	}
	return c.acc.dispute(ch, t, status)
}

func (a *account) dispute(ch *charge, t int64, status string) *dispute {
	return a.disputePart(ch, ch.Amount, t, status)
}

func (a *account) disputePart(ch *charge, amount, t int64, status string) *dispute {
	d := &dispute{Amount: amount, Charge: ch.ID, Currency: ch.Currency, Metadata: dict{},
		PaymentIntent: ch.PaymentIntent, Reason: "fraudulent", Status: status}
	d.head = head{ID: a.id("dp_1", 23, ch.ID), Object: "dispute", Created: t}
	ch.Disputed, ch.Dispute = true, text(d.ID)
	a.put("disputes", d)
	a.emit(t, "charge.dispute.created", d, nil)
	return d
}
