package figures

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The examples of Newcombe's paper, table II, method 10.
func TestScoreIntervalOfPublishedExamples(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b      Arm
		low, high float64
	}{
		{Arm{70, 56}, Arm{80, 48}, 0.0524, 0.3339},
		{Arm{10, 9}, Arm{10, 3}, 0.1705, 0.8090},
		{Arm{7, 6}, Arm{7, 2}, 0.0582, 0.8062},
		{Arm{56, 5}, Arm{29, 0}, -0.0381, 0.1926},
		{Arm{10, 0}, Arm{20, 0}, -0.1611, 0.2775},
		{Arm{10, 0}, Arm{10, 0}, -0.2775, 0.2775},
		{Arm{10, 10}, Arm{20, 0}, 0.6791, 1},
		{Arm{10, 10}, Arm{10, 0}, 0.6075, 1},
	} {
		low, high := scoreInterval(test.a, test.b, z95)
		if math.Abs(low-test.low) > 0.00006 || math.Abs(high-test.high) > 0.00006 {
			t.Errorf("%v against %v: %.4f to %.4f, want %.4f to %.4f", test.a, test.b, low, high, test.low, test.high)
		}
		back, forth := scoreInterval(test.b, test.a, z95)
		if math.Abs(back+high) > 1e-12 || math.Abs(forth+low) > 1e-12 {
			t.Errorf("%v against %v is not the mirror of the other way round", test.b, test.a)
		}
	}
}

// In 10,000 merchants of each kind, the interval holds the truth as often as it says. Those whom it
// refuses for lack of data show nothing, so both kinds of share are looked at: of all, and of those
// that are shown.
func TestIntervalHoldsTheTruth(t *testing.T) {
	t.Parallel()
	const runs = 10_000
	random := rand.New(rand.NewPCG(1, 2))
	drawn := func(n int64, p float64) Arm {
		a := Arm{Customers: n}
		for range n {
			if random.Float64() < p {
				a.Recovered++
			}
		}
		return a
	}
	for _, test := range []struct {
		treated, heldOut int64
		p, q             float64
	}{
		{30, 30, 0.3, 0.3}, {60, 20, 0.5, 0.5}, {60, 20, 0.6, 0.4}, {200, 20, 0.4, 0.3}, {400, 21, 0.5, 0.3}, {380, 20, 0.3, 0.3},
		{100, 100, 0.1, 0.1}, {100, 100, 0.9, 0.8}, {190, 50, 0.2, 0.1}, {950, 50, 0.6, 0.5}, {1000, 100, 0.15, 0.1}, {1900, 100, 0.07, 0.07},
	} {
		held, shown, heldOfShown, wrong := 0, 0, 0, 0
		for range runs {
			a, b := drawn(test.treated, test.p), drawn(test.heldOut, test.q)
			low, high := scoreInterval(a, b, z95)
			truth := test.p - test.q
			in := low <= truth && truth <= high
			if in {
				held++
			}
			if u := compare(a, b, 0); u.Difference != nil {
				shown++
				if in {
					heldOfShown++
				}
				if u.Verdict == VerdictMore && truth <= 0 || u.Verdict == VerdictLess && truth >= 0 {
					wrong++
				}
			}
		}
		share := float64(held) / runs
		ofShown := float64(heldOfShown) / float64(max(shown, 1))
		t.Logf("%4d at %.2f against %3d at %.2f: %.2f %% hold; shown %.1f %%, of which %.2f %% hold; wrong verdicts %.2f %%", test.treated, test.p,
			test.heldOut, test.q, 100*share, 100*float64(shown)/runs, 100*ofShown, 100*float64(wrong)/runs)
		if share < 0.93 || share > 0.97 {
			t.Errorf("%d at %v against %d at %v: %.2f %% hold the truth", test.treated, test.p, test.heldOut, test.q, 100*share)
		}
		if shown > runs/2 && (ofShown < 0.93 || ofShown > 0.97) {
			t.Errorf("%d at %v against %d at %v: of those shown %.2f %% hold the truth", test.treated, test.p, test.heldOut, test.q, 100*ofShown)
		}
		if wrong > runs*6/100 {
			t.Errorf("%d at %v against %d at %v: %d verdicts are wrong", test.treated, test.p, test.heldOut, test.q, wrong)
		}
	}
}

// A true difference of the size that is called detectable is found four times in five.
func TestDetectableIsFound(t *testing.T) {
	t.Parallel()
	const runs = 10_000
	random := rand.New(rand.NewPCG(3, 4))
	for _, test := range []struct {
		treated, heldOut int64
		q                float64
	}{{500, 500, 0.4}, {2000, 200, 0.5}, {1000, 400, 0.3}, {100, 100, 0.1}, {900, 50, 0.2}, {500, 100, 0.9}} {
		effect := detectable(Arm{Customers: test.treated}, Arm{test.heldOut, int64(test.q * float64(test.heldOut))})
		found, p := 0, test.q+effect
		if test.q > 0.5 {
			p = test.q - effect
		}
		for range runs {
			a, b := Arm{Customers: test.treated}, Arm{Customers: test.heldOut}
			for range test.treated {
				if random.Float64() < p {
					a.Recovered++
				}
			}
			for range test.heldOut {
				if random.Float64() < test.q {
					b.Recovered++
				}
			}
			if v := compare(a, b, 0).Verdict; v == VerdictMore || v == VerdictLess {
				found++
			}
		}
		t.Logf("%d against %d at %v: %.3f is found in %.1f %%", test.treated, test.heldOut, test.q, effect, 100*float64(found)/runs)
		if found < runs*78/100 || found > runs*83/100 {
			t.Errorf("%d against %d at %v: %.3f is found %d times in %d", test.treated, test.heldOut, test.q, effect, found, runs)
		}
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		treated, heldOut Arm
		want             string
	}{
		{Arm{}, Arm{}, VerdictNotEnough},
		{Arm{1000, 500}, Arm{}, VerdictNotEnough},
		{Arm{1000, 500}, Arm{19, 2}, VerdictNotEnough},
		{Arm{19, 19}, Arm{1000, 100}, VerdictNotEnough},
		{Arm{1000, 500}, Arm{20, 2}, VerdictMore},
		{Arm{20, 2}, Arm{1000, 500}, VerdictLess},
		{Arm{1000, 500}, Arm{20, 10}, VerdictNone},
		{Arm{1000, 0}, Arm{1000, 0}, VerdictNotEnough},       // nobody paid
		{Arm{1000, 1000}, Arm{1000, 1000}, VerdictNotEnough}, // everybody did
		// three are expected in the smaller arm
		{Arm{1000, 30}, Arm{100, 3}, VerdictNotEnough},
		{Arm{1000, 970}, Arm{100, 97}, VerdictNotEnough},
		{Arm{100, 5}, Arm{100, 5}, VerdictNone}, // five
		{Arm{100, 40}, Arm{100, 0}, VerdictMore},
		{Arm{200, 100}, Arm{100, 100}, VerdictLess},
	} {
		u := compare(test.treated, test.heldOut, 0)
		if u.Verdict != test.want {
			t.Errorf("%v against %v: %s, want %s", test.treated, test.heldOut, u.Verdict, test.want)
		}
		for _, n := range []*float64{u.Difference, u.Low, u.High, u.Detectable} {
			if (n == nil) != (u.Verdict == VerdictNotEnough) || n != nil && (math.IsNaN(*n) || math.Abs(*n) > 1) {
				t.Errorf("%v against %v: %+v", test.treated, test.heldOut, u)
			}
		}
		if u.Detectable != nil && *u.Detectable <= 0 {
			t.Errorf("%v against %v: any effect would be found", test.treated, test.heldOut)
		}
	}
}
