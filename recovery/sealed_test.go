package recovery

import (
	"errors"
	"testing"

	"phantom/playbook"
	"phantom/sandbox"
	"phantom/state"
	"phantom/vault"
)

// A channel whose secret does not open is its merchant's alone: the others' messages leave.
func TestChannelThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	damaged, _ := p.plan(ada, playbook.Email, "payment_failed")
	p.Exec("UPDATE channels SET secret.tag = md5('x') WHERE merchant_id = $1 AND provider = 'resend'", p.merchant)
	err := p.s.Handlers()[playbook.Email](t.Context(), p.claim(damaged))
	if !errors.Is(err, vault.ErrOpen) { // which the queue leaves to a person at once
		t.Errorf("a secret that does not open: %v", err)
	}
	first := p.merchant
	p.merchant = p.newMerchant("acct_2")
	other, _ := p.plan(person{"cus_2", "b@example.com"}, playbook.Email, "payment_failed")
	if status := p.try(other); status != state.TaskSucceeded {
		t.Errorf("another merchant's message: %s: %s", status, p.log)
	}
	// Set anew, it sends, and wakes what has waited.
	p.Exec("UPDATE scheduled_tasks SET status = 'needs_review', lease_until = NULL WHERE id = $1", damaged)
	p.merchant = first
	_, err = p.s.messages.SetResend(t.Context(), p.merchant, resendKey, "billing@example.com")
	p.must(err)
	if row := p.row(damaged); row.Status != state.TaskPending {
		t.Errorf("the message that waited is %s", row.Status)
	}
	if status := p.try(damaged); status != state.TaskSucceeded {
		t.Errorf("with a new secret: %s", status)
	}
}

// One ghost's email that does not open keeps nobody from seeing what would be done, nor hunts from
// beginning.
func TestHuntsAmongEmailsThatDoNotOpen(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Seed: 3, Merchants: 1})
	b.audit()
	b.Exec("INSERT INTO channels (merchant_id, provider, sender, secret) VALUES ($1, 'resend', 'billing@example.com', $2)",
		b.merchant, vault.NewToken("channels.secret:"+b.merchant.String()+"/resend", "re_canary7Zq3vT7w"))
	chosen := playbook.Default()
	chosen.Mode, chosen.HoldoutPercent, chosen.Auto, chosen.MaxDebtAgeDays = state.ModeRecover, 0, false, 3650
	before, err := b.s.DryRun(t.Context(), b.merchant, chosen)
	if err != nil || before.Hunts < 2 {
		t.Fatalf("%d hunts, %v", before.Hunts, err)
	}
	b.Exec("UPDATE ghost_targets SET email.tag = md5('x') WHERE id = (SELECT min(id::text)::uuid FROM ghost_targets WHERE status = 'open' AND email_key_id IS NOT NULL)")
	after, err := b.s.DryRun(t.Context(), b.merchant, chosen)
	if err != nil || after.Hunts != before.Hunts {
		t.Errorf("%d of %d hunts, %v", after.Hunts, before.Hunts, err)
	}
	if _, err := b.s.SetPlaybook(t.Context(), b.merchant, chosen); err != nil {
		t.Fatal(err)
	}
	started, err := b.startAll()
	if err != nil {
		t.Fatal(err)
	}
	if n := b.Count("SELECT count(*) FROM hunts WHERE state = 'active'"); n != before.Hunts {
		t.Errorf("%d hunts began (%+v), want %d", n, started, before.Hunts)
	}
}
