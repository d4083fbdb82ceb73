package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"phantom/db"
	"phantom/report"
)

func writeReport(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	flags := newFlags("report")
	account := flags.String("merchant", "", "the account to report on, acct_…")
	path := flags.String("o", "report.html", "the file to write; - for standard output")
	if err := parseFlags(flags, args, stderr); err != nil {
		return err
	}
	if !accountShape.MatchString(*account) {
		return fmt.Errorf("phantom report: --merchant %.80q is no account: provide --merchant acct_…", *account)
	}
	if *path == "" {
		return errors.New("phantom report: -o names no file: give a name, or - for standard output")
	}
	c, err := loadConfig(getenv, needs{database: true, key: true})
	if err != nil {
		return err
	}
	stop, err := c.standIn(ctx, newLogger(c, stderr))
	if err != nil {
		return err
	}
	defer stop()
	pool, err := c.openPool(ctx)
	if err != nil {
		return err
	}
	defer closePool(pool)
	r, err := report.Load(ctx, pool, *account)
	if errors.Is(err, report.ErrUnknownAccount) {
		return fmt.Errorf("phantom report: %s is not connected here: check the id and DATABASE_URL, or connect it from the server's first page", *account)
	}
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		return fmt.Errorf("[SERVER] cannot draw the report: %w", err)
	}
	if *path == "-" {
		_, err := page.WriteTo(stdout)
		return err
	}
	if err := writeWhole(*path, page.Bytes()); err != nil {
		return fmt.Errorf("[SERVER] cannot write the report: %w", err)
	}
	_, err = fmt.Fprintln(stdout, *path)
	return err
}

// writeWhole puts a file in place at once, over an older one, for its owner's eyes alone. What is there and no file, such as /dev/null
// or a pipe, is written to: root could put a file in its place.
func writeWhole(path string, content []byte) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(path, content, 0o600)
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".report-") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.Write(content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
