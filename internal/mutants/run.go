package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// result is what became of a guard. Only red is good.
type result struct {
	guard
	verdict string
	why     string
	took    time.Duration
}

const (
	red   = "red"
	green = "GREEN" // no test misses it
	// the entry proves nothing: it does not fit, does not compile, or its test does not run
	broken = "BROKEN"
	hung   = "HUNG" // its test did not end in time: too slow to prove anything
	unrun  = "not reached"
)

// copyTree copies what git would commit of the working tree, so that the run sees one state of it
// no matter who goes on editing.
func copyTree(ctx context.Context, root, to string) error {
	list := exec.CommandContext(ctx, "git", "-C", root, "ls-files", "-z", "--cached", "--others",
		"--exclude-standard")
	names, err := list.Output()
	if err != nil {
		return fmt.Errorf("list the repository's files: %w", err)
	}
	for _, name := range strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// ran is what one call of go test has said.
type ran struct {
	output       string
	passed       []string
	failed       []string
	built, ended bool
}

var verdictLine = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL|SKIP): (\S+)`)

// goTest runs tests in a copy, one package at a time.
func goTest(ctx context.Context, root, pkg, tags, pattern string, patience time.Duration) (r ran,
	err error) {
	// The process's own time-out dumps its goroutines; this one is for what does not even do that.
	ctx, cancel := context.WithTimeout(ctx, patience+3*time.Minute)
	defer cancel()
	args := []string{"test", "-p", "1", "-count=1", "-vet=off", "-trimpath", "-ldflags=-s -w", "-v",
		"-timeout", patience.String(), "-run", pattern}
	if tags != "" {
		args = append(args, "-tags", tags)
	}
	command := exec.CommandContext(ctx, "go", append(args, pkg)...)
	command.Dir = root
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	command.WaitDelay = 10 * time.Second
	err = command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return r, fmt.Errorf("run go test: %w", err)
	}
	r.output = output.String()
	r.built = !strings.Contains(r.output, "[build failed]") && !strings.Contains(r.output,
		"[setup failed]")
	r.ended = ctx.Err() == nil && !strings.Contains(r.output, "panic: test timed out after")
	for _, found := range verdictLine.FindAllStringSubmatch(r.output, -1) {
		switch found[1] {
		case "PASS":
			r.passed = append(r.passed, found[2])
		case "FAIL":
			r.failed = append(r.failed, found[2])
		}
	}
	return r, nil
}

// clean runs the tests of all guards on the unchanged copy, and says of each guard why its test
// proves nothing, or "".
func clean(ctx context.Context, root string, list []guard,
	patience time.Duration) (map[string]string, error) {
	type place struct{ pkg, tags string }
	patterns := map[place][]string{}
	var places []place
	for _, g := range list {
		p := place{g.pkg, g.tags}
		if patterns[p] == nil {
			places = append(places, p)
		}
		if !slices.Contains(patterns[p], g.run) {
			patterns[p] = append(patterns[p], g.run)
		}
	}
	why := map[string]string{}
	for _, p := range places {
		r, err := goTest(ctx, root, p.pkg, p.tags, strings.Join(patterns[p], "|"),
			patience*time.Duration(1+len(patterns[p])/4))
		if err != nil {
			return nil, err
		}
		for _, g := range list {
			if g.pkg != p.pkg || g.tags != p.tags {
				continue
			}
			switch {
			case !r.built:
				why[g.name] = "the package does not compile"
			case slices.ContainsFunc(r.failed, g.matches):
				why[g.name] = "its test is red with the guard in place"
			case !slices.ContainsFunc(r.passed, g.matches):
				why[g.name] = "its pattern runs no test"
			}
			if why[g.name] != "" {
				fmt.Fprintf(os.Stderr, "%s\n", tail(r.output))
			}
		}
	}
	return why, nil
}

// wrongSQL tells a statement that fails, no matter what it is asked, from a guard that is missed.
var wrongSQL = regexp.MustCompile(`SQLSTATE 42|expected \d+ arguments, got`)

// try takes a guard out, runs its test, and puts it back.
func try(ctx context.Context, root string, g guard, patience time.Duration) (r result, err error) {
	r = result{guard: g, verdict: broken}
	path := filepath.Join(root, g.file)
	source, err := os.ReadFile(path)
	if err != nil {
		r.why = "its file cannot be read"
		return r, nil
	}
	mutant, err := g.mutate(string(source))
	if err != nil {
		r.why = err.Error()
		return r, nil
	}
	if err := os.WriteFile(path, []byte(mutant), 0o600); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.WriteFile(path, source, 0o600)) }()
	started := time.Now()
	got, err := goTest(ctx, root, g.pkg, g.tags, g.run, patience)
	if err != nil {
		return r, err
	}
	r.took = time.Since(started)
	switch {
	case !got.built:
		r.why = "it does not compile:\n" + tail(got.output)
	case !got.ended:
		r.verdict, r.why = hung, "its test did not end in time"
	case wrongSQL.MatchString(got.output):
		r.why = "its SQL is wrong, which any test would miss:\n" + tail(got.output)
	case slices.ContainsFunc(got.failed, g.matches):
		r.verdict = red
	case len(got.failed) > 0 || !slices.ContainsFunc(got.passed, g.matches):
		r.why = "its test did not end by itself:\n" + tail(got.output)
	default:
		r.verdict, r.why = green, "no test misses it"
	}
	return r, nil
}

// tail is the end of an output.
func tail(text string) string {
	const most = 2000
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return text
}
