package demo

import (
	"slices"
	"testing"
	"time"

	"phantom/shield"
)

// Only who lost access for a debt has lost it, and only who paid has it again.
func TestAccess(t *testing.T) {
	t.Parallel()
	type step struct {
		subscription string
		from, to     shield.Level
		why          shield.Reason
	}
	lost := step{"a", shield.Grace, shield.Limited, shield.ByFailure}
	for name, c := range map[string]struct {
		steps []step
		want  access
	}{
		"nothing":           {nil, access{}},
		"lost":              {[]step{lost}, access{Lost: 1}},
		"lost in two steps": {[]step{lost, {"a", shield.Limited, shield.Blocked, shield.ByFailure}}, access{Lost: 1}},
		"paid":              {[]step{lost, {"a", shield.Limited, shield.Full, shield.ByPayment}}, access{Lost: 1, Back: 1}},
		"paid, and lost it again": {[]step{lost, {"a", shield.Limited, shield.Full, shield.ByPayment}, lost},
			access{Lost: 1}},
		"announced":  {[]step{lost, {"a", shield.Limited, shield.Full, shield.ByAnnouncement}}, access{Lost: 1, Back: 1}},
		"forgiven":   {[]step{lost, {"a", shield.Limited, shield.Full, shield.ByWriteOff}}, access{Lost: 1}},
		"under way":  {[]step{lost, {"a", shield.Limited, shield.Full, shield.ByPaymentUnderWay}}, access{Lost: 1}},
		"ended":      {[]step{{"a", shield.Full, shield.Blocked, shield.ByEnd}}, access{}},
		"still asks": {[]step{{"a", shield.Notice, shield.Grace, shield.ByFailure}}, access{}},
		"two": {[]step{lost, {"b", shield.Grace, shield.Limited, shield.ByFailure}, {"b", shield.Limited, shield.Full, shield.ByPayment}},
			access{Lost: 2, Back: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var all []shield.Transition
			for i, s := range c.steps {
				all = append(all, shield.Transition{At: time.Unix(int64(i), 0), Subscription: s.subscription, From: s.from, To: s.to, Reason: s.why, Enforced: true})
			}
			slices.Reverse(all)
			got := accessOf(all)
			if got.Lost != c.want.Lost || got.Back != c.want.Back {
				t.Errorf("%d have lost access and %d have it again, want %+v", got.Lost, got.Back, c.want)
			}
			if n := len(got.closed); n > 0 && got.closed[n-1].without > c.want.Lost-c.want.Back {
				t.Errorf("%d are without access at the end", got.closed[n-1].without)
			}
			for i := range all {
				all[i].Enforced = false
			}
			if got := accessOf(all); got.Lost != 0 {
				t.Error("a policy that was not enforced took access away")
			}
		})
	}
}
