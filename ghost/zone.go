package ghost

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// customerZone is the time zone in which a customer lives, as far as a charge tells: that of the billing country (ISO 3166 alpha-2).
// A country with several has the account's zone if that is one of them, and else the one most people live in. Without a country
// that is known it is the account's zone, and without that UTC. Called once for each charge, it costs some 100 ns.
func customerZone(country, accountZone string) *time.Location {
	zones := countryZones[strings.ToUpper(country)]
	switch len(zones) {
	case 0:
		return zoneNamed(accountZone)
	case 1:
		return zoneNamed(zones[0])
	}
	if canonical, ok := zoneAliases[accountZone]; ok {
		accountZone = canonical
	}
	if slices.Contains(zones, accountZone) {
		return zoneNamed(accountZone)
	}
	return zoneNamed(zones[0])
}

// loadedZones keeps what time.LoadLocation reads from disk each time. Names that it does not know are kept too: they come from
// merchants, of whom each has one.
var loadedZones = struct {
	sync.RWMutex
	byName map[string]*time.Location
}{byName: map[string]*time.Location{}}

// zoneNamed is UTC for a name that is none, and for "Local", which would be this machine's zone.
func zoneNamed(name string) *time.Location {
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
