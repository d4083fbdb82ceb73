package money

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// currencies are those that an amount of Stripe's can be in: what it takes today, and what old
// objects may bear whose currency is no more. It may only grow: what was written with a currency is
// read again. https://docs.stripe.com/currencies
var currencies = strings.Fields(`
	aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn byr bzd cad cdf chf clp cny cop crc cve czk
	djf dkk dop dzd eek egp etb eur fjd fkp gbp gel ghs gip gmd gnf gtq gyd hkd hnl hrk htg huf idr ils inr isk jmd jod jpy kes kgs khr kmf
	krw kwd kyd kzt lak lbp lkr lrd lsl ltl lvl mad mdl mga mkd mmk mnt mop mro mru mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab
	pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sll sos srd std stn svc szl thb tjs tnd top try ttd twd tzs uah
	ugx usd uyu uzs vef ves vnd vuv wst xaf xcd xcg xof xpf yer zar zmw`)

// Known says whether Stripe has a currency. Its code is in lower case, as Stripe writes it.
func Known(currency string) bool {
	_, found := slices.BinarySearch(currencies, currency)
	return found
}

var currencyShape = regexp.MustCompile(`^[a-z]{3}$`)

// Wrong says what amounts by currency must be, in words that go on from their field's name. It is
// empty where nothing is wrong with them.
func Wrong(amounts map[string]int64) (rule string) {
	for _, currency := range slices.Sorted(maps.Keys(amounts)) {
		switch {
		case !currencyShape.MatchString(currency) || amounts[currency] < 0:
			return "must map currencies in three lower-case letters to whole numbers of minor units"
		case !Known(currency): // it would be a limit that never holds
			return "must name currencies that Stripe has, such as usd or eur"
		}
	}
	return ""
}
