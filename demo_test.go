package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// A short demo with the whole machine: it ends, money comes back, nothing is paid twice, and the page needs nothing but itself.
func TestDemo(t *testing.T) {
	temporary := t.TempDir()
	path := filepath.Join(temporary, "demo.html")
	var out, stderr bytes.Buffer
	d := &demo{demoConfig: demoConfig{customers: 30, days: 10, seed: 1, path: path},
		log: slog.New(slog.NewTextHandler(&stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if err := d.run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s%s", err, &out, &stderr)
	}
	if stderr.Len() > 0 {
		t.Errorf("the log warns:\n%s", &stderr)
	}
	r := d.result
	recovered := int64(0)
	for _, c := range r.Currencies {
		recovered = max(recovered, c.OursRecovered)
		if books := c.Causes.Charge + c.Causes.Email + c.Causes.SMS; c.OursRecovered > 0 && books == 0 {
			t.Errorf("%s: the sandbox holds %d, and PHANTOM's books nothing", c.Code, c.OursRecovered)
		}
	}
	if recovered == 0 || r.Ours.Charges == 0 || r.Ours.Emails == 0 || r.Theirs.Charges == 0 {
		t.Errorf("nothing came back, or a side did nothing: %+v", r)
	}
	if r.Ours.Twice != 0 || r.Theirs.Twice != 0 || r.Review != 0 {
		t.Errorf("paid twice: %d and %d; %d tasks need a person", r.Ours.Twice, r.Theirs.Twice, r.Review)
	}
	if r.To.Sub(r.From) != 10*24*time.Hour || len(d.samples) < 30 {
		t.Errorf("from %s to %s in %d samples", r.From, r.To, len(d.samples))
	}
	if !strings.Contains(out.String(), "Charges sent") || !strings.Contains(out.String(), "day 10 ") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("the output is\n%s", &out)
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	checkSelfContained(t, page)
	if count := bytes.Count(page, []byte("<svg")); count != 2 {
		t.Errorf("the page has %d charts", count)
	}
}

// checkSelfContained fails the test where a page runs or loads anything, or leads anywhere.
func checkSelfContained(t *testing.T, page []byte) {
	t.Helper()
	root, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for node := range root.Descendants() {
		switch node.Data {
		case "script", "link", "img", "iframe", "object", "a":
			if node.Type == html.ElementNode {
				t.Errorf("the page has a <%s>", node.Data)
			}
		}
		for _, a := range node.Attr {
			if a.Key == "href" || a.Key == "src" || strings.HasPrefix(a.Key, "on") || regexp.MustCompile(`https?://`).MatchString(a.Val) {
				t.Errorf("<%s> has %s=%q", node.Data, a.Key, a.Val)
			}
		}
	}
	if regexp.MustCompile(`https?://|url\(|@import`).Match(page) {
		t.Error("the page names an address")
	}
}

// A demo that is stopped leaves nothing: no folder, no server, no socket.
func TestDemoStops(t *testing.T) {
	folder, err := os.MkdirTemp("", "pd") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", folder)
	ctx, cancel := context.WithCancelCause(t.Context())
	out := newTranscript()
	ended := make(chan error, 1)
	go func() {
		ended <- runDemo(ctx, []string{"--customers", "30", "-o", filepath.Join(folder, "demo.html")}, func(string) string { return "" }, out, out)
	}()
	deadline := time.After(time.Minute)
	for !strings.Contains(out.String(), "day  0") {
		select {
		case <-out.changed:
		case err := <-ended:
			t.Fatalf("it ended: %v\n%s", err, out)
		case <-deadline:
			t.Fatalf("no day begins\n%s", out)
		}
	}
	cancel(errors.New("interrupt"))
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "stopped (interrupt)") {
			t.Errorf("it says %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not stop")
	}
	left, err := os.ReadDir(folder)
	if err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}

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
		{"too many days", []string{"--days", "91"}, nil, "--days must"},
		{"no folder", []string{"-o", filepath.Join(folder, "no", "demo.html")}, nil, "lies in no folder"},
	} {
		var out bytes.Buffer
		err := runDemo(t.Context(), c.args, func(name string) string { return c.env[name] }, &out, &out)
		if err == nil || !strings.Contains(err.Error(), c.says) || out.Len() > 0 {
			t.Errorf("%s: %v %s", c.name, err, &out)
		}
	}
}
