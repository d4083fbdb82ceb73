package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"phantom/connect"
	"phantom/ghost"
	"phantom/web"
)

// checkEndpoint holds the webhook endpoint at Stripe against the events that PHANTOM uses: what it
// does not listen to is found by the weekly audit alone.
func (d *Diagnosis) checkEndpoint(ctx context.Context, platform *connect.Service) {
	const name = "webhook endpoint"
	if d.config.PublicURL == nil || d.config.Sandbox {
		d.skip("there is no Stripe account that sends webhooks", name)
		return
	}
	list, ok, err := platform.Endpoints(ctx)
	switch {
	case err != nil:
		d.add(Warn, name, "not checked: "+err.Error(), "")
		return
	case !ok:
		d.add(Warn, name, "not checked: the restricted key may not read webhook endpoints", "")
		return
	}
	address := strings.TrimSuffix(d.config.PublicURL.String(), "/") + web.WebhookPath
	var heard []string
	found := false
	for _, e := range list {
		if strings.TrimSuffix(e.URL, "/") != address || e.Status != "enabled" {
			continue
		}
		found = true
		if e.Application != "" {
			heard = append(heard, e.Events...)
		}
	}
	var missing []string
	for _, event := range ghost.EventTypes {
		if !slices.Contains(heard, event) && !slices.Contains(heard, "*") {
			missing = append(missing, event)
		}
	}
	const advice = "change it at Stripe (Developers, Webhooks)"
	switch {
	case !found:
		d.add(Warn, name, "no enabled endpoint at Stripe has the address "+address,
			"add one as the README says, or look whether PUBLIC_URL is the address that Stripe reaches")
	case len(heard) == 0:
		d.add(Warn, name, address+" does not listen to events on connected accounts", advice)
	case len(missing) > 0:
		d.add(Warn, name, fmt.Sprintf("%s does not listen to %s: what these tell is found by the "+
			"weekly audit alone", address, strings.Join(missing, ", ")), advice)
	default:
		d.add(OK, name, "it listens to every event that is used", "")
	}
}
