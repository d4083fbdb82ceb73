package worlds

import (
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"phantom/decline"
)

// TestAgents holds the worlds of agents to the contract of World, and to shares of failures that
// leave something to learn.
func TestAgents(t *testing.T) {
	t.Parallel()
	size := Size{Merchants: 12, Customers: 15}
	again := Agents(7, size)
	other := Agents(8, size)
	for k, w := range Agents(7, size) {
		t.Run(w.Name(), func(t *testing.T) {
			t.Parallel()
			invoices := w.Invoices()
			if !reflect.DeepEqual(invoices, again[k].Invoices()) {
				t.Fatal("the same seed makes other invoices")
			}
			if reflect.DeepEqual(invoices, other[k].Invoices()) {
				t.Fatal("another seed makes the same invoices")
			}
			classes := map[string]int{}
			ids := map[string]bool{}
			failed, alone := 0, 0
			var lows, highs []float64
			for i, invoice := range invoices {
				if invoice.At.Before(Start) || !invoice.At.Before(End) ||
					i > 0 && invoice.At.Before(invoices[i-1].At) {
					t.Fatalf("invoice %d at %v is out of order", i, invoice.At)
				}
				if ids[invoice.ID] {
					t.Fatalf("invoice %s comes twice", invoice.ID)
				}
				ids[invoice.ID] = true
				if !invoice.Failed {
					if invoice.Class+invoice.Code != "" || !w.PaysAlone(i).IsZero() {
						t.Fatalf("invoice %d succeeded, with traces of a failure", i)
					}
					continue
				}
				failed++
				classes[invoice.Class]++
				if at := w.PaysAlone(i); !at.IsZero() {
					alone++
					if !at.After(invoice.At) {
						t.Fatalf("invoice %d is paid at %v, before it failed", i, at)
					}
				}
				last := invoice.At
				for _, at := range w.Retries(i) {
					if !at.After(last) || at.Sub(invoice.At) > Window {
						t.Fatalf("invoice %d of %v is charged again at %v", i, invoice.At, at)
					}
					last = at
				}
				low, high := 1.0, 0.0
				for wait := 6 * time.Hour; wait <= Window; wait += 6 * time.Hour {
					at := invoice.At.Add(wait)
					chance := w.Chance(i, at, 1)
					if math.IsNaN(chance) || chance < 0 || chance > 1 ||
						chance != again[k].Chance(i, at, 1) {
						t.Fatalf("invoice %d has a chance of %v at %v", i, chance, at)
					}
					low, high = min(low, chance), max(high, chance)
				}
				lows, highs = append(lows, low), append(highs, high)
				for die := 0.0; die < 1; die += 0.13 {
					class, code := w.Failure(i, invoice.At.Add(50*time.Hour), die)
					read, _ := decline.Classify("", "", code, "", invoice.Payer.Brand)
					if string(read) != class || read.IsHard() {
						t.Fatalf("a failure of class %q with code %q", class, code)
					}
				}
			}
			share := float64(failed) / float64(len(invoices))
			if share < 0.1 || share > 0.6 {
				t.Errorf("%.2f of the first charges failed", share)
			}
			slices.Sort(lows)
			slices.Sort(highs)
			t.Logf("%d invoices, %.3f failed, %.2f paid alone, classes %v",
				len(invoices), share, float64(alone)/float64(failed), classes)
			t.Logf("medians of the lowest and highest chance of a failed invoice: %.2f, %.2f",
				lows[failed/2], highs[failed/2])
		})
	}
}

func BenchmarkAgentsChance(b *testing.B) {
	for _, w := range Agents(1, Size{Merchants: 4, Customers: 10}) {
		b.Run(w.Name(), func(b *testing.B) {
			invoices := w.Invoices()
			for n := range b.N {
				i := n % len(invoices)
				w.Chance(i, invoices[i].At.Add(time.Duration(n%300)*time.Hour), 2)
			}
		})
	}
}
