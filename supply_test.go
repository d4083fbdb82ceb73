package main

import (
	"debug/buildinfo"
	"debug/elf"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// phantom licenses names every module that the binary is made of, with its licence.
func TestLicenses(t *testing.T) {
	t.Parallel()
	p := start(t, nil, []string{"licenses"})
	if code := p.wait(t); code != 0 {
		t.Fatalf("exit code %d\n%s", code, p.stderr)
	}
	var named []string
	line := strings.Repeat("=", 80) + "\n"
	parts := strings.Split(p.stdout.String(), line)[1:] // by turns a name and its texts
	for i := 0; i+1 < len(parts); i += 2 {
		named = append(named, strings.TrimSuffix(parts[i], "\n"))
		if text := strings.TrimSpace(parts[i+1]); len(text) < 500 && !strings.HasPrefix(text, "Code of PHANTOM's own") {
			t.Errorf("%s has the licence %q", parts[i], text)
		}
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"The Go standard library"}
	for _, dep := range info.Deps {
		want = append(want, dep.Path+" "+dep.Version)
	}
	slices.Sort(want[1:])
	slices.Sort(named[1:])
	if !slices.Equal(named, want) {
		t.Errorf("it names\n%s\nthe binary holds\n%s", strings.Join(named, "\n"), strings.Join(want, "\n"))
	}
}

// The release binary needs no other file: no interpreter and no library. As a position-independent
// executable it would, which is why it is none (CONTRIBUTING.md).
func TestBinaryIsStatic(t *testing.T) {
	t.Parallel()
	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for _, part := range file.Progs {
		if part.Type == elf.PT_INTERP {
			t.Error("it names an interpreter, which an empty root does not have")
		}
	}
	if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("it needs %v, %v", libraries, err)
	}
}

// Modules that are archived bring no code into the binary: internal/standins has what takes their
// place.
func TestArchivedModulesStayOut(t *testing.T) {
	t.Parallel()
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	archived := regexp.MustCompile(`^github\.com/(golang/mock|pkg/errors|mitchellh/.*|pbnjay/memory|Masterminds/goutils)$`)
	stand := 0
	for _, dep := range info.Deps {
		if !archived.MatchString(dep.Path) {
			continue
		}
		if stand++; dep.Replace == nil {
			t.Errorf("%s %s is in the binary, and archived", dep.Path, dep.Version)
		}
	}
	// Beside these are sprig's own, and README.md.
	if entries, err := os.ReadDir("internal/standins"); err != nil || stand == 0 || len(entries) != stand+2 {
		t.Errorf("%d modules are stood in for, of the folders %v, %v", stand, entries, err)
	}
}

// Every image that a build begins with is named by its digest, so that the same files make the same
// image; and every folder that go.mod puts in a module's place is there before modules are fetched.
func TestImagesArePinned(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range regexp.MustCompile(`(?m)^FROM (.*)$`).FindAllStringSubmatch(string(text), -1) {
		image, _, _ := strings.Cut(from[1], " ")
		if image != "scratch" && !regexp.MustCompile(`^[a-z0-9./-]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}$`).MatchString(image) {
			t.Errorf("%s is not pinned by a digest", image)
		}
	}
	before, _, _ := strings.Cut(string(text), "RUN go mod download")
	module, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, replace := range regexp.MustCompile(`=> \./(\S+)`).FindAllStringSubmatch(string(module), -1) {
		if !regexp.MustCompile(`COPY (\S+ )*(` + replace[1] + `/go\.mod|` + regexp.QuoteMeta(parent(replace[1])) + `) `).MatchString(before) {
			t.Errorf("the image lacks %s when it fetches modules", replace[1])
		}
	}
}

func parent(path string) string { return path[:strings.LastIndex(path, "/")] }
