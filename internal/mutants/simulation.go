package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// controlFile holds what is taken out to see that the simulation of the money path misses it.
const controlFile = "internal/mutants/controls.txt"

//go:embed controls.txt
var controlText string

// span is how many worlds are turned, and after how many broken ones it is enough.
type span struct{ first, seeds, mostRed, processes int }

// found is what the simulation has said of one control.
type found struct {
	guard
	verdict, why string
	worlds, red  int
	first        int // the first seed that is red
	rules        []string
}

// simulations turns worlds without each of these guards, one after the other, in a copy of the
// repository, and first some with all of them.
func simulations(ctx context.Context, root string, list []guard, s span, stdout,
	stderr io.Writer) (err error) {
	folder, err := os.MkdirTemp("", "phantom-controls-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if err := copyTree(ctx, root, folder); err != nil {
		return fmt.Errorf("copy the repository: %w", err)
	}
	fmt.Fprintln(stdout, "| taken out | file | seeds | red | first red | rules it breaks |\n"+
		"| --- | --- | ---: | ---: | ---: | --- |")
	whole := guard{name: "nothing", pkg: list[0].pkg, run: list[0].run, tags: list[0].tags}
	missed := 0
	for i, g := range append([]guard{whole}, list...) {
		turned := s
		if i == 0 {
			turned.seeds = min(s.seeds, 200)
		}
		f, err := control(ctx, folder, g, turned)
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return errors.New("it was interrupted")
		case i == 0 && f.verdict != green:
			return fmt.Errorf("the simulation is not green with every guard in place: %v %s", f.rules, f.why)
		case i > 0 && f.verdict != red:
			missed++
		}
		fmt.Fprintf(stderr, "%3d/%d %-8s %-60s %s\n", i, len(list), f.verdict, g.name, f.why)
		fmt.Fprintln(stdout, f.row())
	}
	if missed > 0 {
		return fmt.Errorf("the simulation does not miss %d of %d", missed, len(list))
	}
	return nil
}

func (f found) row() string {
	first := "none"
	if f.red > 0 {
		first = strconv.Itoa(f.first)
	}
	if f.verdict == broken {
		first = broken
	}
	return fmt.Sprintf("| %s | %s | %d | %d | %s | %s |", f.name, f.file, f.worlds, f.red, first,
		strings.Join(f.rules, ", "))
}

// control takes a guard out and turns worlds until enough of them are broken.
func control(ctx context.Context, root string, g guard, s span) (f found, err error) {
	f = found{guard: g, verdict: broken}
	if g.file != "" {
		path := filepath.Join(root, g.file)
		source, err := os.ReadFile(path)
		if err != nil {
			f.why = "its file cannot be read"
			return f, nil
		}
		mutant, err := g.mutate(string(source))
		if err != nil {
			f.why = err.Error()
			return f, nil
		}
		if err := os.WriteFile(path, []byte(mutant), 0o600); err != nil {
			return f, err
		}
		defer func() { err = errors.Join(err, os.WriteFile(path, source, 0o600)) }()
	}
	binary := filepath.Join(root, "simulation.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "-vet=off", "-trimpath",
		"-tags", g.tags, g.pkg)
	build.Dir = root
	if text, err := build.CombinedOutput(); err != nil {
		f.why = "it does not compile:\n" + tail(string(text))
		return f, nil
	}
	outputs := make(chan string)
	each := (s.seeds + s.processes - 1) / s.processes
	for i := range s.processes {
		go func() {
			outputs <- turn(ctx, binary, filepath.Join(root, g.pkg), g.run, s.first+i*each, each, s.mostRed)
		}()
	}
	for range s.processes {
		f.hear(<-outputs)
	}
	return f, nil
}

// turn lets one process turn its worlds, and returns what it says.
func turn(ctx context.Context, binary, folder, run string, first, seeds, mostRed int) string {
	command := exec.CommandContext(ctx, binary, "-test.run", run, "-test.v", "-test.timeout", "4h")
	command.Dir = folder
	command.Env = append(os.Environ(), fmt.Sprintf("PHANTOM_FIRST_SEED=%d", first),
		fmt.Sprintf("PHANTOM_SEEDS=%d", seeds), fmt.Sprintf("PHANTOM_MOST_RED=%d", mostRed))
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		fmt.Fprintln(&output, err)
	}
	return output.String()
}

var (
	worldsLine = regexp.MustCompile(`(?m)^\s*\S+:\d+: (\d+) worlds in .*, (\d+) broke a rule$`)
	breachLine = regexp.MustCompile(`(?m)^\s*\S+:\d+: seed (\d+), step \d+, (I\d[^:]*): `)
)

// hear adds what a process has said. One that says nothing of its worlds has proved nothing.
func (f *found) hear(output string) {
	said := worldsLine.FindStringSubmatch(output)
	if said == nil {
		f.verdict, f.why = broken, "it did not end by itself:\n"+tail(output)
		return
	}
	worlds, _ := strconv.Atoi(said[1])
	reds, _ := strconv.Atoi(said[2])
	f.worlds, f.red = f.worlds+worlds, f.red+reds
	for _, breach := range breachLine.FindAllStringSubmatch(output, -1) {
		seed, _ := strconv.Atoi(breach[1])
		f.first = min(cmp.Or(f.first, seed), seed)
		if !slices.Contains(f.rules, breach[2]) {
			f.rules = append(f.rules, breach[2])
		}
	}
	switch {
	case f.why != "":
	case f.red > 0:
		f.verdict = red
	default:
		f.verdict = green
	}
}
