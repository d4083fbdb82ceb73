package report

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// hunts stores so many hunts of one arm, begun so long ago, of which some recovered amount each by
// cause.
func (b *bench) hunts(mode, currency, class string, heldOut bool, all, paid int, amount int64, cause string, age time.Duration) {
	b.t.Helper()
	b.Exec(`INSERT INTO playbooks (merchant_id, version, body) VALUES ($1, 1, '{"mode":"recover","window_days":30,"holdout_percent":10}')
		ON CONFLICT DO NOTHING`, b.merchant)
	for i := range all {
		id, hash, state := newID(b.t), sha256.Sum256(fmt.Append(nil, currency, class, cause, heldOut, i)), "active"
		b.Exec(`INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, amount, currency, decline_class,
			rule, status, closed_reason, closed_at) VALUES ($1, $2, $3, 'sub_1', 'in_1', $4, $5, $6, 'a rule', CASE WHEN $7 THEN 'closed' ELSE 'open' END,
			CASE WHEN $7 THEN 'paid' END, CASE WHEN $7 THEN phantom_now() END)`, b.merchant, id, "cus_"+id.String(), amount, currency, class, i < paid)
		if i < paid {
			state = "recovered"
		}
		b.Exec(`INSERT INTO hunts (merchant_id, id, ghost_id, customer, playbook_version, mode, held_out, state, ended_reason, livemode, decline_class, currency,
			amount, invoices, began_at, ended_at, paid_at) SELECT $1, $2, $2, $3, 1, $4, $5, $6, CASE WHEN $6 <> 'active' THEN 'x' END, livemode, $7, $8, $9, '{}',
			phantom_now() - $10::interval, CASE WHEN $6 <> 'active' THEN phantom_now() - $10::interval END,
			CASE WHEN $6 = 'recovered' THEN phantom_now() - $10::interval END FROM merchants WHERE id = $1`,
			b.merchant, id, hash[:], mode, heldOut, state, class, currency, amount, age)
		if i < paid {
			b.Exec(`INSERT INTO recoveries (merchant_id, invoice, hunt_id, currency, amount, cause, recovered_at)
				VALUES ($1, $2, $3, $4, $5, $6, phantom_now())`, b.merchant, hash[:], id, currency, amount, cause)
		}
	}
}

// spent stores what one hunt has sent.
func (b *bench) spent(charges, emails, sms int) {
	b.t.Helper()
	for i := range charges {
		hash := sha256.Sum256(fmt.Append(nil, i))
		b.Exec(`INSERT INTO attempts (merchant_id, object, action, number, task_id, hunt_id, customer, currency, amount, reason, probability, planned_for, sent_at, result)
			SELECT merchant_id, $2, 'invoice_pay', 1, $3, id, $2, 'usd', 1, 'x', 1, phantom_now(), phantom_now(), 'declined' FROM hunts WHERE merchant_id = $1 LIMIT 1`,
			b.merchant, hash[:], newID(b.t))
	}
	for i := range emails + sms {
		channel := "email"
		if i >= emails {
			channel = "sms"
		}
		b.Exec(`INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, state, planned_for, sent_at)
			SELECT merchant_id, $2, id, $3, $4, 'x', 'sent', phantom_now(), phantom_now() FROM hunts WHERE merchant_id = $1 LIMIT 1`, b.merchant, newID(b.t), i, channel)
	}
}

const month = 31 * 24 * time.Hour

// plain is the page's text without its elements.
func plain(t *testing.T, page string) string {
	t.Helper()
	var out strings.Builder
	for tokens := html.NewTokenizer(strings.NewReader(page)); tokens.Next() != html.ErrorToken; {
		if token := tokens.Token(); token.Type == html.TextToken {
			out.WriteString(token.Data)
		}
	}
	return out.String()
}

// The figures of hunts are told in words, currency by currency.
func TestWhatWasBroughtBack(t *testing.T) {
	t.Parallel()
	b := setup(t, true)
	b.hunts("recover", "usd", "timed", false, 90, 60, 10_000, "charge", month)
	b.hunts("recover", "usd", "low", false, 60, 25, 2_000, "email", month)
	b.hunts("recover", "jpy", "customer", false, 30, 10, 3_000, "sms", month)
	b.hunts("recover", "usd", "low", true, 40, 10, 5_000, "anyway", month)
	b.hunts("recover", "jpy", "low", false, 7, 2, 1_000, "anyway", time.Hour)
	b.hunts("observe", "eur", "low", false, 9, 4, 100, "anyway", month)
	b.spent(12, 2, 1)
	page := b.html()
	wantText(t, page, "What was brought back", `id="chart-recovered-usd-title"`, `id="chart-recovered-jpy-title"`, `id="chart-uplift-title"`)
	wantText(t, plain(t, page), "Of 227 hunts, 120 still go on and 107 ended with all paid.", "At risk, hunt goes on: USD 5,200.00; Recovered after our action: USD 6,500.00; Recovered anyway: USD 500.00.",
		"At risk, hunt goes on: JPY 65,000; Recovered after our action: JPY 30,000; Recovered anyway: JPY 2,000.", "It took 12 charges, 2 emails and 1 SMS.",
		"USDUSD 5,200.00USD 6,000.00USD 500.00USD 0.00USD 500.0095", "Hunts bring back more than would have come anyway.",
		"Of 180 treated customers, 52.8 % paid all in time; of 40 customers left alone, 25.0 % did. The difference is +27.8 percentage points", "goes from +10.9 to +40.7",
		"7 customers whose time is not over are not counted yet.", "9 hunts only watch and send nothing; no figure above counts them. EUR 5.00 of theirs is at risk, and EUR 4.00 was paid without us.")
	for _, wrong := range []string{"NaN", "Inf", "Not enough data", "chart-recovered-eur"} {
		if strings.Contains(page, wrong) {
			t.Errorf("the page holds %q", wrong)
		}
	}
}

// Nothing is said of hunts where there are none, and nothing of a difference that cannot be seen.
func TestWithoutEnoughHunts(t *testing.T) {
	t.Parallel()
	b := setup(t, true)
	absent := func(texts ...string) {
		t.Helper()
		page := b.html()
		for _, text := range texts {
			if strings.Contains(page, text) {
				t.Errorf("the page holds %q", text)
			}
		}
	}
	absent("brought back", "What hunts add", "hunt")
	b.hunts("observe", "usd", "low", false, 1, 0, 100, "anyway", month)
	wantText(t, b.html(), "What was brought back", "1 hunt only watches and sends nothing. USD 1.00 of theirs is at risk")
	absent("What hunts add", "It took", "chart-recovered")
	b.hunts("recover", "usd", "timed", false, 100, 50, 100, "charge", month)
	wantText(t, b.html(), "No customer is left alone")
	b.hunts("recover", "usd", "timed", true, 19, 5, 100, "anyway", month)
	wantText(t, plain(t, b.html()), "Not enough data yet.", "The time of 100 treated customers and of 19 customers left alone is over, that of 0 is not.")
	absent("chart-uplift", "No customer is left alone")
	b.hunts("recover", "eur", "timed", true, 19, 13, 100, "anyway", month)
	wantText(t, b.html(), "No difference is shown", "chart-uplift")
	b.hunts("recover", "eur", "low", true, 100, 100, 100, "anyway", month)
	wantText(t, b.html(), "Fewer customers pay with hunts than without", "−")
}

// A merchant whose playbook only observes reads what hunts would begin for by themselves; one who
// chooses by hand, or whose hunts run, does not.
func TestWhatHuntsWouldTakeUp(t *testing.T) {
	t.Parallel()
	b := setup(t, false)
	const words = "hunts would begin by themselves for 2 ghosts, who owe USD 50.00"
	b.add("cus_1", "sub_1", "a@example.com", "usd", "low", "", "a rule", 2000, false, month)
	b.add("cus_2", "sub_2", "b@example.com", "usd", "low", "", "a rule", 3000, false, month)
	b.add("cus_3", "sub_3", "c@example.com", "usd", "low", "", "a rule", 4000, false, month)
	b.Exec("UPDATE ghost_targets SET ignored = true WHERE stripe_customer_id = 'cus_3'")
	for version, body := range []string{"", `{"auto":false}`, `{"mode":"recover"}`, `{"mode":"off"}`, `{"mode":"observe"}`} {
		if body != "" {
			b.Exec("INSERT INTO playbooks (merchant_id, version, body) VALUES ($1, $2, $3)", b.merchant, version, body)
		}
		if got, want := strings.Contains(plain(t, b.html()), words), body == "" || body == `{"mode":"observe"}`; got != want {
			t.Errorf("under %q it is told: %v", body, got)
		}
	}
}
