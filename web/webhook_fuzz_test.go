package web

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"phantom/ghost"
)

// FuzzEvent: what is signed is read as what it says, or refused without a word of it.
func FuzzEvent(f *testing.F) {
	for _, text := range []string{
		"", "{}", "null", "[]", `{"id":"evt_1"}`,
		`{"id":"evt_1","type":"invoice.paid","account":"acct_1","created":1700000000,"livemode":true,"data":{"object":{"id":"in_1","subscription":"sub_1"}}}`,
		`{"id":"evt_1","type":"charge.refunded","created":1,"data":{"object":{"id":"ch_1","invoice":{"id":"in_1"},"charge":null}}}`,
		`{"id":"evt_1","type":"x","created":1e3,"data":{"object":{"id":{"id":{"id":"x"}}}}}`,
		`{"ID":"evt_1","Type":"x","CREATED":5,"data":{"object":[]}}`,
		strings.Repeat("[", 100), `{"id":"\ud800","type":"\u0000","created":8589934592}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := decodeEvent(body)
		if err != nil {
			if !errors.Is(err, ghost.ErrInvalidEvent) || err.Error() != ghost.ErrInvalidEvent.Error() || e != (ghost.Event{}) {
				t.Errorf("%v, %+v", err, e)
			}
			return
		}
		if !json.Valid(body) || e.ID == "" || e.Type == "" || e.Created.Unix() <= 0 || e.Created.Unix() > lastSecond {
			t.Errorf("%+v of %q", e, body)
		}
	})
}

// FuzzSignature: what passes has one time, near now, and a signature.
func FuzzSignature(f *testing.F) {
	now := time.Unix(1_700_000_000, 0)
	mac := strings.Repeat("0a", 32)
	for _, text := range []string{"", "t=1700000000", "t=1700000000,v1=" + mac, "v1=" + mac + ",t=1700000299", "t=1700000000,v0=x,v1=" + mac + ",v1=" + mac, "t=1700000000,t=1,v1=" + mac} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, header string) {
		got, err := signatureOf([]string{header}, now)
		if err != nil {
			return
		}
		if got != header || strings.Count(","+header, ",t=1") != 1 || !strings.Contains(","+header, ",v1=") || strings.Count(","+header, ",t=") != 1 {
			t.Errorf("%q", header)
		}
		at := header[strings.Index(","+header, ",t=")+2:]
		if at[:10] < "1699999700" || at[:10] > "1700000300" {
			t.Errorf("%q", header)
		}
	})
}
