package web_test

import (
	"encoding/json"
	"testing"
)

// Before any model the heatmap is what is widely known, and says so.
func TestHeatmapBeforeAnyModel(t *testing.T) {
	t.Parallel()
	c := setup(t).caller("acct_1")
	type shade struct {
		P     float64
		Known bool
	}
	var h struct {
		Model          *struct{}
		Class, Country string
		Hours          [7][24]shade
		Days           [31]shade
	}
	got := c.call("GET", "/api/oracle/heatmap?class=low&country=DE", "")
	if err := json.Unmarshal([]byte(got.body), &h); got.status != 200 || err != nil {
		t.Fatalf("%d %s: %v", got.status, got.body, err)
	}
	if h.Model != nil || h.Class != "low" || h.Country != "DE" {
		t.Errorf("%+v", h)
	}
	for weekday, hours := range h.Hours {
		for hour, s := range hours {
			if s.Known || s.P <= 0 || s.P >= 1 {
				t.Errorf("weekday %d, hour %d: %+v", weekday, hour, s)
			}
		}
	}
	if h.Hours[2][12].P <= h.Hours[2][3].P {
		t.Error("noon is no better than the night")
	}
	for query, field := range map[string]string{"class=never": "class", "country=us": "country", "country=USA": "country", "class=low&class=low": "class", "zone=x": "query"} {
		c.call("GET", "/api/oracle/heatmap?"+query, "").wantInvalid(t, field)
	}
}
