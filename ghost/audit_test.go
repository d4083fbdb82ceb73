package ghost

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"testing"
	"time"

	"phantom/db"
	"phantom/decline"
	"phantom/sandbox"
	"phantom/state"
)

// assertTruth holds the open ghosts against what the sandbox knows: none missing, none invented,
// each to the cent.
func (b *bench) assertTruth() {
	b.t.Helper()
	describe := func(kind, customer, subscription, currency, invoice string, amount int64, hidden, anew bool) string {
		return fmt.Sprintf("%s: %s %s owes %d %s, oldest %s, hidden %t, subscribed anew %t", kind, customer, subscription, amount,
			currency, invoice, hidden, anew)
	}
	want := make(map[string]string)
	for _, g := range b.world.Truth(b.account) {
		want[g.Subscription+g.Currency+g.Kind] = describe(g.Kind, g.Customer, g.Subscription, g.Currency, g.Invoices[0], g.Amount, g.Hidden,
			g.Resubscribed)
	}
	if len(want) == 0 {
		b.t.Error("a world without ghosts proves nothing")
	}
	for _, g := range b.ghosts() {
		key := g.StripeSubscriptionID + g.Currency + string(g.Kind)
		if g.Status != state.GhostOpen {
			continue
		}
		got := describe(string(g.Kind), g.StripeCustomerID, g.StripeSubscriptionID, g.Currency, g.StripeInvoiceID, g.Amount, g.Hidden, g.Resubscribed)
		switch {
		case want[key] == "":
			b.t.Errorf("invented: %s (%s)", got, g.Rule)
		case want[key] != got:
			b.t.Errorf("found %s, want %s", got, want[key])
		}
		delete(want, key)
	}
	for _, missing := range want {
		b.t.Errorf("missed: %s", missing)
	}
}

// On generated worlds every ghost is found, none is invented, and the amounts are right to the
// cent. A second audit changes no row.
func TestAuditsFindTheTruth(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		t.Run(fmt.Sprintf("seed %d", seed+1), func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Seed: seed + 1, Merchants: 1})
			row := b.audit()
			b.assertTruth()
			if row.State != state.AuditSucceeded || row.Objects < 500 {
				t.Errorf("audit %s after %d objects: %v", row.State, row.Objects, row.Error)
			}
			if seed > 4 {
				return
			}
			versions := b.versions()
			b.audit()
			if again := b.versions(); !slices.Equal(again, versions) {
				t.Errorf("a second audit rewrote rows: %v became %v", versions, again)
			}
		})
	}
}

// A subscription is judged alike by an audit, which has read the whole account, and by a refresh,
// which has read what is its own: else its ghosts would change with each event and each week.
func TestAuditAndRefreshAgree(t *testing.T) {
	t.Parallel()
	seeds := uint64(6)
	if os.Getenv("PHANTOM_LONG") != "" {
		seeds = 50
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed+1), func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Seed: seed + 1, Merchants: 1})
			b.audit()
			before := b.rows()
			for _, id := range b.subscriptions() {
				if err := b.s.Refresh(t.Context(), b.merchant, id); err != nil {
					t.Fatal(err)
				}
			}
			for key, row := range b.rows() {
				if before[key] != row {
					t.Errorf("the audit found\n%s\nand the refresh\n%s", before[key], row)
				}
			}
		})
	}
}

// rows are what is known of each ghost, but when it was written.
func (b *bench) rows() map[string]string {
	b.t.Helper()
	all := map[string]string{}
	for _, g := range b.ghosts() {
		key := g.StripeSubscriptionID + " " + g.Currency + " " + string(g.Kind)
		g.UpdatedAt, g.Email = time.Time{}, nil
		text, err := json.MarshalIndent(g, "", " ")
		if err != nil {
			b.t.Fatal(err)
		}
		all[key] = string(text)
	}
	return all
}

// subscriptions are all that the account has.
func (b *bench) subscriptions() (ids []string) {
	b.t.Helper()
	reader, err := b.connect.Reader(b.t.Context(), b.merchant)
	if err != nil {
		b.t.Fatal(err)
	}
	all, _, err := list(b.t.Context(), reader, "/v1/subscriptions", url.Values{"status": {"all"}}, mostPages, (*subscription).decode,
		func(s *subscription) string { return s.ID })
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range all {
		ids = append(ids, s.ID)
	}
	return ids
}

// versions names every version of every ghost's row.
func (b *bench) versions() (all []string) {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), "SELECT id::text || ' ' || xmin::text || ' ' || ctid::text FROM ghost_targets WHERE merchant_id = $1 ORDER BY id", b.merchant)
	if err != nil {
		b.t.Fatal(err)
	}
	for rows.Next() {
		var version string
		if err := rows.Scan(&version); err != nil {
			b.t.Fatal(err)
		}
		all = append(all, version)
	}
	return all
}

// What an audit read is gone when it has ended: only its result stays.
func TestAuditLeavesNoFacts(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	b.audit()
	for _, table := range []string{"audit_subscriptions", "audit_invoices", "audit_charges", "audit_disputes", "audit_intents"} {
		var rows int
		if err := b.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&rows); err != nil || rows != 0 {
			t.Errorf("%s holds %d rows, %v", table, rows, err)
		}
	}
}

// Attempts on a card after the network has said never again, for the same debt, could not have
// succeeded: they are counted, and no others.
func TestWastedAttemptsAreCounted(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 1})
	id := newID()
	var rows []db.AuditAddChargesParams
	add := func(sequence, card, brand, outcome string, class decline.Class, hour int) {
		rows = append(rows, db.AuditAddChargesParams{
			MerchantID: b.merchant, AuditID: id, Sequence: sequence, CreatedAt: now.Add(time.Duration(hour) * time.Hour), Outcome: outcome,
			DeclineClass: &class, Brand: &brand, Card: []byte(card),
		})
	}
	add("in_1", "a", "visa", "failed", "never", 0)
	add("in_1", "a", "visa", "failed", "never", 1)       // wasted
	add("in_1", "a", "visa", "failed", "timed", 2)       // wasted: no matter what the bank says now
	add("in_1", "b", "visa", "failed", "timed", 3)       // another card
	add("in_1", "a", "visa", "blocked", "never", 4)      // never reached the network
	add("in_2", "a", "visa", "failed", "never", 5)       // another debt
	add("in_3", "c", "mastercard", "failed", "never", 0) // wasted is only what comes after
	add("in_3", "c", "mastercard", "failed", "low", 1)   // wasted
	add("in_4", "d", "amex", "failed", "timed", 0)
	add("in_4", "d", "amex", "failed", "never", 1)
	if _, err := b.queries.AuditAddCharges(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	waste, err := b.queries.AuditWaste(t.Context(), db.AuditWasteParams{MerchantID: b.merchant, AuditID: id})
	if err != nil || waste.Attempts != 3 || waste.Visa != 2 || waste.Mastercard != 1 {
		t.Errorf("%+v, %v", waste, err)
	}
}

// The first audit comes with the handshake, before the account's facts may be known: it reads them
// itself.
func TestAuditReadsTheAccountsFacts(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 20})
	if _, err := b.pool.Exec(t.Context(), "UPDATE merchants SET business_category = NULL, country = NULL, timezone = NULL"); err != nil {
		t.Fatal(err)
	}
	b.audit()
	var other, cells int
	if err := b.pool.QueryRow(t.Context(), "SELECT count(*) FILTER (WHERE business_category = 'other'), count(*) FROM oracle_contributions").Scan(&other, &cells); err != nil {
		t.Fatal(err)
	}
	if cells == 0 || other > 0 {
		t.Errorf("%d of %d cells are of no category", other, cells)
	}
}
