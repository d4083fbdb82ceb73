package playbook

import (
	"time"

	"phantom/zone"
)

// QuietHours are local times, from 00:00 to 23:59; they may span midnight, and From = To is none.
type QuietHours struct {
	From string `json:"from"`
	To   string `json:"to"`
	Zone string `json:"zone"` // an IANA name; "customer" is the customer's own
}

// night is when no SMS comes to any zone of a customer's country, no matter what a playbook says,
// as long as there is a choice.
var night = QuietHours{From: "21:00", To: "08:00", Zone: "customer"}

// zone is where quiet hours are told.
func (q QuietHours) zone(customer *time.Location) *time.Location {
	if q.Zone == "customer" {
		return customer
	}
	if named, err := time.LoadLocation(q.Zone); err == nil {
		return named
	}
	return customer
}

// Next is the first moment from at on that is not within quiet hours, told in the customer's zone.
func (q QuietHours) Next(at time.Time, customer *time.Location) time.Time {
	told := q.zone(customer)
	for {
		local := at.In(told)
		clock := local.Format("15:04")
		quiet := q.From <= clock && clock < q.To
		if q.From > q.To {
			quiet = clock >= q.From || clock < q.To
		}
		if !quiet {
			return at
		}
		at = zone.Toward(local, q.To)
	}
}

// NextFor is Next for somebody who may live in any of these zones, and most likely in the first:
// the first moment that is in none of them within quiet hours. Where there is no such moment the
// quiet hours are told in the first zone and it is night in none, and where there is none of those
// either the first zone alone counts: else a message would never come.
func (q QuietHours) NextFor(at time.Time, zones []*time.Location) time.Time {
	own := zones[:1]
	if len(zones) == 1 || q.Zone != "customer" || q.From == q.To {
		return q.Next(at, own[0])
	}
	if next, ok := common(at, told{q, zones}); ok {
		return next
	}
	if next, ok := common(at, told{q, own}, told{night, zones}); ok {
		return next
	}
	return q.Next(at, own[0])
}

// told are quiet hours and where they are told.
type told struct {
	hours QuietHours
	zones []*time.Location
}

// common is the first moment from at on that is within none of these quiet hours. It reports false
// where two days have none.
func common(at time.Time, all ...told) (time.Time, bool) {
	for next := at; next.Sub(at) <= 48*time.Hour; {
		before := next
		for _, t := range all {
			for _, where := range t.zones {
				next = t.hours.Next(next, where)
			}
		}
		if next.Equal(before) {
			return next, true
		}
	}
	return time.Time{}, false
}
