package report

import (
	"bytes"
	"strings"
	"testing"

	"phantom/oracle"
	"phantom/oracle/model"
)

// Where too few merchants have charged an hour is grey, and counts neither for the scale nor for
// the best hours.
func TestHeatmapIsGreyWhereNothingIsKnown(t *testing.T) {
	t.Parallel()
	draw := func(p *oracle.Picture) string {
		t.Helper()
		r := &Report{Account: "acct_1", Ages: []Group{{Name: "a"}}, Classes: []Group{{Name: "b"}}, Moments: p}
		var page bytes.Buffer
		if err := r.WriteHTML(&page); err != nil {
			t.Fatal(err)
		}
		return page.String()
	}
	const unknown = `fill="#DCDCDC"`
	p := &oracle.Picture{}
	for weekday := range p.Hours {
		for hour := range p.Hours[weekday] {
			p.Hours[weekday][hour] = model.Shade{P: .1 + float64(hour)/100, Known: hour >= 6}
		}
	}
	p.Hours[2][3] = model.Shade{P: .9} // the best, of which too little is known
	p.Hours[5][8] = model.Shade{P: .4, Known: true}
	page := draw(p)
	if n := strings.Count(page, unknown); n != 7*6+31 {
		t.Errorf("%d places are grey, want %d", n, 7*6+31)
	}
	if !strings.Contains(page, "The best hours are Friday 08:00 (40.0 %), Monday 23:00 (33.0 %),") || strings.Contains(page, "90.0 %") {
		t.Error("the best hours are others")
	}
	if page := draw(&oracle.Picture{}); strings.Count(page, unknown) != 7*24+31 || !strings.Contains(page, "All is grey yet") {
		t.Error("of nothing not all is grey")
	}
	if page := draw(nil); strings.Contains(page, "When charges succeed") {
		t.Error("without a model something is drawn")
	}
}
