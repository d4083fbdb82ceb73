package cli

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"fmt"
	"io"
)

// licenses are the licences of all modules in this binary, which internal/licenses has collected.
//
//go:embed licenses.txt.gz
var licenses []byte

func printLicenses(_ context.Context, call Call) error {
	if err := call.parse(newFlags("licenses")); err != nil {
		return err
	}
	text, err := gzip.NewReader(bytes.NewReader(licenses))
	if err != nil {
		return fmt.Errorf("phantom licenses: %w", err)
	}
	_, err = io.Copy(call.Stdout, text) //nolint:gosec // it is our own
	return err
}
