package report

import (
	"slices"
	"testing"
)

// Names keep the order of their curves, none covers another, and none leaves the chart.
func TestNamesOfCurvesStandApart(t *testing.T) {
	t.Parallel()
	const top = 1080
	for _, amounts := range [][]int64{{1000, 1000, 1000, 1000}, {0, 0, 0, 0}, {1000, 990, 10, 0}, {500, 510, 490, 505}, {7}, {}} {
		var curves []Curve
		for _, n := range amounts {
			curves = append(curves, Curve{Points: []CurvePoint{{0, 0}, {1, n}}})
		}
		ends := apart(curves, top)
		for i := range ends {
			for j := range i {
				gap := ends[i] - ends[j]
				if amounts[i] < amounts[j] {
					gap = -gap
				} else if amounts[i] == amounts[j] {
					gap = max(gap, -gap)
				}
				if gap < top/7 {
					t.Errorf("of %v the names stand at %.0f", amounts, ends)
				}
			}
		}
		if len(ends) > 0 && (slices.Max(ends) > top || slices.Min(ends) < 0) {
			t.Errorf("of %v the names stand at %.0f, outside of the chart", amounts, ends)
		}
	}
}
