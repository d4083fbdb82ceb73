package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"phantom/doctor"
)

// diagnose looks at everything that this program stands on.
func diagnose(ctx context.Context, call Call) error {
	flags := newFlags("doctor")
	asJSON := flags.Bool("json", false, "print JSON")
	if err := call.parse(flags); err != nil {
		return err
	}
	d, stop := doctor.Run(ctx, call.Getenv, call.Stderr)
	defer stop()
	if err := printDiagnosis(d, *asJSON, call.Stdout); err != nil {
		return err
	}
	switch failed := d.Count(doctor.Fail); failed {
	case 0:
		return nil
	case 1:
		return errors.New("phantom doctor: 1 check failed")
	default:
		return fmt.Errorf("phantom doctor: %d checks failed", failed)
	}
}

func printDiagnosis(d doctor.Diagnosis, asJSON bool, stdout io.Writer) error {
	if asJSON {
		return json.NewEncoder(stdout).Encode(struct {
			Status doctor.Status  `json:"status"`
			Checks []doctor.Check `json:"checks"`
		}{d.Status(), d.Checks})
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, c := range d.Checks {
		text := c.Detail
		if c.Advice != "" {
			text += ": " + c.Advice
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", c.Status, c.Name, text)
	}
	return table.Flush()
}
