package money

import (
	"strings"
	"testing"
)

func TestLocal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		amount             int64
		currency, language string
		want               string
	}{
		{4900, "usd", "en", "$49.00"}, {4900, "USD", "en", "$49.00"}, {1_234_567, "usd", "en", "$12,345.67"}, {-500, "usd", "en", "-$5.00"}, {5, "usd", "en", "$0.05"},
		{4900, "eur", "en", "€49.00"}, {4900, "cad", "en", "CA$49.00"}, {4900, "chf", "en", "CHF 49.00"}, {4900, "sek", "en", "SEK 49.00"}, {4900, "jpy", "en", "¥4,900"},
		{1500, "kwd", "en", "KWD 1.500"},
		{4900, "eur", "de", "49,00 €"}, {1_234_567, "eur", "de", "12.345,67 €"}, {4900, "usd", "de", "49,00 $"}, {4900, "chf", "de", "49,00 CHF"}, {-4900, "eur", "de", "-49,00 €"},
		{1_234_567, "eur", "fr", "12 345,67 €"}, {4900, "eur", "es", "49,00 €"}, {4900, "eur", "it", "49,00 €"}, {4900, "jpy", "de", "4.900 ¥"},
		{4900, "brl", "pt-BR", "R$ 49,00"}, {4900, "usd", "pt-BR", "US$ 49,00"}, {4900, "chf", "pt-BR", "CHF 49,00"}, {4900, "eur", "nl", "€ 49,00"}, {123_456, "eur", "nl", "€ 1.234,56"},
		{4900, "sek", "sv", "49,00 kr"}, {4900, "pln", "pl", "49,00 zł"}, {4900, "pln", "en", "PLN 49.00"}, {4900, "jpy", "ja", "4,900円"}, {4900, "usd", "ja", "$49.00"},
		{4900, "usd", "es", "49,00 US$"}, {123_456, "usd", "es/MX", "US$1,234.56"}, {123_456, "usd", "es/AR", "US$ 1.234,56"}, {4900, "eur", "es/ES", "49,00 €"},
		{4900, "usd", "en/AU", "US$49.00"}, {4900, "aud", "en/AU", "A$49.00"}, {4900, "usd", "en/US", "$49.00"}, {4900, "usd", "en/DE", "$49.00"},
		{4900, "usd", "xx", "$49.00"}, {0, "eur", "de", "0,00 €"},
	} {
		language, country, _ := strings.Cut(test.language, "/")
		if got := Local(test.amount, test.currency, language, country); got != test.want {
			t.Errorf("%d %s in %s is %q, want %q", test.amount, test.currency, test.language, got, test.want)
		}
	}
}
