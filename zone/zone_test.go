package zone

import (
	"archive/zip"
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOfCustomer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ country, account, want string }{
		{"JP", "America/New_York", "Asia/Tokyo"},
		{"jp", "", "Asia/Tokyo"},
		{"US", "America/Chicago", "America/Chicago"},
		{"US", "US/Central", "America/Chicago"},
		{"US", "America/Indianapolis", "America/Indiana/Indianapolis"},
		{"US", "PST8PDT", "America/Los_Angeles"},
		{"US", "America/Toronto", "America/New_York"},
		{"US", "Canada/Eastern", "America/New_York"},
		{"US", "", "America/New_York"},
		{"US", "no zone", "America/New_York"},
		{"CA", "US/Eastern", "America/Toronto"},
		{"CA", "Canada/Pacific", "America/Vancouver"},
		{"UA", "Europe/Kiev", "Europe/Kyiv"},
		{"IN", "Asia/Calcutta", "Asia/Kolkata"},
		{"XK", "", "Europe/Belgrade"},
		{"", "Asia/Calcutta", "Asia/Calcutta"},
		{"", "Europe/Oslo", "Europe/Oslo"},
		{"ZZ", "Europe/Oslo", "Europe/Oslo"},
		{"BV", "Europe/Oslo", "Europe/Oslo"},
		{"ZZ", "", "UTC"},
		{"", "no zone", "UTC"},
		{"", "Local", "UTC"},
		{"", "../UTC", "UTC"},
	} {
		for range 2 { // read, and kept
			if got := OfCustomer(test.country, test.account).String(); got != test.want {
				t.Errorf("OfCustomer(%q, %q) = %s, want %s", test.country, test.account, got, test.want)
			}
		}
	}
	for country, want := range map[string]string{
		"AR": "America/Argentina/Buenos_Aires", "AU": "Australia/Sydney", "BR": "America/Sao_Paulo", "CA": "America/Toronto",
		"CL": "America/Santiago", "CN": "Asia/Shanghai", "DE": "Europe/Berlin", "EC": "America/Guayaquil", "ES": "Europe/Madrid",
		"ID": "Asia/Jakarta", "KZ": "Asia/Almaty", "MN": "Asia/Ulaanbaatar", "MX": "America/Mexico_City", "MY": "Asia/Kuala_Lumpur",
		"NZ": "Pacific/Auckland", "PG": "Pacific/Port_Moresby", "PT": "Europe/Lisbon", "RU": "Europe/Moscow", "UA": "Europe/Kyiv",
		"UZ": "Asia/Tashkent",
	} {
		if got := OfCustomer(country, "Antarctica/Troll").String(); got != want {
			t.Errorf("most of %s lives in %s, not %s", country, want, got)
		}
	}
}

// Every zone of IANA's own table, and every country of ISO's, is in ours, and nothing else.
func TestZonesAreIANAs(t *testing.T) {
	t.Parallel()
	// Codes of Stripe that are not in the table.
	want := map[string][]string{"AC": {"Atlantic/St_Helena"}, "TA": {"Atlantic/St_Helena"}, "XK": {"Europe/Belgrade"}}
	for _, fields := range ianaTable(t, "zone.tab") {
		want[fields[0]] = append(want[fields[0]], fields[2])
	}
	for country, zones := range want {
		got := slices.Sorted(slices.Values(countryZones[country]))
		if slices.Sort(zones); !slices.Equal(got, zones) {
			t.Errorf("%s has %v, want %v", country, got, zones)
		}
	}
	if len(countryZones) != len(want) {
		t.Errorf("%d countries, want %d", len(countryZones), len(want))
	}
	for _, fields := range ianaTable(t, "iso3166.tab") {
		if code := fields[0]; countryZones[code] == nil && code != "BV" && code != "HM" {
			t.Errorf("country %s is missing", code)
		}
	}
}

// In the time zones that the program embeds, each zone of the table exists, and an alias tells the
// same time as what it stands for.
func TestZonesLoad(t *testing.T) {
	t.Parallel()
	load := embeddedZones(t)
	inTable := map[string]bool{}
	for country, zones := range countryZones {
		for _, name := range zones {
			inTable[name] = inTable[name] || len(zones) > 1
			if _, err := load(name); err != nil {
				t.Errorf("%s: %v", country, err)
			}
			if zone := Named(name); zone.String() != name {
				t.Errorf("%s loads as %s", name, zone)
			}
		}
	}
	for alias, name := range zoneAliases {
		if _, ok := inTable[alias]; ok || !inTable[name] {
			t.Errorf("alias %s of %s decides nothing", alias, name)
		}
		one, err := load(alias)
		if err != nil {
			t.Error(err)
			continue
		}
		other, err := load(name)
		if err != nil {
			t.Error(err)
			continue
		}
		for day := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC); day.Year() < 2027; day = day.AddDate(0, 0, 7) {
			if a, b := day.In(one).Format(time.DateTime), day.In(other).Format(time.DateTime); a != b {
				t.Errorf("%s in %s, and %s in %s", a, alias, b, name)
				break
			}
		}
	}
}

// ianaTable reads one of IANA's tables: fields apart by tabs, comments from #.
func ianaTable(t *testing.T, name string) (rows [][]string) {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "#") {
			rows = append(rows, strings.Split(lines.Text(), "\t"))
		}
	}
	if lines.Err() != nil || len(rows) < 200 {
		t.Fatalf("%s: %d rows, %v", name, len(rows), lines.Err())
	}
	return rows
}

// embeddedZones reads the file that package time/tzdata is made of: LoadLocation would take the
// machine's own zones first.
func embeddedZones(t *testing.T) func(name string) (*time.Location, error) {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { archive.Close() })
	return func(name string) (*time.Location, error) {
		file, err := archive.Open(name)
		if err != nil {
			return nil, fmt.Errorf("zone %s: %w", name, err)
		}
		defer file.Close()
		data, err := io.ReadAll(file)
		if err != nil {
			return nil, err
		}
		return time.LoadLocationFromTZData(name, data)
	}
}

func BenchmarkOfCustomer(b *testing.B) {
	countries, accounts := []string{"US", "JP", "", "DE", "BR"}, []string{"US/Central", "Europe/Berlin", "America/Los_Angeles"}
	b.RunParallel(func(loop *testing.PB) {
		for i := 0; loop.Next(); i++ {
			OfCustomer(countries[i%len(countries)], accounts[i%len(accounts)])
		}
	})
}

// Wherever in a country with several zones a customer lives, their zone is among those of it.
func TestBeside(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		own, other string
		all        int
	}{
		{"America/New_York", "Pacific/Honolulu", 29}, {"US/Eastern", "Pacific/Honolulu", 29}, {"Pacific/Honolulu", "America/New_York", 29},
		{"Europe/Moscow", "Asia/Kamchatka", 26}, {"Europe/Paris", "", 1}, {"UTC", "", 1},
	} {
		var names []string
		for _, zone := range Beside(Named(test.own)) {
			names = append(names, zone.String())
		}
		if names[0] != test.own || len(names) != test.all || test.other != "" && !slices.Contains(names, test.other) {
			t.Errorf("%s: %v", test.own, names)
		}
	}
	if got := len(InCountries("US", "ca", "XX")); got != 29+23 {
		t.Errorf("%d zones", got)
	}
}

// A ghost's own zone counts before its merchant's, and this machine's never does.
func TestOfGhost(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ ghost, merchant, want string }{
		{"", "", "UTC"}, {"", "Europe/Berlin", "Europe/Berlin"}, {"Asia/Tokyo", "Europe/Berlin", "Asia/Tokyo"}, {"Asia/Tokyo", "", "Asia/Tokyo"},
		{"Local", "Europe/Berlin", "Europe/Berlin"}, {"Mars/Olympus", "Europe/Berlin", "Europe/Berlin"}, {"Mars/Olympus", "Local", "UTC"},
	} {
		var ghost, merchant *string
		if test.ghost != "" {
			ghost = &test.ghost
		}
		if test.merchant != "" {
			merchant = &test.merchant
		}
		if got := OfGhost(ghost, merchant).String(); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
	empty := ""
	if got := OfGhost(&empty, &empty); got != time.UTC {
		t.Error(got)
	}
}
