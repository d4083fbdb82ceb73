package web

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestClientAddress(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("192.0.2.7/32")}
	for _, test := range []struct {
		name, peer string
		headers    []string
		want       string
	}{
		{"no proxy", "203.0.113.9:4711", nil, "203.0.113.9"},
		{"an untrusted peer says who it is", "203.0.113.9:4711", []string{"198.51.100.1"}, "203.0.113.9"},
		{"loopback is a peer as all others", "127.0.0.1:4711", []string{"198.51.100.1"}, "127.0.0.1"},
		{"behind a proxy", "10.1.2.3:4711", []string{"198.51.100.1"}, "198.51.100.1"},
		{"a proxy that says nothing", "10.1.2.3:4711", nil, "10.1.2.3"},
		{"what the client has made up stands left", "10.1.2.3:4711", []string{"8.8.8.8, 198.51.100.1"}, "198.51.100.1"},
		{"several proxies", "10.1.2.3:4711", []string{"8.8.8.8, 198.51.100.1, 192.0.2.7, 10.9.9.9"}, "198.51.100.1"},
		{"several headers are one list", "10.1.2.3:4711", []string{"8.8.8.8", "198.51.100.1", "10.9.9.9"}, "198.51.100.1"},
		{"proxies alone", "10.1.2.3:4711", []string{"10.4.4.4, 10.5.5.5"}, "10.4.4.4"},
		{"with a port", "10.1.2.3:4711", []string{"198.51.100.1:443"}, "198.51.100.1"},
		{"no address", "10.1.2.3:4711", []string{"unknown"}, "10.1.2.3"},
		{"no address behind a proxy", "10.1.2.3:4711", []string{"198.51.100.1, _hidden, 10.9.9.9"}, "10.9.9.9"},
		{"nothing", "10.1.2.3:4711", []string{""}, "10.1.2.3"},
		{"IPv6 is counted by its /64", "[2001:db8:1:2:3:4:5:6]:4711", nil, "2001:db8:1:2::"},
		{"IPv6 behind a proxy", "[fd00::1]:4711", []string{"[2001:db8:1:2:ffff::1]:99"}, "2001:db8:1:2::"},
		{"IPv4 in IPv6", "[::ffff:10.1.2.3]:4711", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"a zone", "[fe80::1%eth0]:4711", nil, "fe80::"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = test.peer
			for _, header := range test.headers {
				r.Header.Add("X-Forwarded-For", header)
			}
			s := &Server{config: Config{TrustedProxies: proxies}}
			if got := s.clientAddress(r); got.String() != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}
