package cli

import (
	"fmt"
	"io"
	"time"

	"phantom/gate"
	"phantom/money"
	"phantom/oracle"
	"phantom/recovery"
)

// explain writes what the oracle said about a hunt's charges, and what it says about the next one.
func explain(w io.Writer, story recovery.HuntStory, advice recovery.Advice) {
	fmt.Fprintf(w, "Hunt %s of %s, %s since %s; the oracle is %s\n", story.ID, money.Format(story.Amount, story.Currency), story.State, minute(story.BeganAt),
		map[oracle.State]string{oracle.Shadow: "in shadow: fixed rules choose", oracle.On: "on", oracle.Fallback: "in fallback: fixed rules choose"}[advice.State])
	charges := 0
	for _, a := range story.Attempts {
		if a.Action != gate.KindPay {
			continue
		}
		charges++
		result := "planned"
		if a.Result != nil {
			result = string(*a.Result)
		}
		if a.DeclineCode != nil {
			result += ", " + *a.DeclineCode
		}
		fmt.Fprintf(w, "\nCharge %d, for %s: %s\n  because: %s\n", charges, minute(a.PlannedFor), result, a.Reason)
		if a.Advice == nil {
			fmt.Fprintln(w, "  the oracle was not asked")
			continue
		}
		said := a.Advice
		chose := "fixed rules, for the oracle was not on"
		if said.Arm != nil {
			chose = map[string]string{oracle.ArmOracle: "the oracle", oracle.ArmHeuristic: "fixed rules, for the customer is of the tenth that is compared"}[*said.Arm]
		}
		fmt.Fprintf(w, "  chosen by %s\n  the oracle (model %d) foretold %s\n", chose, said.Model, chance(said.P, said.Low, said.High, said.Confidence))
		switch {
		case said.OracleAt == nil:
			fmt.Fprintf(w, "  its own choice: no charge, because %s\n", said.Reason)
		case !said.OracleAt.Equal(a.PlannedFor):
			fmt.Fprintf(w, "  its own choice: %s, %.1f %%, because %s\n", minute(*said.OracleAt), 100*said.OracleP, said.Reason)
		}
		if !said.HeuristicAt.Equal(a.PlannedFor) {
			fmt.Fprintf(w, "  the fixed rules' choice: %s\n", minute(said.HeuristicAt))
		}
	}
	if advice.Why != nil {
		fmt.Fprintf(w, "\nNo charge follows now: %s\n", *advice.Why)
		return
	}
	if advice.Planned != nil {
		fmt.Fprintf(w, "\nA charge is planned for %s.\n", minute(*advice.Planned))
	}
	model := "what is known before any charge"
	if advice.Model != nil {
		model = fmt.Sprintf("model %d", *advice.Model)
	}
	fmt.Fprintf(w, "\nThe next charge, if it were planned now, by %s:\n", model)
	for _, m := range append([]recovery.AdvisedMoment{*advice.Next}, advice.Alternatives...) {
		moment(w, m)
	}
	fmt.Fprintln(w, "By the fixed rules:")
	moment(w, *advice.Rules)
}

func moment(w io.Writer, m recovery.AdvisedMoment) {
	fmt.Fprintf(w, "  %s  %s\n    %s\n", minute(m.At), chance(m.P, m.Low, m.High, m.Confidence), m.Reason)
}

func minute(t time.Time) string { return t.UTC().Format("Mon 2006-01-02 15:04Z") }

func chance(p, low, high float64, confidence string) string {
	return fmt.Sprintf("%.1f %% (%.1f to %.1f, %s confidence)", 100*p, 100*low, 100*high, confidence)
}
