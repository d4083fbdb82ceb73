// Package money writes amounts for people. It imports nothing of ours.
package money

import (
	"strconv"
	"strings"
)

// decimals are the places of the currencies whose amounts Stripe does not give in hundredths. They
// are Stripe's own, which neither ISO 4217 nor CLDR has: ISK and UGX have no decimals any more, and
// Stripe keeps giving them in hundredths. https://docs.stripe.com/currencies#zero-decimal
var decimals = map[string]int{
	"bif": 0, "clp": 0, "djf": 0, "gnf": 0, "jpy": 0, "kmf": 0, "krw": 0, "mga": 0, "pyg": 0, "rwf": 0, "vnd": 0, "vuv": 0,
	"xaf": 0, "xof": 0, "xpf": 0,
	"bhd": 3, "jod": 3, "kwd": 3, "omr": 3, "tnd": 3,
}

// Format writes an amount of Stripe's, in minor units, for people: "USD 12,345.67", "JPY 12,346",
// "-KWD 1.500". By its code, because a dollar sign does not say whose dollars.
func Format(amount int64, currency string) string {
	whole, fraction, negative := digits(amount, currency)
	text := strings.ToUpper(currency) + " " + groupBy(whole, ",")
	if fraction != "" {
		text += "." + fraction
	}
	if negative {
		text = "-" + text
	}
	return text
}

// digits parts an amount into those of the large unit and of the minor one.
func digits(amount int64, currency string) (whole, fraction string, negative bool) {
	places := Decimals(currency)
	all, negative := strings.CutPrefix(strconv.FormatInt(amount, 10), "-")
	if missing := places + 1 - len(all); missing > 0 {
		all = strings.Repeat("0", missing) + all
	}
	return all[:len(all)-places], all[len(all)-places:], negative
}

// Decimals is how many places of a currency's large unit its minor unit stands for.
func Decimals(currency string) int {
	places, special := decimals[strings.ToLower(currency)]
	if !special {
		return 2
	}
	return places
}

// Count writes a number that is not negative for people: "12,345".
func Count(n int64) string { return groupBy(strconv.FormatInt(n, 10), ",") }

// groupBy sets a separator before every three digits.
func groupBy(digits, separator string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + separator + digits[i:]
	}
	return digits
}
