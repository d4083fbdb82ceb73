package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/sandbox"
)

// However the account's facts fail, the merchant is connected and the failure is logged.
func TestFactsFail(t *testing.T) {
	t.Parallel()
	type failure struct {
		name  string
		fault sandbox.Fault
		cause string
	}
	tests := []failure{
		{"dropped before", sandbox.Fault{Drop: true}, "closed the connection"},
		{"dropped after", sandbox.Fault{Drop: true, After: true}, "closed the connection"},
		{"truncated", sandbox.Fault{Truncate: true}, "cannot be read"},
		{"silent", sandbox.Fault{Delay: time.Hour}, "did not answer in time"},
		{"HTML", sandbox.Fault{Status: 200, Body: "<html>" + canary}, "cannot be read"},
		{"an empty object", sandbox.Fault{Status: 200, Body: "{}"}, "lacks an account"},
		{"null", sandbox.Fault{Status: 200, Body: "null"}, ""},
		{"only an id", sandbox.Fault{Status: 200, Body: `"acct_1Other"`}, ""},
		{"another account", sandbox.Fault{Status: 200, Body: `{"id":"acct_1Other","country":"FR","default_currency":"chf"}`}, "another account"},
		{"a currency that is a number", sandbox.Fault{Status: 200, Body: `{"id":"acct_1Grant","country":"FR","default_currency":5}`}, "cannot be read"},
	}
	for _, status := range []int{400, 401, 403, 404, 409, 429, 500, 503} {
		tests = append(tests, failure{fmt.Sprint(status), sandbox.Fault{
			Status: status, Body: `{"error":{"type":"api_error","message":"key sk_test_` + canary + `"}}`}, fmt.Sprintf("stripe answered %d", status)})
	}
	database := dbtest.URL(t)
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *options) { o.database, o.seed = database, uint64(i+1) })
			test.fault.Path, test.fault.Times = "/v1/account", 100
			b.world.Fail(test.fault)
			b.browser().handshake().wantSuccess(t)
			account := b.world.Accounts()[0]
			merchant, err := db.New(b.pool).MerchantGetByStripeUserID(t.Context(), account)
			if err != nil {
				t.Fatal(err)
			}
			if merchant.Country != nil || merchant.DefaultCurrency != nil || merchant.Timezone != nil || merchant.BusinessCategory != nil {
				t.Errorf("facts were stored: %+v", merchant)
			}
			if _, err := merchant.AccessToken.Reveal("merchants.access_token:" + account); err != nil {
				t.Error(err)
			}
			all := b.lines()
			message, level := "[STRIPE] account facts not read", "WARN"
			if test.name == "another account" || test.name == "only an id" {
				message, level, test.cause = "[SECURITY] a token answers for another account: disconnect this one", "ERROR", ""
			}
			if len(all) != 2 || all[0].Msg != message || all[0].Level != level || all[0].Account != account ||
				!strings.Contains(all[0].Cause, test.cause) || all[1].Msg != "[STRIPE] merchant connected" {
				t.Errorf("log %+v", all)
			}
		})
	}
}

// The merchant's token goes to nobody else.
func TestFactsRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	trap := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s was followed", r.URL) }))
	t.Cleanup(trap.Close)
	b := setup(t)
	b.world.Fail(sandbox.Fault{Path: "/v1/account", Status: 302, Body: "{}", Header: http.Header{"Location": {trap.URL + "/v1/account"}}})
	b.browser().handshake().wantSuccess(t)
}

// Facts of the wrong shape are left out one by one: the rest is stored.
func TestFactsOfNonsense(t *testing.T) {
	t.Parallel()
	const facts = `{"id":%q,"object":"account","country":%s,"default_currency":%s,
		"business_profile":{"mcc":%s},"settings":{"dashboard":{"timezone":%s}}}`
	database := dbtest.URL(t)
	for i, test := range []struct {
		name                         string
		country, currency, mcc, zone string // as JSON
		wantCountry, wantCurrency    string // "" is NULL
		wantCategory, wantZone       string
	}{
		{"all good", `"FR"`, `"eur"`, `"5812"`, `"Europe/Paris"`, "FR", "eur", "food", "Europe/Paris"},
		{"all null", `null`, `null`, `null`, `null`, "", "", "other", ""},
		{"country by name", `"Germany"`, `"eur"`, `"5812"`, `"Europe/Paris"`, "", "eur", "food", "Europe/Paris"},
		{"country in small letters", `"fr"`, `"eur"`, `"5812"`, `"Europe/Paris"`, "", "eur", "food", "Europe/Paris"},
		{"country with a line break", `"FR\n"`, `"eur"`, `"5812"`, `"Europe/Paris"`, "", "eur", "food", "Europe/Paris"},
		{"currency in capitals", `"FR"`, `"EUR"`, `"5812"`, `"Europe/Paris"`, "FR", "", "food", "Europe/Paris"},
		{"currency too long", `"FR"`, `"euro"`, `"5812"`, `"Europe/Paris"`, "FR", "", "food", "Europe/Paris"},
		{"mcc of letters", `"FR"`, `"eur"`, `"abc"`, `"Europe/Paris"`, "FR", "eur", "other", "Europe/Paris"},
		{"time zone with dots", `"FR"`, `"eur"`, `"5812"`, `"../../etc/passwd"`, "FR", "eur", "food", ""},
		{"time zone from the root", `"FR"`, `"eur"`, `"5812"`, `"/etc/passwd"`, "FR", "eur", "food", ""},
		{"time zone of the machine", `"FR"`, `"eur"`, `"5812"`, `"Local"`, "FR", "eur", "food", ""},
		{"time zone unknown", `"FR"`, `"eur"`, `"5812"`, `"Mars/Olympus"`, "FR", "eur", "food", ""},
		{"time zone of 10 kB", `"FR"`, `"eur"`, `"5812"`, `"` + strings.Repeat("a", 10<<10) + `"`, "FR", "eur", "food", ""},
		{"time zone with a zero byte", `"FR"`, `"eur"`, `"5812"`, `"Europe/Paris\u0000"`, "FR", "eur", "food", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			account := fmt.Sprintf("acct_1Nonsense%d", i)
			b := setup(t, func(o *options) {
				o.database = database
				o.token = reply(http.StatusOK, grant(map[string]any{"stripe_user_id": account}))
				o.facts = reply(http.StatusOK, fmt.Sprintf(facts, account, test.country, test.currency, test.mcc, test.zone))
			})
			b.browser().handshake().wantSuccess(t)
			merchant, err := db.New(b.pool).MerchantGetByStripeUserID(t.Context(), account)
			if err != nil {
				t.Fatal(err)
			}
			for _, fact := range []struct {
				name string
				got  *string
				want string
			}{
				{"country", merchant.Country, test.wantCountry}, {"currency", merchant.DefaultCurrency, test.wantCurrency},
				{"category", merchant.BusinessCategory, test.wantCategory}, {"time zone", merchant.Timezone, test.wantZone},
			} {
				if fact.want == "" && fact.got != nil || fact.want != "" && (fact.got == nil || *fact.got != fact.want) {
					t.Errorf("%s is %v, want %q", fact.name, fact.got, fact.want)
				}
			}
			if l := b.oneLine(); l.Msg != "[STRIPE] merchant connected" {
				t.Errorf("log line %+v", l)
			}
		})
	}
}
