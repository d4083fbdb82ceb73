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
	"de": continent, "es": continent, "it": continent,
	"nl":    {group: ".", point: ",", space: " "},
	"pt-BR": {group: ".", point: ",", space: " ", symbols: map[string]string{"usd": "US$"}},
	"fr":    withSpaces,
	"sv":    {group: " ", point: ",", after: true, symbols: map[string]string{"sek": "kr"}},
	"pl":    {group: " ", point: ",", after: true, symbols: map[string]string{"pln": "zł"}},
}

// Local writes an amount of Stripe's, in minor units, as people who speak a language do: "$49.00",
// "49,00 €", "R$ 49,00". A language that is not known is English, and a currency that has no symbol
// bears its code.
func Local(amount int64, currency, language string) string {
	s, known := styles[language]
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
