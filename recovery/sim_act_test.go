//go:build failpoints

package recovery

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/ghost"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/state"
)

// schedule draws what happens from outside and when.
func (s *sim) schedule() {
	end := time.Duration(s.weather.days) * 24 * time.Hour
	at := func() time.Time { return s.now.Add(time.Duration(s.r.Int64N(int64(end)))) }
	for range s.weather.outside {
		s.plan(at(), "somebody acts at Stripe", s.changeWorld)
	}
	for range s.weather.operators {
		s.plan(at(), "somebody acts here", s.changeOurs)
	}
	s.attend(s.now.Add(end))
	if s.weather.forgets {
		for range 6 {
			s.plan(at(), "Stripe forgets all keys", s.forget)
		}
	}
	if s.weather.crashes > 0 {
		s.plan(at(), "the process is started anew", func() {
			s.killAll()
			s.boot()
		})
	}
	if s.weather.restores {
		span := time.Duration(1+s.r.IntN(600)) * time.Minute
		if s.r.IntN(3) == 0 {
			span = time.Duration(1+s.r.IntN(60)) * time.Hour
		}
		s.plan(at(), "a backup is wanted", func() { s.backup = span })
	}
}

// forget has Stripe forget its keys, but not while a request is under way, when nothing else could
// hold a second one back.
func (s *sim) forget() {
	if s.flying == 0 {
		s.world.ForgetKeys()
		s.count("keys forgotten")
	}
}

// keepBackup keeps what the database is, right before a charge where there is one, and has it put
// back later.
func (s *sim) keepBackup() {
	s.say("* a backup is made")
	s.must(s.database.run(s.ctx, s.database.snapshot))
	s.plan(s.now.Add(s.backup), "the backup is put back", s.restore)
	s.backup = 0
}

// restore puts the database back to what it was, with no worker alive.
func (s *sim) restore() {
	s.killAll()
	s.denied = true // tokens may be newer than the backup
	s.must(s.database.run(s.ctx, s.database.revive))
	s.boot()
	s.count("database put back")
	for key := range s.world.AllExecutions() {
		var known, sent bool
		s.must(s.database.pool.QueryRow(s.ctx,
			`SELECT count(*) > 0, count(sent_at) > 0 FROM attempts WHERE 'task_' || task_id = $1`,
			key).Scan(&known, &sent))
		s.lost[key] = s.lost[key] || !known
		s.unsent[key] = s.unsent[key] || !sent
		delete(s.passed, key)
	}
	s.plan(s.now.Add(time.Hour), "halts of the backup's time are lifted", func() {
		s.must(s.database.run(s.ctx, "DELETE FROM halts"))
	})
	for _, m := range s.merchant {
		stored, err := s.hunts.Playbook(s.ctx, m.id)
		s.must(err)
		m.playbook = stored.Playbook
		if m.playbook.Mode == state.ModeOff {
			// who turned it on again does so once more, when they see it
			s.plan(s.now.Add(12*time.Hour), "a playbook of the backup's time is on again", func() {
				m.playbook.Mode = state.ModeRecover
				_, err := s.hunts.SetPlaybook(s.ctx, m.id, m.playbook)
				s.must(err)
			})
		}
		// Tokens may be newer than the backup.
		if !s.connected(m) {
			s.reconnect(m)
		}
	}
}

// connected says whether what the database has as a merchant's token works at Stripe.
func (s *sim) connected(m *simMerchant) bool {
	reader, err := s.connect.Reader(s.ctx, m.id)
	return err == nil && reader.CheckAccount(s.ctx) == nil
}

func (s *sim) reconnect(m *simMerchant) {
	s.count("reconnected")
	s.say("  %s connects again", m.account)
	s.handshake(m)
}

// changeWorld is what a customer, a bank or the merchant does at Stripe.
func (s *sim) changeWorld() {
	m := s.merchant[s.r.IntN(len(s.merchant))]
	c := sandbox.Change{Account: m.account}
	if len(m.invoices) > 0 {
		c.ID = m.invoices[s.r.IntN(len(m.invoices))]
	}
	switch s.r.IntN(16) {
	case 0:
		c.Do = "pay"
	case 1:
		c.Do = "pay_out_of_band"
	case 2:
		c.Do = "void"
	case 3, 4, 5:
		c.Do = "mark_uncollectible"
	case 6:
		c.Do = "to_debit"
		m.debits[c.ID] = true
		if s.r.IntN(2) == 0 {
			c.Status = "bounces"
		}
	case 7:
		c.Do, c.ID = "dispute", ""
	case 8:
		c.Do, c.ID = "close_dispute", ""
		c.Status = []string{"won", "lost"}[s.r.IntN(2)]
	case 9:
		s.count("Stripe: auto_advance on")
		s.turnedOn[c.ID] = len(s.world.Ledger(m.account))
		s.say("  auto_advance on %s: %t", c.ID, s.post(m, "/v1/invoices/"+c.ID,
			url.Values{"auto_advance": {"true"}}))
		return
	case 10:
		if !s.weather.refusals {
			return
		}
		s.leave(m, s.r)
		return
	default: // what passes, and other payment methods
		do := []string{"new_card", "new_card", "detach_card", "attach_card", "pause_collection", "resume_collection",
			"require_action", "action_gone"}
		c.Do = do[s.r.IntN(len(do))]
		if !strings.Contains(c.Do, "action") && len(m.subscriptions) > 0 {
			c.ID = m.subscriptions[s.r.IntN(len(m.subscriptions))]
		}
		if strings.HasSuffix(c.Do, "card") {
			m.renewed = s.now
		}
		if c.Do == "new_card" && s.r.IntN(2) == 0 {
			c.Status = "declines"
		}
	}
	id, err := s.world.Change(c)
	if err == nil {
		s.count("Stripe: " + c.Do)
	}
	s.say("  %s %s: %s, %v", c.Do, c.ID, id, err)
}

// leave has a merchant deauthorize the application and come back later. Meanwhile somebody may
// cancel what is set aside.
func (s *sim) leave(m *simMerchant, dice *rand.Rand) {
	if !s.changed(sandbox.Change{Account: m.account, Do: "deauthorize"}) {
		return
	}
	s.count("Stripe: deauthorize")
	s.say("  %s leaves", m.account)
	s.denied = true
	at, away := s.now, 10+dice.IntN(1000)
	s.plan(at.Add(time.Duration(away)*time.Minute), "a merchant comes back", func() {
		if !s.connected(m) {
			s.reconnect(m)
		}
	})
	if dice.IntN(2) == 0 {
		s.plan(at.Add(time.Duration(1+dice.IntN(away))*time.Minute), "somebody cancels what is set aside",
			func() { s.cancelOne("parked") })
	}
	if dice.IntN(3) > 0 {
		s.plan(at.Add(time.Duration(dice.IntN(60))*time.Second), "the deauthorization is heard of",
			func() {
				_, err := s.ghosts.Receive(s.ctx, ghost.Event{
					ID: fmt.Sprintf("evt_deauthorized%d", at.Unix()), Type: "account.application.deauthorized",
					Account: m.account, ObjectID: "ca_1", Created: at.Truncate(time.Second),
				})
				s.must(err)
			})
	}
}

// turnBetween has the invoice of a charge change behind a read whose answer then takes its time.
func (s *sim) turnBetween(w *simWorker, dice *rand.Rand) {
	c := sandbox.Change{Account: w.merchant.account, ID: w.object, Do: []string{"mark_uncollectible",
		"mark_uncollectible", "void", "pay_out_of_band"}[dice.IntN(4)]}
	done := s.changed(c)
	s.say("  between two reads: %s %s: %t", c.Do, c.ID, done)
	if done {
		s.count("Stripe: " + c.Do + " between two reads")
		s.pause(w, time.Duration(dice.IntN(9500))*time.Millisecond)
	}
}

// changeOurs is what an operator or a merchant does here.
func (s *sim) changeOurs() {
	m := s.merchant[s.r.IntN(len(s.merchant))]
	later := s.now.Add(time.Duration(5+s.r.IntN(1500)) * time.Minute)
	set := func(name string, change func(*playbook.Playbook)) {
		s.count(name)
		s.say("  %s", name)
		change(&m.playbook)
		_, err := s.hunts.SetPlaybook(s.ctx, m.id, m.playbook)
		s.must(err)
	}
	switch s.r.IntN(8) {
	case 7:
		started, err := s.hunts.Start(s.ctx, m.id, m.ghosts)
		if !errors.Is(err, ErrOff) {
			s.must(err)
		}
		s.count("hunts begun once more")
		s.say("  %d hunts begin", started.Hunts)
	case 0, 1:
		s.count("halt")
		s.say("  halt")
		halt := "INSERT INTO halts (scope) VALUES ($1) ON CONFLICT DO NOTHING"
		_, err := s.database.pool.Exec(s.ctx, halt, m.id)
		s.must(err)
		s.plan(s.now.Add(time.Duration(1+s.r.IntN(90))*time.Minute), "the halt is lifted", func() {
			_, err := s.database.pool.Exec(s.ctx, "DELETE FROM halts WHERE scope = $1", m.id)
			s.must(err)
		})
	case 2:
		set("playbook off", func(p *playbook.Playbook) { p.Mode = state.ModeOff })
		s.plan(later, "the playbook is on again", func() {
			set("playbook on",
				func(p *playbook.Playbook) { p.Mode = state.ModeRecover })
		})
	case 3:
		set("daily cap lowered", func(p *playbook.Playbook) {
			p.DailyCap = map[string]int64{"eur": 1000 + s.r.Int64N(5000), "jpy": 1000 + s.r.Int64N(5000)}
		})
	case 4:
		var id *string
		s.must(s.database.pool.QueryRow(s.ctx,
			`SELECT min(h.id::text) FROM hunts h JOIN ghost_targets g ON g.merchant_id = h.merchant_id AND
			g.id = h.ghost_id
			WHERE h.state = 'active' AND g.stripe_invoice_id = $1`,
			m.invoices[s.r.IntN(len(m.invoices))]).Scan(&id))
		if id != nil {
			s.count("hunt stopped")
			s.say("  a hunt is stopped")
			s.must(s.hunts.Stop(s.ctx, m.id, parsedID(*id)))
		}
	default:
		s.cancelOne("pending", "parked", "needs_review")
	}
}

func (s *sim) cancelOne(statuses ...string) {
	tasks := slices.DeleteFunc(s.tasks(statuses...),
		func(t simTask) bool { return !Mutates(t.kind) })
	if len(tasks) > 0 {
		s.cancel(tasks[s.r.IntN(len(tasks))])
	}
}

// cancel is `phantom tasks cancel`.
func (s *sim) cancel(t simTask) (done bool) {
	s.must(pgx.BeginFunc(s.ctx, s.database.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		changed, err := queries.TaskCancel(s.ctx, db.TaskCancelParams{MerchantID: t.merchant, ID: t.id})
		if done = changed == 1; err != nil || !done {
			return err
		}
		params, err := queries.TaskGetParams(s.ctx, db.TaskGetParamsParams{MerchantID: t.merchant,
			ID: t.id})
		if err != nil {
			return err
		}
		plan, named := planAgain(t.merchant, params)
		if named {
			_, err = queries.TaskEnqueue(s.ctx, plan)
		}
		return err
	}))
	if done {
		s.count("task canceled by a person")
	}
	if done && t.sent != nil && t.status != "needs_review" {
		s.breach("I4 given up", "%s was %s and may be out, and could be canceled", t, t.status)
	}
	s.say("  cancel %s: %t", t, done)
	return done
}

// listen hears what has happened at Stripe since, and plans when PHANTOM does, if ever.
func (s *sim) listen() {
	for _, m := range s.merchant {
		var page struct {
			Data []struct {
				ID, Type string
				Created  int64
				Data     struct {
					Object struct {
						ID, Customer                  string
						Subscription, Invoice, Charge any
					}
					Previous struct{ Customer string } `json:"previous_attributes"`
				}
			}
		}
		if !s.ask(m, "/v1/events", url.Values{"limit": {"100"},
			"created[gte]": {strconv.FormatInt(m.polled.Unix()-1, 10)}, "types[]": simHeard}, &page) {
			continue
		}
		m.polled = s.now
		heard := map[string]bool{}
		for _, e := range slices.Backward(page.Data) {
			if m.seen[e.ID] {
				continue
			}
			m.seen[e.ID] = true
			dice := s.dice(e.ID)
			o := e.Data.Object
			if o.Customer != "" && !m.hunted[o.Customer] && dice.IntN(10) > 0 {
				continue // there is enough to do with those who are hunted
			}
			about := fmt.Sprint(o.Subscription, o.ID, o.Charge)
			if !strings.HasPrefix(e.Type, "customer") {
				about = fmt.Sprint(o.Subscription, o.Charge)
			}
			if heard[about] && dice.IntN(4) > 0 || !s.draining && dice.Float64() < s.weather.lostHooks {
				continue
			}
			heard[about] = true
			delay := time.Duration(50+dice.IntN(3000)) * time.Millisecond
			if dice.IntN(8) == 0 {
				delay = time.Duration(dice.IntN(7200)) * time.Second
			}
			text := func(v any) string { t, _ := v.(string); return t }
			event := ghost.Event{
				ID: e.ID, Type: e.Type, Account: m.account, Created: time.Unix(e.Created, 0), ObjectID: o.ID,
				Subscription: text(o.Subscription), Invoice: text(o.Invoice), Charge: text(o.Charge),
				Customer: cmp.Or(o.Customer, e.Data.Previous.Customer),
			}
			s.plan(s.now.Add(delay), "webhook "+e.Type, func() {
				s.count("webhook")
				_, err := s.ghosts.Receive(s.ctx, event)
				s.must(err)
			})
		}
	}
}

var simHeard = []string{
	"invoice.payment_failed", "invoice.paid", "invoice.voided", "invoice.marked_uncollectible",
	"invoice.updated", "charge.dispute.created",
	"charge.dispute.closed", "customer.subscription.updated", "customer.subscription.deleted",
	"customer.updated", "payment_method.attached", "payment_method.detached",
	"invoice.payment_action_required",
}
