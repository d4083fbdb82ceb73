// Mutants takes one guard of the list at a time out of a copy of the repository and runs the test
// that must miss it. A guard that no test misses could be lost in any change without a word.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// listFile holds the guards.
const listFile = "internal/mutants/guards.txt"

//go:embed guards.txt
var listText string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("run", "", "only the guards whose name matches this pattern")
	changed := flags.String("changed", "",
		"only the guards whose file, test or entry differs from this commit")
	show := flags.Bool("list", false, "list the guards, and run none")
	output := flags.String("o", "", "write the table to this file")
	patience := flags.Duration("timeout", 2*time.Minute, "of one test")
	within := flags.Duration("within", 0, "begin no further guard after this time")
	simulate := flags.Bool("simulation", false, "try "+controlFile+" on the simulation")
	worlds := span{first: 1}
	flags.IntVar(&worlds.seeds, "seeds", 2000, "with -simulation, the worlds of each")
	flags.IntVar(&worlds.mostRed, "red", 3, "with -simulation, enough broken worlds of a process")
	flags.IntVar(&worlds.processes, "processes", 2, "with -simulation, that turn worlds at a time")
	if err := flags.Parse(args); err != nil {
		return err
	}
	file, text := listFile, listText
	if *simulate {
		file, text = controlFile, controlText
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	list, err := parseList(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	list = slices.DeleteFunc(list, func(g guard) bool { return !pattern.MatchString(g.name) })
	root, err := git(ctx, ".", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	if *changed != "" {
		if list, err = since(ctx, root, *changed, list); err != nil {
			return err
		}
	}
	if *show {
		for _, g := range list {
			fmt.Fprintf(stdout, "%-60s %-26s %s %s\n", g.name, g.file, g.pkg, g.run)
		}
		return nil
	}
	if *output != "" {
		file, err := os.Create(*output)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		stdout = file
	}
	if *simulate {
		return simulations(ctx, root, list, worlds, stdout, stderr)
	}
	results, err := all(ctx, root, list, *patience, *within, stderr)
	if err != nil {
		return err
	}
	return report(stdout, results)
}

// all tries every guard in one copy of the repository.
func all(ctx context.Context, root string, list []guard, patience, within time.Duration,
	log io.Writer) (results []result, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	folder, err := os.MkdirTemp("", "phantom-mutants-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if err := copyTree(ctx, root, folder); err != nil {
		return nil, fmt.Errorf("copy the repository: %w", err)
	}
	started := time.Now()
	late := func() bool { return within > 0 && time.Since(started) > within }
	fmt.Fprintf(log, "the tests of %d guards, with every guard in place ...\n", len(list))
	unfit, err := clean(ctx, folder, list, patience)
	if err != nil {
		return nil, err
	}
	for i, g := range list {
		r := result{guard: g, verdict: unrun}
		switch {
		case unfit[g.name] != "":
			r.verdict, r.why = broken, unfit[g.name]
		case !late():
			if r, err = try(ctx, folder, g, patience); err != nil {
				return nil, err
			}
		}
		if ctx.Err() != nil {
			return nil, errors.New("it was interrupted")
		}
		fmt.Fprintf(log, "%3d/%d %-8s %-60s %5.1f s %s\n", i+1, len(list), r.verdict, g.name,
			r.took.Seconds(), r.why)
		results = append(results, r)
	}
	return results, nil
}

// report writes the table, in Markdown, and fails where a guard is not known to be missed.
func report(w io.Writer, results []result) error {
	fmt.Fprintln(w, "| guard | file | test | verdict | s |\n| --- | --- | --- | --- | ---: |")
	bad, left := 0, 0
	for _, r := range results {
		fmt.Fprintf(w, "| %s | %s | `%s` %s | %s | %.1f |\n", r.name, r.file, strings.ReplaceAll(r.run,
			"|", `\|`), r.pkg, r.verdict, r.took.Seconds())
		switch r.verdict {
		case red:
		case unrun:
			left++
		default:
			bad++
		}
	}
	fmt.Fprintf(w, "\n%d guards: %d red, %d not, %d not reached.\n", len(results),
		len(results)-bad-left, bad, left)
	if bad > 0 {
		return fmt.Errorf("%d of %d guards are not known to be missed by a test", bad, len(results))
	}
	return nil
}

// since keeps the guards whose file, test's file or entry is not as in the commit base.
func since(ctx context.Context, root, base string, list []guard) ([]guard, error) {
	names, err := git(ctx, root, "diff", "--name-only", base)
	if err != nil {
		return nil, err
	}
	fresh, err := git(ctx, root, "ls-files", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	touched := strings.Split(names+"\n"+fresh, "\n")
	before := map[string]bool{}
	// else the list is new, and every entry
	if text, err := git(ctx, root, "show", base+":"+listFile); err == nil {
		old, _ := parseList(text)
		for _, g := range old {
			before[g.text] = true
		}
	}
	return slices.DeleteFunc(list, func(g guard) bool {
		test, err := g.testFile(root)
		return err == nil && before[g.text] && !slices.Contains(touched, g.file) &&
			!slices.Contains(touched, test)
	}), nil
}

func git(ctx context.Context, folder string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "git", append([]string{"-C", filepath.Clean(folder)},
		args...)...)
	text, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(text)), nil
}
