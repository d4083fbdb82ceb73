package report

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"phantom/money"
	"phantom/sandbox"
)

const failedRule = "A payment for this subscription failed, the invoice is still open, and the subscription goes on."

// After a real audit every figure is the database's, to the cent, and no currency is added to
// another.
func TestFiguresAreTheDatabases(t *testing.T) {
	t.Parallel()
	b := audited(t, sandbox.Config{Seed: 3, Charges: 4000})
	r, page := b.load(), b.html()
	rows, err := b.pool.Query(t.Context(), `SELECT g.currency, sum(g.amount)::bigint, coalesce(sum(g.amount) FILTER (WHERE g.hidden), 0)::bigint, count(*),
		count(DISTINCT g.stripe_customer_id), coalesce((a.totals -> 'currencies' -> g.currency ->> 'at_risk')::bigint, 0)
		FROM ghost_targets g JOIN audits a USING (merchant_id) WHERE g.status = 'open' AND g.kind = 'owed' GROUP BY g.currency, a.totals ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for rows.Next() {
		var want Currency
		if err := rows.Scan(&want.Code, &want.Owed, &want.HiddenOwed, &want.Ghosts, &want.Customers, &want.AtRisk); err != nil {
			t.Fatal(err)
		}
		seen++
		found := false
		for _, got := range r.Currencies {
			if got.Code == want.Code {
				found = true
				got.HiddenCustomers = 0
				if got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
			}
		}
		if !found {
			t.Errorf("%s is missing", want.Code)
		}
		wantText(t, page, fmt.Sprintf("<strong>%s</strong> is owed by %s", money.Format(want.Owed, want.Code), many(want.Customers, "customer")),
			money.Format(want.HiddenOwed, want.Code), money.Format(want.AtRisk, want.Code))
	}
	if rows.Err() != nil || seen < 2 {
		t.Errorf("%d currencies, %v: fewer than two prove nothing", seen, rows.Err())
	}
	for name, groups := range map[string][]Group{"ages": r.Ages, "classes": r.Classes} {
		owed, ghosts := make(map[string]int64), int64(0)
		for _, g := range groups {
			ghosts += g.Ghosts
			for _, sum := range g.Owed {
				owed[sum.Currency] += sum.Amount
			}
		}
		for _, c := range r.Currencies {
			if owed[c.Code] != c.Owed {
				t.Errorf("%s add up to %d %s, want %d", name, owed[c.Code], c.Code, c.Owed)
			}
		}
		if ghosts != r.Ghosts {
			t.Errorf("%s hold %d ghosts, want %d", name, ghosts, r.Ghosts)
		}
	}
	var objects, wasted, customers, days int64
	b.row("SELECT objects, (totals ->> 'wasted_attempts')::bigint, (totals ->> 'days_given_away')::bigint FROM audits", &objects, &wasted, &days)
	b.row("SELECT count(DISTINCT stripe_customer_id) FROM ghost_targets WHERE status = 'open' AND kind = 'owed'", &customers)
	if r.Audit == nil || r.Audit.Objects != objects || r.Audit.Wasted != wasted || r.Customers != customers || r.Days < days || r.Days > days+r.Ghosts {
		t.Errorf("got %+v, %d customers, %d days; want %d objects, %d wasted, %d customers, %d days", r.Audit, r.Customers, r.Days, objects, wasted, customers, days)
	}
	for _, apart := range []struct{ kind, words string }{{"written_off", "written off"}, {"charged_back", "charged back"}} {
		var ghosts, owed int64
		var currency string
		b.row("SELECT currency, count(*), sum(amount)::bigint FROM ghost_targets WHERE status = 'open' AND kind = '"+apart.kind+
			"' GROUP BY currency ORDER BY currency LIMIT 1", &currency, &ghosts, &owed)
		wantText(t, page, fmt.Sprintf("%s %s", many(ghosts, "debt"), apart.words), money.Format(owed, currency))
	}
	wantText(t, page, "TEST MODE", b.account, money.Count(objects)+" objects read")
	if len(r.Largest) != largest || !strings.Contains(r.Largest[0].Email, "@") {
		t.Errorf("%d largest ghosts, the first %+v", len(r.Largest), r.Largest)
	}
}

func TestEachCurrencyIsWrittenItsOwnWay(t *testing.T) {
	t.Parallel()
	b := setup(t, true)
	b.add("cus_1", "sub_1", "a@example.com", "usd", "timed", "insufficient_funds", failedRule, 1234567, false, 40*24*time.Hour)
	b.add("cus_2", "sub_2", "b@example.com", "usd", "never", "stolen_card", failedRule, 5, true, 400*24*time.Hour)
	b.add("cus_2", "sub_3", "b@example.com", "usd", "never", "27", failedRule, 95, false, time.Hour)
	b.add("cus_1", "sub_1", "a@example.com", "jpy", "soon", "", failedRule, 54321, false, 20*24*time.Hour)
	b.add("cus_3", "sub_4", "c@example.com", "kwd", "low", "do_not_honor", failedRule, 1500, false, 100*24*time.Hour)
	b.finish("succeeded", `{"currencies":{"usd":{"owed":1,"at_risk":250},"eur":{"at_risk":99}},"wasted_attempts":1234,"fees_risked":{"usd":1830}}`, nil)
	r, page := b.load(), b.html()
	wantText(t, page, "<strong>USD 12,346.67</strong> is owed by 2 customers who still have access",
		"<strong>JPY 54,321</strong> is owed by 1 customer who still has access", "<strong>KWD 1.500</strong> is owed by 1 customer who still has access",
		"USD 2.50", "EUR 0.99", "1,234 attempts", "USD 18.30", "12,345 objects", "560 days", "400 days of them belong", "code 27", "Mode</dt><dd>Live")
	if strings.Contains(page, "TEST MODE") || strings.Contains(page, "No audit has finished") {
		t.Error("a live account that was audited has a banner")
	}
	if r.Customers != 3 || r.Ghosts != 5 || r.Hidden != 1 {
		t.Errorf("%d customers, %d ghosts, %d hidden; want 3, 5, 1", r.Customers, r.Ghosts, r.Hidden)
	}
	for i, want := range []int64{1, 1, 1, 1, 1} {
		if r.Ages[i].Ghosts != want {
			t.Errorf("%s: %d ghosts, want %d", r.Ages[i].Name, r.Ages[i].Ghosts, want)
		}
	}
	if strings.Contains(page, "<strong>EUR") { // at risk only
		t.Error("a currency in which nothing is owed has a headline")
	}
}

// The largest are dealt out to the currencies: a yen is no dollar.
func TestTheLargestOfEachCurrency(t *testing.T) {
	t.Parallel()
	b := setup(t, true)
	for i := range 30 {
		b.add(fmt.Sprintf("cus_%d", i), "sub_1", "a@example.com", "jpy", "low", "", failedRule, int64(1_000_000+i), false, time.Hour)
		if i < 5 {
			b.add(fmt.Sprintf("cus_u%d", i), "sub_1", "a@example.com", "usd", "low", "", failedRule, int64(100+i), false, time.Hour)
		}
	}
	var got []string
	for _, g := range b.load().Largest {
		got = append(got, g.Customer)
	}
	want := "cus_29 cus_28 cus_27 cus_26 cus_25 cus_24 cus_23 cus_22 cus_21 cus_20 cus_19 cus_18 cus_17 cus_16 cus_15 cus_u4 cus_u3 cus_u2 cus_u1 cus_u0"
	if strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestWithoutGhosts(t *testing.T) {
	t.Parallel()
	b := setup(t, false)
	wantText(t, b.html(), "No audit has finished yet", "phantom audit --merchant "+account, "Nothing is known yet", "TEST MODE")
	// found by a webhook, before any audit ended
	b.add("cus_1", "sub_1", "a@example.com", "usd", "low", "", failedRule, 100, false, time.Hour)
	wantText(t, b.html(), "No audit has finished yet", "Not known", "USD 1.00</strong> is owed by 1 customer who still has access")
	b.Exec("DELETE FROM ghost_targets")
	b.finish("succeeded", `{"currencies":{},"wasted_attempts":0,"fees_risked":{},"days_given_away":0}`, nil)
	page := b.html()
	wantText(t, page, "Nothing is owed", "12,345 objects", "0 attempts", "0 days")
	if strings.Contains(page, "<svg") || strings.Contains(page, "No audit has finished") {
		t.Error("a page without ghosts has charts, or says that no audit has finished")
	}
}

// The page says what its figures lack.
func TestAuditsThatAreNotWhole(t *testing.T) {
	t.Parallel()
	failure := "3 of 9 windows could not be read"
	b := setup(t, true)
	b.finish("failed", "{}", &failure)
	wantText(t, b.html(), "No audit has finished yet", "failed: "+failure)
	b.finish("failed", `{"currencies":{"usd":{"at_risk":77}}}`, &failure)
	wantText(t, b.html(), "A part of the history is missing", failure, "USD 0.77")
	b.finish("succeeded", `{"currencies":{"usd":{"at_risk":88}}}`, nil)
	page := b.html()
	wantText(t, page, "USD 0.88")
	if strings.Contains(page, failure) {
		t.Error("an older audit's failure is still told")
	}
	b.Exec(`INSERT INTO audits (merchant_id, id, ticket, livemode) VALUES ($1, $2, 9, true)`, b.merchant, newID(t))
	wantText(t, b.html(), "still running", "USD 0.88")
	b.Exec(`UPDATE audits SET since = '2026-01-31'`)
	wantText(t, b.html(), "from before 31 January 2026")
	// reconnected in the other mode: those audits are not of it
	b.Exec(`UPDATE merchants SET livemode = false`)
	wantText(t, b.html(), "No audit has finished yet")
}

func TestClosedGhostsAndDisconnection(t *testing.T) {
	t.Parallel()
	b := setup(t, true)
	for i := range 3 {
		b.add(fmt.Sprintf("cus_%d", i), "sub", "a@example.com", "usd", "low", "", failedRule, 1000, false, time.Hour)
	}
	b.Exec(`UPDATE ghost_targets SET status = 'closed', closed_reason = CASE stripe_customer_id WHEN 'cus_2' THEN 'canceled' ELSE 'paid' END, closed_at = now()`)
	b.Exec(`UPDATE merchants SET disconnected_at = '2026-02-03 12:00Z'`)
	wantText(t, b.html(), "2 paid, 1 subscription ended", "disconnected on 3 February 2026")
}

func TestUnknownAccount(t *testing.T) {
	t.Parallel()
	b := setup(t, true)
	for _, name := range []string{"acct_unknown", "", "' OR true --"} {
		if _, err := Load(t.Context(), b.pool, name); !errors.Is(err, ErrUnknownAccount) {
			t.Errorf("Load(%q) = %v, want ErrUnknownAccount", name, err)
		}
	}
}

// The page says what the policy about access does: nothing without one, what it would do in a dry
// run, and then who lost access and who came back.
func TestAccessOfTheReport(t *testing.T) {
	t.Parallel()
	b := setup(t, true)
	if page := b.html(); strings.Contains(page, "<h2>Access</h2>") {
		t.Error("there is no policy, and the page has its section")
	}
	b.Exec(`INSERT INTO shield_states (merchant_id, subscription, customer, livemode, facts, ticket, told_at, revision, level, target, gone)
		SELECT $1, 'sub_' || n, 'cus_' || n, n <> 9, '{}', 1, phantom_now(), n, level, target, n = 8
		FROM (VALUES (1, 'full', 'full'), (2, 'limited', 'limited'), (3, 'blocked', 'blocked'), (4, 'blocked', 'blocked'), (5, 'full', 'limited'),
			(8, 'blocked', 'blocked'), (9, 'blocked', 'blocked')) rows (n, level, target)`, b.merchant)
	b.Exec("INSERT INTO shield_policies (merchant_id, version, body) VALUES ($1, 1, $2)", b.merchant, `{"mode":"dry_run"}`)
	wantText(t, b.html(), "it would leave 4 subscriptions of 5 with limited access or none")
	b.Exec("INSERT INTO shield_policies (merchant_id, version, body) VALUES ($1, 2, $2)", b.merchant, `{"mode":"enforce"}`)
	for _, c := range []struct {
		subscription, from, to, reason string
		days                           int
		lowered                        bool
	}{
		{"sub_1", "full", "limited", "payment_failed", 20, true}, {"sub_1", "limited", "full", "paid", 10, false},
		{"sub_5", "full", "limited", "payment_failed", 20, true}, {"sub_5", "limited", "full", "override", 10, false},
		{"sub_2", "full", "limited", "payment_failed", 5, true},
		{"sub_3", "full", "blocked", "payment_failed", 40, true}, {"sub_3", "blocked", "full", "paid", 35, false},
	} {
		b.Exec(`INSERT INTO shield_transitions (merchant_id, id, at, subscription, customer, livemode, from_level, to_level, reason, enforced, lowered,
				monthly, currency, policy_version, revision, facts)
			VALUES ($1, $2, phantom_now() - $3 * interval '1 day', $4, 'cus_1', true, $5, $6, $7, true, $8, 100, 'usd', 1, 1, '{}')`,
			b.merchant, newID(t), c.days, c.subscription, c.from, c.to, c.reason, c.lowered)
	}
	wantText(t, b.html(), "Of 5 subscriptions, <strong>1</strong> has limited access and <strong>2</strong> are blocked.",
		"In the last 30 days 3 subscriptions lost access, and 1 of them came back after a payment.")
}
