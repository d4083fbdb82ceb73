package money

import (
	"math"
	"slices"
	"testing"
)

func TestFormat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		amount   int64
		currency string
		want     string
	}{
		{0, "usd", "USD 0.00"},
		{5, "usd", "USD 0.05"},
		{50, "eur", "EUR 0.50"},
		{100, "usd", "USD 1.00"},
		{99_999, "usd", "USD 999.99"},
		{100_000, "USD", "USD 1,000.00"},
		{1_234_567, "usd", "USD 12,345.67"},
		{123_456_789_012, "gbp", "GBP 1,234,567,890.12"},
		{-1_234_567, "usd", "-USD 12,345.67"},
		{0, "jpy", "JPY 0"},
		{500, "jpy", "JPY 500"},
		{1_234_567, "krw", "KRW 1,234,567"},
		{7, "xof", "XOF 7"},
		{500, "mga", "MGA 500"}, // two decimals in ISO 4217
		{0, "kwd", "KWD 0.000"},
		{1, "bhd", "BHD 0.001"},
		{5_120, "kwd", "KWD 5.120"},
		{-1_500, "kwd", "-KWD 1.500"},
		{1_234_567_890, "tnd", "TND 1,234,567.890"},
		{500, "isk", "ISK 5.00"}, // none in ISO 4217, hundredths at Stripe
		{500, "ugx", "UGX 5.00"},
		{500, "huf", "HUF 5.00"},
		{math.MaxInt64, "usd", "USD 92,233,720,368,547,758.07"},
		{math.MinInt64, "usd", "-USD 92,233,720,368,547,758.08"},
	} {
		if got := Format(c.amount, c.currency); got != c.want {
			t.Errorf("Format(%d, %q) = %q, want %q", c.amount, c.currency, got, c.want)
		}
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestKnown(t *testing.T) {
	t.Parallel()
	if !slices.IsSorted(currencies) || len(slices.Compact(slices.Clone(currencies))) != len(currencies) {
		t.Error("the table is not in order, and is searched by it")
	}
	for _, currency := range []string{"usd", "eur", "aed", "zmw", "jpy", "kwd", "ghs", "xcg", "hrk"} {
		if !Known(currency) {
			t.Errorf("%s is not known", currency)
		}
	}
	for currency := range decimals {
		if !Known(currency) {
			t.Errorf("%s has decimals and is not known", currency)
		}
	}
	for _, currency := range []string{"", "uds", "USD", "us", "euro", "xxx", "zzz"} {
		if Known(currency) {
			t.Errorf("%q is known", currency)
		}
	}
}
