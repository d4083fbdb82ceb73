package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"phantom/oracle"
)

// checkOracle says who chooses the moments of charges, and what is wrong with the oracle.
func (d *Diagnosis) checkOracle(ctx context.Context, service *oracle.Service, now time.Time) error {
	var said []string
	status, advice := OK, ""
	for _, livemode := range []bool{true, false} {
		standing, err := service.Standing(ctx, livemode)
		if err != nil {
			return err
		}
		_, k, err := service.Model(ctx, livemode)
		if err != nil {
			return err
		}
		words := fmt.Sprintf("%s mode: %s", oracle.Mode(livemode), standing.State)
		if !standing.Since.IsZero() {
			words += " since " + shortTime(standing.Since)
		}
		switch {
		case k.Spoilt:
			status, advice = Warn, "run phantom oracle rebuild; fixed rules choose meanwhile"
			words += ", and its model cannot be read, or is not sound"
		case k.BuiltAt == nil:
			words += ", no model yet"
		case now.Sub(*k.BuiltAt) > oracle.Oldest:
			status, advice = Warn, "see that phantom work or serve runs: it makes a model each night; fixed rules choose meanwhile"
			words += fmt.Sprintf(", and its model is %d days old", int(now.Sub(*k.BuiltAt)/(24*time.Hour)))
		}
		if standing.State == oracle.Fallback {
			if words += " (" + standing.Why + ")"; advice == "" {
				status, advice = Warn, "fixed rules choose; it is tried again by itself: phantom oracle status has the figures"
			}
		}
		said = append(said, words)
	}
	d.add(status, "oracle", strings.Join(said, "; "), advice)
	return nil
}
