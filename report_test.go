package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phantom/cli"
	"phantom/db/dbtest"
	"phantom/internal/stage"
)

// phantom report needs the database and the key alone, and leaves a whole file for its owner's
// eyes, or what was there before.
func TestReport(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	stage.Merchant(t, dbtest.Open(t, url, dbtest.Ring(t)), "acct_1", stage.Live)
	variables := map[string]string{"DATABASE_URL": url, "ENCRYPTION_KEY": dbtest.Key}
	phantom := func(args ...string) (stdout string, err error) {
		var out, log bytes.Buffer
		err = cli.Run(context.Background(), cli.Call{
			Args: append([]string{"report"}, args...), Getenv: func(name string) string { return variables[name] }, Stdout: &out, Stderr: &log,
		})
		return out.String(), err
	}
	folder := t.TempDir()
	path := filepath.Join(folder, "report.html")
	if err := os.WriteFile(path, []byte("an older one"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-o", path}, `phantom report: --merchant "" is no account: provide --merchant acct_…`},
		{[]string{"--merchant", "acct_2", "-o", path}, "phantom report: acct_2 is not connected here: check the id and DATABASE_URL, or connect it from the server's first page"},
		{[]string{"--merchant", "acct_1", "-o", ""}, "phantom report: -o names no file: give a name, or - for standard output"},
		{[]string{"--merchant", "acct_1", "acct_2"}, `phantom report takes no argument "acct_2": phantom report -h shows what it takes`},
		{[]string{"--merchant", "acct_1", "-o", filepath.Join(folder, "missing", "report.html")}, "[SERVER] cannot write the report: "},
	} {
		out, err := phantom(c.args...)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || out != "" {
			t.Errorf("%q: %q, %v; want %s", c.args, out, err, c.want)
		}
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "an older one" {
		t.Fatalf("a failure left %q, %v", content, err)
	}
	out, err := phantom("--merchant", "acct_1", "-o", path)
	if err != nil || out != path+"\n" {
		t.Fatalf("got %q, %v", out, err)
	}
	page, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(page), "<!DOCTYPE html>") || !strings.Contains(string(page), "acct_1") || !strings.HasSuffix(string(page), "</html>\n") {
		t.Errorf("the file holds %.200q, %v", page, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != fs.FileMode(0o600) {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if out, err = phantom("--merchant", "acct_1", "-o", "-"); err != nil || !strings.HasPrefix(out, "<!DOCTYPE html>") || !strings.HasSuffix(out, "</html>\n") {
		t.Errorf("standard output: %.200q, %v", out, err)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 1 {
		t.Errorf("%d files are left, %v", len(entries), err)
	}
}
