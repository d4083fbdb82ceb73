package connect

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// docs/categories.md says of every code what the program does with it.
func TestCategoriesAreAsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/categories.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[int]string)
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 {
			continue
		}
		category := strings.TrimSpace(cells[1])
		for list := range strings.SplitSeq(cells[2], ",") {
			first, last, isRange := strings.Cut(strings.Fields(list + " .")[0], "–")
			if !isRange {
				last = first
			}
			from, err := strconv.Atoi(first)
			if err != nil {
				continue // the head, or a row in words
			}
			to, err := strconv.Atoi(last)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			for code := from; code <= to; code++ {
				if documented[code] == "" || documented[code] == "retail" {
					// retail is what no other row lists
					documented[code] = category
				} else if category != "retail" {
					t.Errorf("%04d is listed as %s and as %s", code, documented[code], category)
				}
			}
		}
	}
	for code := range 10_000 {
		got := Category(fmt.Sprintf("%04d", code))
		want := documented[code]
		if want == "" {
			want = "other"
		}
		if got != want {
			t.Errorf("%04d is %s, documented as %s", code, got, want)
		}
	}
}
