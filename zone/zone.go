// Package zone knows the time zones of each country, and in which of them a customer is taken to
// live.
package zone

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// OfCustomer is the time zone in which a customer lives, as far as a charge tells: that of the
// billing country (ISO 3166 alpha-2). A country with several has the account's zone if that is one
// of them, and else the one most people live in. Without a country that is known it is the
// account's zone, and without that UTC. Called once for each charge, it costs some 100 ns.
func OfCustomer(country, accountZone string) *time.Location {
	zones := countryZones[strings.ToUpper(country)]
	switch len(zones) {
	case 0:
		return Named(accountZone)
	case 1:
		return Named(zones[0])
	}
	if canonical, ok := zoneAliases[accountZone]; ok {
		accountZone = canonical
	}
	if slices.Contains(zones, accountZone) {
		return Named(accountZone)
	}
	return Named(zones[0])
}

// loadedZones keeps what time.LoadLocation reads from disk each time. Names that it does not know
// are kept too: they come from merchants, of whom each has one.
var loadedZones = struct {
	sync.RWMutex
	byName map[string]*time.Location
}{byName: map[string]*time.Location{}}

// Named is UTC for a name that is none, and for "Local", which would be this machine's zone.
func Named(name string) *time.Location {
	loadedZones.RLock()
	zone, ok := loadedZones.byName[name]
	loadedZones.RUnlock()
	if ok {
		return zone
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		zone = time.UTC
	}
	loadedZones.Lock()
	defer loadedZones.Unlock()
	loadedZones.byName[name] = zone
	return zone
}

// NamedOr is the zone of that name, or another one where the name is none. It is never this
// machine's own.
func NamedOr(name *string, otherwise *time.Location) *time.Location {
	if name == nil || *name == "" || *name == "Local" {
		return otherwise
	}
	zone, err := time.LoadLocation(*name)
	if err != nil {
		return otherwise
	}
	return zone
}

// OfGhost is where a ghost's customer is taken to live: in the zone that their charges tell, or
// else in their merchant's.
func OfGhost(ghost, merchant *string) *time.Location {
	return NamedOr(ghost, NamedOr(merchant, time.UTC))
}

// InCountries are the time zones of countries (ISO 3166 alpha-2), none for those that are not
// known.
func InCountries(countries ...string) []*time.Location {
	var all []*time.Location
	for _, country := range countries {
		for _, name := range countryZones[strings.ToUpper(country)] {
			all = append(all, Named(name))
		}
	}
	return all
}

// Beside are all time zones of the country in which a zone lies, itself the first: wherever in it a
// customer may live.
func Beside(own *time.Location) []*time.Location {
	name := own.String()
	if canonical, ok := zoneAliases[name]; ok {
		name = canonical
	}
	all := []*time.Location{own}
	for _, other := range countryOf()[name] {
		if other != name {
			all = append(all, Named(other))
		}
	}
	return all
}

// countryOf are the zones of the country that has a zone, by the zone's name.
var countryOf = sync.OnceValue(func() map[string][]string {
	all := map[string][]string{}
	for _, zones := range countryZones {
		for _, name := range zones {
			if len(zones) > len(all[name]) {
				all[name] = zones
			}
		}
	}
	return all
})
