package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"phantom/db"
	"phantom/recovery"
)

// checkParked names the merchants whose tasks stand still. Of those who are connected it should be
// none, or for half an hour.
func (d *Diagnosis) checkParked(ctx context.Context, queries *db.Queries) error {
	t, err := queries.DoctorTasks(ctx)
	if err != nil {
		return err
	}
	parked, err := queries.DoctorParked(ctx, haltsNamed)
	if err != nil {
		return err
	}
	if len(parked) == 0 {
		d.add(OK, "parked", "no task is parked", "")
		return nil
	}
	var said []string
	connected := false
	for _, p := range parked {
		connected = connected || p.Connected
		said = append(said, parkedWords(p))
	}
	if more := parked[0].Accounts - int64(len(said)); more > 0 {
		said = append(said, fmt.Sprintf("%d more merchants", more))
	}
	detail := fmt.Sprintf("%d tasks wait for Stripe to accept their merchant's token: of %s",
		t.Parked, strings.Join(said, ", of "))
	if connected {
		d.add(Warn, "parked", detail, "Stripe refuses the token of a connected merchant and is "+
			"asked again within half an hour; where it lasts, the merchant has to connect again")
	} else {
		detail += "; they go on by themselves when the merchant connects again"
		d.add(OK, "parked", detail, "")
	}
	return nil
}

func parkedWords(p db.DoctorParkedRow) string {
	words := p.Account + " " + fmt.Sprint(p.Tasks)
	if p.Sent > 0 {
		words += fmt.Sprintf(", %d of them sent with an unknown outcome", p.Sent)
	}
	state := "connected, refused"
	if !p.Connected {
		state = "disconnected"
	}
	if p.Since != nil {
		state += " since " + shortTime(*p.Since)
	}
	return words + " (" + state + ")"
}

// checkDisputes names statuses of disputes that are newer than this program: what they mean is not
// guessed, and their customers are left alone.
func (d *Diagnosis) checkDisputes(ctx context.Context, queries *db.Queries) error {
	unknown, err := queries.DoctorDisputes(ctx)
	if err != nil {
		return err
	}
	if len(unknown) == 0 {
		d.add(OK, "disputes", "no dispute is in a status that this program does not know", "")
		return nil
	}
	d.add(Warn, "disputes", fmt.Sprintf("disputes are in statuses that this program does not know "+
		"(%.200s): they count as open, so their customers are not charged",
		strings.Join(unknown, ", ")), "run a newer phantom")
	return nil
}

// checkHalts names what is halted: it is easily forgotten, and everything else looks well. A
// merchant's own halt is their business.
func (d *Diagnosis) checkHalts(ctx context.Context, queries *db.Queries) error {
	halts, err := queries.HaltReadAccounts(ctx)
	if err != nil {
		return err
	}
	if len(halts) == 0 {
		d.add(OK, "halts", "nothing is halted", "")
		return nil
	}
	var said []string
	status, advice := OK, ""
	operators := func(h db.HaltReadAccountsRow) bool { return h.By == recovery.ByOperator }
	if slices.ContainsFunc(halts, operators) {
		status, advice = Warn, "when hunts may send again, lift it by the command in brackets"
	}
	for _, h := range halts[:min(len(halts), haltsNamed)] {
		whose, lift := HaltWords(h)
		said = append(said, fmt.Sprintf("%s since %s (%s)", whose, shortTime(h.HaltedAt), lift))
	}
	if more := len(halts) - len(said); more > 0 {
		said = append(said, fmt.Sprintf("%d more", more))
	}
	d.add(status, "halts", "no charge and no message of "+strings.Join(said, ", of "), advice)
	return nil
}

// checkHolds names the merchants whose breaker is open: nobody there is lowered until a person says
// so.
func (d *Diagnosis) checkHolds(ctx context.Context, queries *db.Queries) error {
	holds, err := queries.DoctorHolds(ctx)
	if err != nil {
		return err
	}
	if len(holds) == 0 {
		d.add(OK, "access", "the breaker is open for nobody", "")
		return nil
	}
	var said []string
	for _, h := range holds[:min(len(holds), haltsNamed)] {
		said = append(said, fmt.Sprintf("%s since %s, %d held", h.Account, shortTime(h.OpenedAt), h.Held))
	}
	if more := len(holds) - len(said); more > 0 {
		said = append(said, fmt.Sprintf("%d more", more))
	}
	d.add(Warn, "access", "too many customers would have lost access at once, and nobody loses it until a person says so: "+strings.Join(said, "; "),
		"look at phantom shield status --merchant acct_…, and then release or discard")
	return nil
}

// HaltWords say whose halt one is and what lifts it.
func HaltWords(h db.HaltReadAccountsRow) (whose, lift string) {
	switch {
	case h.By != recovery.ByOperator:
		return h.Account + ", by themselves,", "the merchant's own DELETE /api/halt"
	case h.Account == "":
		return "all merchants", "phantom stop --lift"
	}
	return h.Account, "phantom stop --merchant " + h.Account + " --lift"
}

func shortTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
