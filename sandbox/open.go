package sandbox

// lost are the declines that the losers of Config.OpenInvoices meet, one class after another. Twice
// in ten it is a soft one.
var lost = []decline{
	insufficientFunds,
	expiredCard,
	{"never", "", "lost_card", "do_not_try_again", "41", "03"},
	doNotHonor,
	{"hours", "processing_error", "processing_error", "try_again_later", "96", "24"},
	highestRisk,
	{"timed", "", "card_velocity_exceeded", "try_again_later", "65", "25"},
	authRequired,
	{"never", "", "stolen_card", "do_not_try_again", "43", "03"},
	{"low", "", "generic_decline", "try_again_later", "05", "28"},
	{"hours", "", "issuer_not_available", "try_again_later", "91", "24"},
	unknownDecline,
}

// shortOfFunds is [insufficientFunds] of a network that does not say when to come back: these
// invoices can be tried now.
var shortOfFunds = func() decline { d := insufficientFunds; d.masterc = ""; return d }()

// populateOpen plans the world of Config.OpenInvoices: customers who have paid once, whose first
// renewal failed for want of funds four to 25 days ago, and whose merchant has taken the invoice
// out of the retry calendar since. When tried again, every other one pays and the rest are
// declined, in all the ways of lost.
func (a *account) populateOpen() {
	for i := range a.world.open {
		w := &author{acc: a, i: i, epoch: a.world.epoch, r: stream(a.world.seed, "open", a.ID, i)}
		w.start = w.ago(35, 50)
		w.newCustomer()
		k := w.card(liquid)
		c := w.subscribe(k)
		failed := c.periodStart(1)
		w.dead(k, failed-day, shortOfFunds)
		c.at(failed+2*hour, func(t int64) { // an hour after the attempt
			for _, inv := range c.open {
				inv.setAutoAdvance(false, t)
				inv.welcome = i%2 == 0
			}
			k.end = lost[i/2%len(lost)]
			if i%2 == 0 {
				k.dies = 0
			}
		})
		w.customer.Created = w.customer.wallet0(w.start) - int64(60+w.r.IntN(day))
		a.put("customers", w.customer)
	}
	for _, table := range a.tables {
		table.messy = true
	}
	a.sortTables()
}
