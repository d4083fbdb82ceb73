package money

import "strings"

// style is how a language writes amounts.
type style struct {
	group, point string
	after        bool   // the symbol comes behind, after a space
	space        string // between a symbol before and the number
	symbols      map[string]string
}

// symbols that all languages understand. A dollar is that of the United States: others have their
// code with it.
var symbols = map[string]string{
	"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "cad": "CA$", "aud": "A$", "nzd": "NZ$", "hkd": "HK$", "mxn": "MX$", "brl": "R$", "inr": "₹", "krw": "₩",
}

var (
	english    = style{group: ",", point: "."}
	continent  = style{group: ".", point: ",", after: true}
	withSpaces = style{group: " ", point: ",", after: true}
)

var styles = map[string]style{
	"en": english,
	"ja": {group: ",", point: ".", symbols: map[string]string{"jpy": "円"}},
	"de": continent, "it": continent,
	"es":    {group: ".", point: ",", after: true, symbols: map[string]string{"usd": "US$"}},
	"nl":    {group: ".", point: ",", space: " "},
	"pt-BR": {group: ".", point: ",", space: " ", symbols: map[string]string{"usd": "US$"}},
	"fr":    withSpaces,
	"sv":    {group: " ", point: ",", after: true, symbols: map[string]string{"sek": "kr"}},
	"pl":    {group: " ", point: ",", after: true, symbols: map[string]string{"pln": "zł"}},
}

// What differs within a language. Where pesos and other dollars are at home, a bare dollar sign
// would mean these.
var (
	american  = style{group: ".", point: ",", space: " ", symbols: map[string]string{"usd": "US$"}}
	mexican   = style{group: ",", point: ".", symbols: map[string]string{"usd": "US$"}}
	dollars   = style{group: ",", point: ".", symbols: map[string]string{"usd": "US$"}}
	byCountry = map[string]map[string]style{
		"es": countries(map[string]style{"AR BO CL CO CR EC PY UY VE": american, "CU DO GT HN MX NI PA PE PR SV US": mexican}),
		"en": countries(map[string]style{"AU BB BS BZ CA FJ GY HK JM NZ SG TT TW": dollars}),
	}
)

func countries(of map[string]style) map[string]style {
	by := map[string]style{}
	for list, s := range of {
		for _, country := range strings.Fields(list) {
			by[country] = s
		}
	}
	return by
}

// Local writes an amount of Stripe's, in minor units, as people do who speak a language and live in
// a country (ISO 3166 alpha-2, "" for unknown): "$49.00", "49,00 €", "R$ 49,00". A language that
// is not known is English, and a currency that has no symbol bears its code.
func Local(amount int64, currency, language, country string) string {
	s, known := byCountry[language][country]
	if !known {
		s, known = styles[language]
	}
	if !known {
		s = english
	}
	currency = strings.ToLower(currency)
	whole, fraction, negative := digits(amount, currency)
	text := groupBy(whole, s.group)
	if fraction != "" {
		text += s.point + fraction
	}
	sign, symbol := "", s.symbols[currency]
	if negative {
		sign = "-"
	}
	switch {
	case symbol == "円":
		return sign + text + symbol
	case symbol == "" && symbols[currency] == "":
		symbol = strings.ToUpper(currency)
		if !s.after {
			return sign + symbol + " " + text
		}
	case symbol == "":
		symbol = symbols[currency]
	}
	if s.after {
		return sign + text + " " + symbol
	}
	return sign + symbol + s.space + text
}
