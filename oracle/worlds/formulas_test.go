package worlds

import (
	"slices"
	"testing"
	"time"

	"phantom/decline"
)

var smallFormulas = Size{Merchants: 12, Customers: 16}

func TestFormulasAreRepeatable(t *testing.T) {
	t.Parallel()
	one, two := Formulas(7, smallFormulas), Formulas(7, smallFormulas)
	other := Formulas(8, smallFormulas)
	for k, w := range one {
		same, differs := two[k], false
		if len(w.Invoices()) != len(same.Invoices()) {
			t.Fatalf("%s: %d invoices and %d", w.Name(), len(w.Invoices()), len(same.Invoices()))
		}
		for i, a := range w.Invoices() {
			b, at := same.Invoices()[i], a.At.Add(50*time.Hour)
			if *a.Payer != *b.Payer || a.ID != b.ID || !a.At.Equal(b.At) || a.Failed != b.Failed ||
				a.Class != b.Class || a.Code != b.Code ||
				w.Chance(i, at, 2) != same.Chance(i, at, 2) ||
				!w.PaysAlone(i).Equal(same.PaysAlone(i)) ||
				!slices.Equal(w.Retries(i), same.Retries(i)) {
				t.Fatalf("%s: invoice %d is %+v and %+v", w.Name(), i, a, b)
			}
			if i < len(other[k].Invoices()) && !other[k].Invoices()[i].At.Equal(a.At) {
				differs = true
			}
		}
		if !differs {
			t.Errorf("%s: the seed changes nothing", w.Name())
		}
	}
}

func TestFormulasAreWhole(t *testing.T) {
	t.Parallel()
	for _, w := range Formulas(3, smallFormulas) {
		invoices, failed, alone, retries := w.Invoices(), 0, 0, 0
		seen := make(map[string]bool)
		for i, invoice := range invoices {
			if i > 0 && invoice.At.Before(invoices[i-1].At) {
				t.Fatalf("%s: invoice %d is out of order", w.Name(), i)
			}
			if invoice.At.Before(Start) || !invoice.At.Before(End) {
				t.Fatalf("%s: invoice at %s", w.Name(), invoice.At)
			}
			if id := invoice.Payer.Merchant + invoice.ID; seen[id] {
				t.Fatalf("%s: invoice %s twice", w.Name(), id)
			} else {
				seen[id] = true
			}
			if !invoice.Failed {
				if invoice.Class != "" || len(w.Retries(i)) > 0 || !w.PaysAlone(i).IsZero() {
					t.Fatalf("%s: a paid invoice has a sequel", w.Name())
				}
				continue
			}
			failed++
			sameClass(t, w, invoice.Class, invoice.Code)
			for die := 0.0; die < 1; die += 0.23 {
				class, code := w.Failure(i, invoice.At.Add(99*time.Hour), die)
				sameClass(t, w, class, code)
			}
			until := invoice.At.Add(Window)
			retries += len(w.Retries(i))
			for n, at := range w.Retries(i) {
				if n > 0 && !at.After(w.Retries(i)[n-1]) || !at.After(invoice.At) ||
					at.After(until) {
					t.Fatalf("%s: retries at %s of %s", w.Name(), w.Retries(i), invoice.At)
				}
			}
			if at := w.PaysAlone(i); !at.IsZero() {
				alone++
				if !at.After(invoice.At) || at.After(until) {
					t.Fatalf("%s: pays alone at %s, owed since %s", w.Name(), at, invoice.At)
				}
			}
		}
		share, willing := float64(failed)/float64(len(invoices)), float64(alone)/float64(failed)
		t.Logf("%-10s  %d invoices, %.2f failed, %.2f of those pay alone", w.Name(), len(invoices),
			share, willing)
		if share < 0.1 || share > 0.6 {
			t.Errorf("%s: %.2f of first charges fail", w.Name(), share)
		}
		if mean := float64(retries) / float64(failed); mean < 4 || mean > 8 {
			t.Errorf("%s: %.1f retries of a debt", w.Name(), mean)
		}
		if willing < 0.1 || willing > 0.25 {
			t.Errorf("%s: %.2f pay alone", w.Name(), willing)
		}
	}
}

func sameClass(t *testing.T, w World, class, code string) {
	t.Helper()
	if known, _ := decline.Classify("", "", code, "", "visa"); string(known) != class {
		t.Fatalf("%s: code %q is of class %q, not %q", w.Name(), code, known, class)
	}
}

// In every world it pays to know the time, and in one only a little.
func TestFormulasReward(t *testing.T) {
	t.Parallel()
	for _, w := range Formulas(5, smallFormulas) {
		var fixed, best, debts, low, high float64
		for i, invoice := range w.Invoices() {
			if !invoice.Failed || i%3 > 0 {
				continue
			}
			debts++
			for _, days := range []time.Duration{1, 3, 5, 7} {
				fixed += w.Chance(i, invoice.At.Add(days*24*time.Hour), 1) / 4
			}
			top := 0.0
			for hours := time.Duration(1); hours < 14*24; hours++ {
				chance := w.Chance(i, invoice.At.Add(hours*time.Hour), 1)
				if chance < 0 || chance > 1 {
					t.Fatalf("%s: chance %f", w.Name(), chance)
				}
				top = max(top, chance)
				if chance < 0.05 {
					low++
				} else if chance > 0.4 {
					high++
				}
			}
			best += top
		}
		t.Logf("%-10s  fixed %.3f, best %.3f, hours below 5 %% %.2f, above 40 %% %.2f", w.Name(),
			fixed/debts, best/debts, low/debts/335, high/debts/335)
		if w.Name() != "deadbeats" && best < 1.8*fixed {
			t.Errorf("%s: %.3f at best, %.3f at fixed days", w.Name(), best/debts, fixed/debts)
		}
	}
}

// The naive count of the confounded world's history prefers the hours that are worse for everybody.
func TestFormulasConfound(t *testing.T) {
	t.Parallel()
	for _, w := range Formulas(5, smallFormulas) {
		if w.Name() != "confounded" {
			continue
		}
		f, sum, count := w.(*formula), [2]float64{}, [2]float64{}
		for i := range w.Invoices() {
			for n, at := range w.Retries(i) {
				morning := 0
				if at.In(f.debtors[i].zone).Hour() > 6 {
					morning = 1
				}
				sum[morning] += w.Chance(i, at, n+1)
				count[morning]++
			}
		}
		if night, day := sum[0]/count[0], sum[1]/count[1]; night < 1.3*day {
			t.Errorf("%.3f by night, %.3f by day", night, day)
		}
	}
}

func BenchmarkFormulas(b *testing.B) {
	for b.Loop() {
		Formulas(1, Size{40, 40})
	}
}

func BenchmarkFormulaChance(b *testing.B) {
	w := Formulas(1, smallFormulas)[7]
	for i := 0; b.Loop(); i++ {
		k := i % len(w.Invoices())
		w.Chance(k, Play.Add(time.Duration(i%300)*time.Hour), 2)
	}
}
