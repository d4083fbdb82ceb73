package sandbox

import (
	"fmt"
	"math/rand/v2"
)

// contacts are how phones and languages look where a merchant is. A number never leads to anybody:
// it lies in a range that is kept for fiction, or begins after the country code with a 0 that no
// network dials.
var contacts = map[string]struct{ phone, locale string }{
	"DE": {"+490%08d", "de"},
	"JP": {"+810%08d", "ja"},
	"GB": {"+440%08d", "en-GB"},
	"KW": {"+9650%07d", "ar"},
	"BR": {"+550%08d", "pt-BR"},
}

// reach says how the customer can be reached: one in twelve has no email, one in four no phone, one
// in three no language, and some speak another one than their neighbours. It draws from numbers of
// its own, so that the rest of the world stays as it is.
func (w *author) reach() {
	r, cu := stream(w.acc.world.seed, "contact", w.acc.ID, w.i), w.customer
	if r.IntN(12) == 0 {
		cu.Email = ""
	}
	if r.IntN(4) > 0 {
		cu.Phone = text(phoneNumber(w.acc.Country, w.i, r))
	}
	cu.PreferredLocales = []string{}
	switch r.IntN(9) {
	case 0, 1, 2: // none
	case 3:
		cu.PreferredLocales = []string{[]string{"en", "fr", "es"}[r.IntN(3)]}
	default:
		locale := contacts[w.acc.Country].locale
		if locale == "" {
			locale = "en"
		}
		cu.PreferredLocales = []string{locale}
	}
}

// phoneNumber is the i-th customer's, in E.164. In North America 555-0100 to 555-0199 of each area
// code belong to nobody.
func phoneNumber(country string, i int, r *rand.Rand) string {
	if c, known := contacts[country]; known {
		return fmt.Sprintf(c.phone, i*7+r.IntN(7))
	}
	return fmt.Sprintf("+1%d55501%02d", 201+i/100%798, i%100)
}
