package cli

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func TestDemoRefuses(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for _, c := range []struct {
		name string
		args []string
		env  map[string]string
		says string
	}{
		{"a database", nil, map[string]string{"DATABASE_URL": "postgres://localhost/mine"}, "unset DATABASE_URL"},
		{"its file", nil, map[string]string{"DATABASE_URL_FILE": "/x"}, "unset DATABASE_URL_FILE"},
		{"no customers", []string{"--customers", "0"}, nil, "--customers must"},
		{"too many others", []string{"--others", "100"}, nil, "--others must"},
		{"too many days", []string{"--days", "91"}, nil, "--days must"},
		{"no folder", []string{"-o", filepath.Join(folder, "no", "demo.html")}, nil, "lies in no folder"},
	} {
		var out bytes.Buffer
		err := playDemo(t.Context(), Call{Args: c.args, Getenv: func(name string) string { return c.env[name] }, Stdout: &out, Stderr: &out})
		if err == nil || !strings.Contains(err.Error(), c.says) || out.Len() > 0 {
			t.Errorf("%s: %v %s", c.name, err, &out)
		}
	}
}
