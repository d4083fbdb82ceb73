package demo

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// A short demo with the whole machine: it ends, money comes back, nothing is paid twice, and the
// page needs nothing but itself.
func TestDemo(t *testing.T) { //nolint:paralleltest // it takes the whole machine
	temporary := t.TempDir()
	path := filepath.Join(temporary, "demo.html")
	var out, stderr bytes.Buffer
	d := newRun(Options{Customers: 60, Days: 14, Others: 6, Seed: 1, Path: path},
		slog.New(slog.NewTextHandler(&stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))

	if err := d.play(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s%s", err, &out, &stderr)
	}
	for line := range strings.Lines(stderr.String()) {
		if !strings.Contains(line, "too many customers would lose access") { // the breaker does its work
			t.Errorf("the log warns: %s", line)
		}
	}
	r := d.result
	for _, o := range r.Sides {
		t.Logf("%s: charges %d chosen %d emails %d paid %d lost %d", o.Name, o.Charges, o.Chosen, o.Emails, o.Paid, o.Access.Lost)
	}
	recovered := map[string]int64{}
	for _, c := range r.Currencies {
		for i, s := range c.Sides {
			recovered[r.Sides[i].Name] += s.Recovered
			if books := s.Causes.Charge + s.Causes.Email + s.Causes.SMS; d.sides[i].phantom != nil && s.Recovered > 0 && books == 0 {
				t.Errorf("%s: the sandbox holds %d, and PHANTOM's books nothing", c.Code, s.Recovered)
			}
		}
	}
	for i, o := range r.Sides {
		ours := d.sides[i].phantom != nil
		if recovered[o.Name] == 0 || (o.Charges == 0) != (o.Name == "Stripe alone") || (o.Emails > 0) != (ours || o.Name == "Stripe alone") {
			t.Errorf("nothing came back, or a side did nothing, or too much: %+v", o)
		}
		if o.Twice != 0 {
			t.Errorf("paid twice: %+v", o)
		}
		if ours != (o.Access.Lost > 0) {
			t.Errorf("%s: access %+v", o.Name, o.Access)
		}
		if learns := d.sides[i].learns; learns != (o.Chosen > 0) || learns && !o.standing.Plays(o.knows, r.To) {
			t.Errorf("%s: the oracle chose %d charges; at the end it is %s, with a model of %v", o.Name, o.Chosen, o.standing.State, o.knows.BuiltAt)
		}
		if len(o.samples) < 30 || o.samples[0].atRisk[r.Currencies[0].Code] != r.Currencies[0].AtStart {
			t.Errorf("%s: %d samples, from %v on", o.Name, len(o.samples), o.samples[0])
		}
	}
	if r.Review != 0 || r.To.Sub(r.From) != 14*24*time.Hour {
		t.Errorf("%d tasks need a person; from %s to %s", r.Review, r.From, r.To)
	}
	if !strings.Contains(out.String(), "Charges sent") || !strings.Contains(out.String(), "day 14 ") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("the output is\n%s", &out)
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	checkSelfContained(t, page)
	if count := bytes.Count(page, []byte("<svg")); count != 4 {
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
	out := &awaited{text: "day  0", seen: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Customers: 30, Days: 60, Others: 6, Seed: 1, Path: filepath.Join(folder, "demo.html")}, out, out)
	}()
	select {
	case <-out.seen:
	case err := <-ended:
		t.Fatalf("it ended: %v\n%s", err, out)
	case <-time.After(time.Minute):
		t.Fatalf("no day begins\n%s", out)
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

// awaited tells when text has been written to it.
type awaited struct {
	text string
	seen chan struct{}

	mutex sync.Mutex
	all   bytes.Buffer
	told  bool
}

func (a *awaited) Write(text []byte) (int, error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.all.Write(text)
	if !a.told && strings.Contains(a.all.String(), a.text) {
		a.told = true
		close(a.seen)
	}
	return len(text), nil
}

func (a *awaited) String() string {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.all.String()
}
