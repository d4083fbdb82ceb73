package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"phantom/app"
	"phantom/db"
	"phantom/report"
)

func writeReport(ctx context.Context, call Call) error {
	flags := newFlags("report")
	account := flags.String("merchant", "", "the account to report on, acct_…")
	path := flags.String("o", "report.html", "the file to write; - for standard output")
	if err := call.parse(flags); err != nil {
		return err
	}
	if err := checkAccount("report", *account); err != nil {
		return err
	}
	if *path == "" {
		return misuse("%s", "phantom report: -o names no file: give a name, or - for standard output")
	}
	a, err := call.open(ctx, app.Needs{Database: true, Key: true})
	if err != nil {
		return err
	}
	defer a.Close()
	r, err := report.Load(ctx, a.Pool, *account)
	if errors.Is(err, report.ErrUnknownAccount) {
		return unknownAccount("report", *account)
	}
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		return fmt.Errorf("[SERVER] cannot draw the report: %w", err)
	}
	if *path == "-" {
		_, err := page.WriteTo(call.Stdout)
		return err
	}
	if err := report.WriteFile(*path, page.Bytes()); err != nil {
		return fmt.Errorf("[SERVER] cannot write the report: %w", err)
	}
	_, err = fmt.Fprintln(call.Stdout, *path)
	return err
}
