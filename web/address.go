package web

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// clientAddress is whom a limit by addresses counts: the peer, or, where that is a trusted proxy,
// the rightmost address of X-Forwarded-For that is none. What stands left of it is what anybody may
// have sent. Of IPv6 it is the /64, of which one customer has all addresses.
func (s *Server) clientAddress(r *http.Request) netip.Addr {
	client := parseHop(r.RemoteAddr)
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !s.trusts(client) {
			break
		}
		address := parseHop(strings.TrimSpace(hop))
		if !address.IsValid() { // the last proxy that said who it was stands for all behind it
			break
		}
		client = address
	}
	if client.Is6() {
		network, _ := client.Prefix(64)
		return network.Addr()
	}
	return client
}

func (s *Server) trusts(address netip.Addr) bool {
	return slices.ContainsFunc(s.config.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(address) })
}

// parseHop reads an address with or without a port. It is the zero address where there is none.
func parseHop(text string) netip.Addr {
	address, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		withPort, _ := netip.ParseAddrPort(text)
		address = withPort.Addr()
	}
	return address.Unmap().WithZone("")
}
