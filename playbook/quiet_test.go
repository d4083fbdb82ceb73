package playbook

import (
	"testing"
	"time"

	"phantom/zone"
)

// quietAt says by the clock on the wall whether a moment is within quiet hours.
func quietAt(q QuietHours, at time.Time, zone *time.Location) bool {
	clock := at.In(zone).Format("15:04")
	if q.From > q.To {
		return clock >= q.From || clock < q.To
	}
	return q.From <= clock && clock < q.To
}

func located(t *testing.T, name string) *time.Location {
	t.Helper()
	location, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return location
}

// On days on which the clocks are changed too, and in zones that change them by half an hour or at
// midnight, Next is the first minute from a moment on that is not within quiet hours.
func TestQuietHoursEndOnce(t *testing.T) {
	t.Parallel()
	days := map[string][]string{
		"Europe/Berlin": {"2027-03-28", "2027-10-31", "2027-06-16"}, "America/New_York": {"2027-03-14", "2027-11-07"},
		"Australia/Lord_Howe": {"2027-04-04", "2027-10-03"}, "Africa/Cairo": {"2027-04-30", "2027-10-29"}, "America/Havana": {"2027-03-14", "2027-11-07"},
		"Asia/Kathmandu": {"2027-02-28"}, "Pacific/Apia": {"2011-12-29", "2011-12-31"}, "Atlantic/Azores": {"2027-03-28", "2027-10-31"},
		"America/St_Johns": {"2027-03-14", "2027-11-07"}, "Asia/Beirut": {"2027-03-28", "2027-10-31"}, "UTC": {"2028-02-29"},
	}
	clocks := [][2]string{
		{"21:00", "08:00"}, {"22:00", "02:30"}, {"22:00", "00:30"}, {"01:00", "02:15"}, {"02:00", "03:00"}, {"02:30", "01:30"}, {"00:00", "23:59"},
		{"12:00", "12:00"}, {"23:59", "00:00"}, {"00:15", "00:45"}, {"03:00", "02:00"}, {"01:45", "01:30"},
	}
	for name, starts := range days {
		location := located(t, name)
		for _, start := range starts {
			day, err := time.ParseInLocation(time.DateOnly, start, time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			from := day.Add(-26 * time.Hour)
			for _, clock := range clocks {
				q := QuietHours{From: clock[0], To: clock[1], Zone: "customer"}
				const minutes = 100 * 60
				next := make([]time.Time, minutes) // by walking back minute by minute
				for i := minutes - 1; i >= 0; i-- {
					at := from.Add(time.Duration(i) * time.Minute)
					switch {
					case !quietAt(q, at, location):
						next[i] = at
					case i+1 < minutes:
						next[i] = next[i+1]
					}
				}
				for i := 0; i < 60*60; i += 7 {
					at := from.Add(time.Duration(i) * time.Minute)
					got := q.Next(at, location)
					if !got.Equal(next[i]) || got.Before(at) || quietAt(q, got, location) || !q.Next(got, location).Equal(got) {
						t.Fatalf("%s, quiet from %s to %s: Next(%s) = %s, want %s", name, q.From, q.To, at.In(location), got.In(location), next[i].In(location))
					}
					if late := q.Next(at.Add(29*time.Second), location); quietAt(q, at, location) && !late.Equal(got) {
						t.Fatalf("%s, quiet from %s to %s: Next(%s and 29 s) = %s, want %s", name, q.From, q.To, at.In(location), late.In(location), got.In(location))
					}
				}
			}
		}
	}
}

// Wherever in a large country a customer lives, no SMS comes at night: all its zones are asked.
// Where the quiet hours leave no hour that is common to all, they are told in the customer's own
// zone, and it is night in none.
func TestQuietHoursOfAWholeCountry(t *testing.T) {
	t.Parallel()
	usual, narrow, none := QuietHours{"21:00", "08:00", "customer"}, QuietHours{"17:00", "12:00", "customer"}, QuietHours{"10:00", "08:00", "customer"}
	for _, test := range []struct {
		name, own string
		q         QuietHours
		at, want  string
	}{
		{"morning in New York is night in Hawaii", "America/New_York", usual, "2027-01-15T13:00:00Z", "2027-01-15T18:00:00Z"},
		{"noon in New York", "America/New_York", usual, "2027-01-15T18:30:00Z", "2027-01-15T18:30:00Z"},
		{"evening in Hawaii is night in New York", "Pacific/Honolulu", usual, "2027-01-16T03:00:00Z", "2027-01-16T18:00:00Z"},
		{"Russia has three hours a day", "Europe/Moscow", usual, "2027-01-15T12:00:00Z", "2027-01-16T06:00:00Z"},
		{"a country of one zone", "Asia/Tokyo", usual, "2027-01-15T13:00:00Z", "2027-01-15T23:00:00Z"},
		{"the playbook's own zone", "America/New_York", QuietHours{"21:00", "08:00", "Europe/Berlin"}, "2027-01-15T21:00:00Z", "2027-01-16T07:00:00Z"},
		{"no hour is common: not before it is day in Hawaii", "America/New_York", narrow, "2027-01-15T17:00:00Z", "2027-01-15T18:00:00Z"},
		{"nor after it is night in the customer's zone", "America/New_York", narrow, "2027-01-15T23:00:00Z", "2027-01-16T18:00:00Z"},
		{"nothing but the customer's own zone is left", "America/New_York", none, "2027-01-15T17:00:00Z", "2027-01-16T13:00:00Z"},
		{"none are quiet", "America/New_York", QuietHours{"00:00", "00:00", "customer"}, "2027-01-15T05:00:00Z", "2027-01-15T05:00:00Z"},
	} {
		at, want := parsed(t, test.at), parsed(t, test.want)
		if got := test.q.NextFor(at, zone.Beside(located(t, test.own))); !got.Equal(want) {
			t.Errorf("%s: %s, want %s", test.name, got.UTC(), want)
		}
	}
	// At any moment of a year, and so on both sides of each change of the clocks.
	zones := zone.Beside(located(t, "America/Chicago"))
	for at := parsed(t, "2027-01-01T00:00:00Z"); at.Year() == 2027; at = at.Add(5*time.Hour + 17*time.Minute) {
		next := usual.NextFor(at, zones)
		for _, location := range zones {
			if quietAt(usual, next, location) {
				t.Fatalf("%s, put off to %s", at, next.In(location))
			}
		}
		if next.Before(at) || next.Sub(at) > 24*time.Hour || !usual.NextFor(next, zones).Equal(next) {
			t.Fatalf("%s, put off to %s", at, next)
		}
	}
}

func parsed(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
