package playbook

import (
	"reflect"
	"testing"

	"phantom/state"
)

// The hunt's plan and the newest playbook's choice: who is excluded later is left alone at once.
func TestTheNewestChoiceHolds(t *testing.T) {
	t.Parallel()
	plan, newest := Default(), Default()
	newest.MaxDebtAgeDays, newest.WhenLeaving, newest.WrittenOff, newest.Resubscribed = 7, LeavingStop, true, true
	newest.Exclude.Products = []string{"prod_1"}
	for _, p := range []Playbook{plan.under(newest), plan.loosest(newest)} {
		if p.MaxDebtAgeDays != 7 || p.WhenLeaving != LeavingStop || !p.WrittenOff || !p.Resubscribed ||
			!reflect.DeepEqual(p.Exclude, newest.Exclude) {
			t.Errorf("%+v", p)
		}
	}
}

// What a merchant lowers or switches off holds for what runs; the plan stays the hunt's own.
func TestTheNewestLimitsHold(t *testing.T) {
	t.Parallel()
	plan, newest := Default(), Default()
	plan.Mode, newest.Mode = state.ModeRecover, state.ModeOff
	newest.MaxAttempts, newest.CardBudget = plan.MaxAttempts-1, plan.CardBudget-1
	newest.MinAmount, newest.DailyCap = map[string]int64{"usd": 7}, map[string]int64{"usd": 8}
	newest.QuietHours = QuietHours{"01:00", "02:00", "UTC"}
	newest.WindowDays, newest.TakeOver = plan.WindowDays+1, !plan.TakeOver
	newest.FinalStep = FinalCancel
	p := plan.under(newest)
	for name, ok := range map[string]bool{
		"mode": p.Mode == state.ModeOff, "max_attempts": p.MaxAttempts == newest.MaxAttempts,
		"card_budget": p.CardBudget == newest.CardBudget, "min_amount": p.MinAmount["usd"] == 7,
		"daily_cap": p.DailyCap["usd"] == 8, "quiet_hours": p.QuietHours == newest.QuietHours,
		"window_days": p.WindowDays == plan.WindowDays, "take_over": p.TakeOver == plan.TakeOver,
		"final_step": p.FinalStep == plan.FinalStep,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !ok {
				t.Errorf("%+v", p)
			}
		})
	}
}
