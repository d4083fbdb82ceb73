package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Every entry of the list fits the code and the tests as they are: its text is found once, and its
// test is there.
func TestTheListFits(t *testing.T) {
	t.Parallel()
	list, err := parseList(listText)
	if err != nil || len(list) < 50 {
		t.Fatalf("%d guards, %v", len(list), err)
	}
	controls, err := parseList(controlText)
	if err != nil || len(controls) < 8 {
		t.Fatalf("%d controls, %v", len(controls), err)
	}
	list = append(list, controls...)
	const root = "../.."
	for _, g := range list {
		source, err := os.ReadFile(filepath.Join(root, g.file))
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
			continue
		}
		if _, err := g.mutate(string(source)); err != nil {
			t.Errorf("%s: %v", g.name, err)
		}
		if _, err := g.testFile(root); err != nil {
			t.Errorf("%s: %v", g.name, err)
		}
	}
}

const sample = `# a comment
guard the lock
file a.go
in func lock(
- 	take()
+ 	_ = take
- 	wait()
- 	hold()
test ./a ^TestLock$/^one$
tags slow
`

const code = "package a\n\nfunc free() {\n\ttake()\n}\n\nfunc lock() {\n\ttake()\n\twait()\n\thold()\n}\n"

func TestMutate(t *testing.T) {
	t.Parallel()
	list, err := parseList(sample)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	g := list[0]
	got, err := g.mutate(code)
	want := strings.Replace(code, "\ttake()\n\twait()\n\thold()", "\t_ = take\n", 1)
	if err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
	for name, source := range map[string]string{
		"no declaration": strings.ReplaceAll(code, "lock", "open"), "two declarations": code + code[10:],
		"not found": strings.Replace(code, "wait()", "stay()", 1), "found twice": strings.Replace(code,
			"\twait()", "\ttake()\n\twait()", 1),
	} {
		if _, err := g.mutate(source); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, fits := range map[string]bool{
		"TestLock/one": true, "TestLock/one/more": true, "TestLock": false, "TestLock/two": false,
		"TestLocks/one": false,
	} {
		if g.matches(name) != fits {
			t.Errorf("%s fits: %t", name, !fits)
		}
	}
}

func TestFaultyLists(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no name":           "guard ",
		"twice":             sample + sample,
		"no file":           "guard a\n- x\ntest ./a T",
		"no text":           "guard a\nfile a.go\ntest ./a T",
		"no test":           "guard a\nfile a.go\n- x",
		"no package":        "guard a\nfile a.go\n- x\ntest a T",
		"nothing before":    "file a.go",
		"an unknown word":   "guard a\nfiles a.go",
		"no pattern":        "guard a\nfile a.go\n- x\ntest ./a (",
		"a lonely + before": "guard a\nfile a.go\n+ x",
	} {
		if list, err := parseList(text); err == nil {
			t.Errorf("%s: %+v", name, list)
		}
	}
}

// In a module of its own: what each kind of entry comes to, and that the file is put back.
func TestTry(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	const source = "package a\n\nfunc add(a, b int) int {\n\treturn a + b\n}\n\nfunc idle() {}\n"
	const tests = "package a\n\nimport \"testing\"\n\nfunc TestAdd(t *testing.T) {\n\tif add(1, 2) != 3 {\n\t\tt.Error(\"wrong\")\n\t}\n}\n" +
		"\nfunc TestFalse(t *testing.T) { t.Error(\"wrong\") }\n\nfunc TestSkip(t *testing.T) { t.Skip() }\n"
	for name, text := range map[string]string{"go.mod": "module a\n\ngo 1.26\n", "a.go": source,
		"a_test.go": tests} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entry := func(find, replace, run string) guard {
		return guard{name: find + replace + run, file: "a.go", edit: []edit{{find, replace}}, pkg: "./.",
			run: run}
	}
	for want, g := range map[string]guard{
		red: entry("a + b", "a - b", "^TestAdd$"), green: entry("func idle", "func busy", "^TestAdd$"),
		hung: entry("return a + b", "for {\n}", "^TestAdd$"), broken: entry("a + b", "a + c",
			"^TestAdd$"),
		broken + " text": entry("a * b", "a", "^TestAdd$"), broken + " test": entry("a + b", "a - b",
			"^TestAdd$/^one$"),
	} {
		r, err := try(t.Context(), root, g, 5*time.Second)
		if err != nil || !strings.HasPrefix(want, r.verdict) {
			t.Errorf("%s: %s, %s, %v", want, r.verdict, r.why, err)
		}
		if text, err := os.ReadFile(filepath.Join(root, "a.go")); err != nil || string(text) != source {
			t.Errorf("%s: the file is left as %s, %v", want, text, err)
		}
	}
	fine, absent := entry("a + b", "a", "^TestAdd$"), entry("a + b", "a", "^TestNone$")
	wrong, skipped := entry("a + b", "a", "^TestFalse$"), entry("a + b", "a", "^TestSkip$")
	why, err := clean(t.Context(), root, []guard{fine, absent, wrong, skipped}, 30*time.Second)
	if err != nil || why[fine.name] != "" || why[absent.name] == "" || why[wrong.name] == "" ||
		why[skipped.name] == "" {
		t.Errorf("%q, %v", why, err)
	}
}

// What proves nothing is not called red.
func TestReport(t *testing.T) {
	t.Parallel()
	for verdict, fails := range map[string]bool{red: false, green: true, broken: true, hung: true,
		unrun: false} {
		var text strings.Builder
		err := report(&text, []result{{guard: guard{name: "the lock", file: "a.go", pkg: "./a",
			run: "A|B"}, verdict: verdict}})
		if (err != nil) != fails || !strings.Contains(text.String(),
			"| the lock | a.go | `A\\|B` ./a | "+verdict+" |") {
			t.Errorf("%s: %v\n%s", verdict, err, &text)
		}
	}
}
