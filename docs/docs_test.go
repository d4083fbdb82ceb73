package docs

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode"
)

// root is the repository, from this package's folder.
const root = ".."

// The documents that are tested, beside all of this folder.
var pages = []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md"}

// tree is every file of the repository that somebody keeps, by its path, with its text where that
// is Go, SQL, Markdown or configuration.
var tree = sync.OnceValue(func() map[string]string {
	files := make(map[string]string)
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{".git", ".phantom", "bin"}, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		files[rel] = ""
		switch path.Ext(rel) {
		case ".go", ".sql", ".md", ".yml", ".yaml":
		default:
			if rel != "Makefile" && rel != "Dockerfile" {
				return nil
			}
		}
		text, err := os.ReadFile(name)
		files[rel] = string(text)
		return err
	})
	if err != nil {
		panic(err)
	}
	return files
})

// documents are the tested pages by their path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for name, text := range tree() {
		if slices.Contains(pages, name) || strings.HasPrefix(name, "docs/") && path.Ext(name) == ".md" {
			found[name] = text
		}
	}
	if len(found) < 30 {
		t.Fatalf("only %d documents are found", len(found))
	}
	return found
}

// exists says whether the repository has a file or a folder of that path.
func exists(name string) bool {
	name = strings.TrimSuffix(name, "/")
	if _, is := tree()[name]; is {
		return true
	}
	for file := range tree() {
		if strings.HasPrefix(file, name+"/") {
			return true
		}
	}
	return false
}

var (
	fenceShape   = regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```[ \t]*$")
	codeShape    = regexp.MustCompile("`[^`\n]*(?:\n[^`\n]+)?`")
	linkShape    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingShape = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	schemeShape  = regexp.MustCompile(`^[a-z][a-z+.-]*:`)
)

// prose is a document without its blocks of code.
func prose(text string) string { return fenceShape.ReplaceAllString(text, "") }

// headings are the headings of a document as they read, in order.
func headings(text string) (all []string) {
	for _, match := range headingShape.FindAllStringSubmatch(prose(text), -1) {
		all = append(all, match[1])
	}
	return all
}

// anchors are those that GitHub gives the headings of a document.
func anchors(text string) map[string]bool {
	all, seen := make(map[string]bool), make(map[string]int)
	for _, heading := range headings(text) {
		heading = linkShape.ReplaceAllString(heading, "]")
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, heading)
		n := seen[anchor]
		if seen[anchor]++; n > 0 {
			anchor += "-" + strconv.Itoa(n)
		}
		all[anchor] = true
	}
	return all
}

// Every relative link leads to a file of the repository, and every anchor to a heading in it.
func TestLinks(t *testing.T) {
	t.Parallel()
	checked := 0
	for name, text := range documents(t) {
		text = codeShape.ReplaceAllString(prose(text), "")
		for _, match := range linkShape.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(match[1], "#")
			if schemeShape.MatchString(match[1]) {
				continue
			}
			checked++
			file := name
			if target != "" {
				file = path.Join(path.Dir(name), target)
			}
			if !exists(file) {
				t.Errorf("%s links to %s, which does not exist", name, match[1])
				continue
			}
			if anchor != "" && !anchors(tree()[file])[anchor] {
				t.Errorf("%s links to %s, and %s has no such heading", name, match[1], file)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d links are found", checked)
	}
}

// What is no path although it has a slash.
var noPath = regexp.MustCompile(
	`^(/|[a-z0-9.-]+\.(com|org|in|net)/|(application|text)/[a-z]|[A-Z_]+/|Test)|NAME`)

var pathShape = regexp.MustCompile(`^\.?[A-Za-z0-9_][A-Za-z0-9_./-]*$`)

// looksLikePath says whether a word in backticks names a file or a folder of the repository.
func looksLikePath(word string) bool {
	if !pathShape.MatchString(word) || noPath.MatchString(word) {
		return false
	}
	ends := []string{".go", ".sql", ".md"}
	return strings.Contains(word, "/") || slices.Contains(ends, path.Ext(word))
}

// elsewhere are paths that are no files of the repository.
var elsewhere = map[string]string{
	".phantom/":   "dev mode makes it",
	"bin/phantom": "make build makes it",
	"math/rand":   "a package of Go's",

	"rest/api/v2010": "a package of twilio-go",
}

// Every file and folder that a document names in backticks exists.
func TestNamedFiles(t *testing.T) {
	t.Parallel()
	names := make(map[string]bool) // without their folder
	for file := range tree() {
		names[path.Base(file)] = true
	}
	checked := 0
	for name, text := range documents(t) {
		for _, code := range codeShape.FindAllString(prose(text), -1) {
			word := strings.Trim(code, "`")
			if !looksLikePath(word) || elsewhere[word] != "" {
				continue
			}
			checked++
			inFolder := path.Join(path.Dir(name), word) // as a document of docs/ names another
			if !exists(word) && !exists(inFolder) && (strings.Contains(word, "/") || !names[word]) {
				t.Errorf("%s names `%s`, which does not exist", name, word)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d files are named", checked)
	}
}

var placedShape = regexp.MustCompile("`([A-Za-z.]+)`(?:\\s+[a-z ]+)?\\s+\\(`([a-z_/0-9]+\\.go)`\\)")

// What a document places in a file, as `name` (`folder/file.go`), is declared there.
func TestPlacedNames(t *testing.T) {
	t.Parallel()
	checked := 0
	for name, text := range documents(t) {
		for _, match := range placedShape.FindAllStringSubmatch(prose(text), -1) {
			word := match[1][strings.LastIndex(match[1], ".")+1:]
			checked++
			declared := regexp.MustCompile(
				`(?m)^(func (\([^)]*\) )?|type |var |const |\t)` + word + `\b`)
			if source, there := tree()[match[2]]; there && !declared.MatchString(source) {
				t.Errorf("%s places %s in %s, which does not declare it", name, match[1], match[2])
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d names are placed", checked)
	}
}

var (
	citedPage    = regexp.MustCompile(`\bdocs/[a-z0-9/-]+\.(?:md|json)\b`)
	citedADR     = regexp.MustCompile(`\b(?:docs/adr/|adr/|ADR )([0-9]{4})([a-z0-9-]*)`)
	citedReadme  = regexp.MustCompile(`\bREADME, ([A-Z][A-Za-z ]*[A-Za-z])`)
	citedHeading = regexp.MustCompile(`\\?"([A-Z][^"\\]+)\\?" in (docs/[a-z-]+\.md)`)
	citedTable   = regexp.MustCompile(`the table \\?"([A-Z][^"\\]+)\\?"`)
	citedRule    = regexp.MustCompile(`docs/rules\.md, ([0-9]+)`)
	commentBreak = regexp.MustCompile(`\n[ \t]*(//|--|#)[ \t]*`)
)

// What sources cite of the documents, in comments and in messages to operators, exists: pages,
// decisions, sections and rules.
func TestCitations(t *testing.T) {
	t.Parallel()
	rules := tree()["docs/rules.md"]
	checked := 0
	for name, text := range tree() {
		if path.Ext(name) == ".md" || name == "docs/docs_test.go" || text == "" {
			continue
		}
		text = commentBreak.ReplaceAllString(text, " ")
		missing := func(what string) { t.Errorf("%s cites %s, which does not exist", name, what) }
		for _, page := range citedPage.FindAllString(text, -1) {
			checked++
			if !exists(page) {
				missing(page)
			}
		}
		for _, match := range citedADR.FindAllStringSubmatch(text, -1) {
			checked++
			number := match[1] + match[2]
			if found, err := filepath.Glob("adr/" + number + "*.md"); err != nil || len(found) != 1 {
				missing("decision " + number)
			}
		}
		for _, match := range citedReadme.FindAllStringSubmatch(text, -1) {
			checked++
			if !slices.Contains(headings(tree()["README.md"]), match[1]) {
				missing("the section " + match[1] + " of README.md")
			}
		}
		for _, match := range citedHeading.FindAllStringSubmatch(text, -1) {
			checked++
			if !slices.Contains(headings(tree()[match[2]]), match[1]) {
				missing("the section " + match[1] + " of " + match[2])
			}
		}
		for _, match := range citedTable.FindAllStringSubmatch(text, -1) {
			checked++
			if !slices.Contains(headings(rules), match[1]) {
				missing("the table " + match[1] + " of docs/rules.md")
			}
		}
		for _, match := range citedRule.FindAllStringSubmatch(text, -1) {
			checked++
			if !strings.Contains(rules, "\n"+match[1]+". ") {
				missing("rule " + match[1] + " of docs/rules.md")
			}
		}
	}
	if checked < 30 {
		t.Errorf("only %d citations are found", checked)
	}
}

// packages are the packages of the module by their path, "main" for the root, with those of ours
// that they import. Tests do not count, and neither do modules of their own.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	found := make(map[string][]string)
	for name, text := range tree() {
		folder := path.Dir(name)
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") ||
			strings.Contains(name, "testdata/") || isModule(folder) {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		if folder == "." {
			folder = "main"
		}
		if _, has := found[folder]; !has {
			found[folder] = nil
		}
		for _, spec := range file.Imports {
			of, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), "phantom/")
			if ours && !slices.Contains(found[folder], of) {
				found[folder] = append(found[folder], of)
			}
		}
	}
	return found
}

// isModule says whether a folder below the root lies in a module of its own.
func isModule(folder string) bool {
	for ; folder != "."; folder = path.Dir(folder) {
		if _, is := tree()[folder+"/go.mod"]; is {
			return true
		}
	}
	return false
}

var (
	pictureShape = regexp.MustCompile("(?s)```mermaid\n(flowchart.*?)```")
	labelShape   = regexp.MustCompile(`^([a-z_]+)\["([a-z_/]+)"\]$`)
)

// picture are the arrows that docs/architecture.md draws.
func picture(t *testing.T) map[string][]string {
	t.Helper()
	match := pictureShape.FindStringSubmatch(tree()["docs/architecture.md"])
	if match == nil {
		t.Fatal("docs/architecture.md has no picture")
	}
	labels, drawn := make(map[string]string), make(map[string][]string)
	var arrows [][2]string
	for line := range strings.Lines(match[1]) {
		line = strings.TrimSpace(line)
		if label := labelShape.FindStringSubmatch(line); label != nil {
			labels[label[1]] = label[2]
			continue
		}
		from, to, is := strings.Cut(line, " --> ")
		if !is {
			continue
		}
		for _, one := range strings.Split(to, " & ") {
			arrows = append(arrows, [2]string{from, one})
		}
	}
	name := func(node string) string {
		if label, has := labels[node]; has {
			return label
		}
		return node
	}
	for _, arrow := range arrows {
		drawn[name(arrow[0])] = append(drawn[name(arrow[0])], name(arrow[1]))
	}
	return drawn
}

// reach are all nodes that arrows lead to from one.
func reach(arrows map[string][]string, from string) map[string]bool {
	seen := make(map[string]bool)
	var visit func(string)
	visit = func(node string) {
		for _, next := range arrows[node] {
			if !seen[next] {
				seen[next] = true
				visit(next)
			}
		}
	}
	visit(from)
	return seen
}

// The picture of the packages is as the code imports: each arrow is an import, each import is an
// arrow or a way over several, and each package has its line.
func TestPictureOfThePackages(t *testing.T) {
	t.Parallel()
	imports, drawn := packages(t), picture(t)
	for from, list := range drawn {
		for _, to := range list {
			if !slices.Contains(imports[from], to) {
				t.Errorf("docs/architecture.md draws %s --> %s, which is no import", from, to)
			}
		}
	}
	inBinary := reach(imports, "main")
	inBinary["main"] = true
	for from := range inBinary {
		ways := reach(drawn, from)
		for _, to := range imports[from] {
			if !ways[to] {
				t.Errorf("%s imports %s, and docs/architecture.md draws no way there", from, to)
			}
		}
	}
	page := tree()["docs/architecture.md"]
	for name := range imports {
		if name != "main" && !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/architecture.md has no line for package %s", name)
		}
	}
}

var (
	tableShape  = regexp.MustCompile(`CREATE TABLE (?:IF NOT EXISTS )?([a-z_]+)`)
	columnShape = regexp.MustCompile(`\{"([a-z_]+)", "([a-z_]+)"\}`)
)

// Each table has its place in docs/architecture.md, and each sealed column.
func TestStateHasAPlace(t *testing.T) {
	t.Parallel()
	page, found := tree()["docs/architecture.md"], 0
	for name, text := range tree() {
		if path.Dir(name) != "sql/migrations" {
			continue
		}
		for _, match := range tableShape.FindAllStringSubmatch(text, -1) {
			found++
			if !strings.Contains(page, "`"+match[1]+"`") {
				t.Errorf("docs/architecture.md does not name the table %s", match[1])
			}
		}
	}
	sealed := columnShape.FindAllStringSubmatch(tree()["db/rewrap.go"], -1)
	for _, match := range sealed {
		if column := match[1] + "." + match[2]; !strings.Contains(page, "`"+column+"`") {
			t.Errorf("docs/architecture.md does not name the sealed column %s", column)
		}
	}
	if found < 30 || len(sealed) < 5 {
		t.Errorf("only %d tables and %d sealed columns are found", found, len(sealed))
	}
}

// Each decision stands in the index, under its number.
func TestIndexOfDecisions(t *testing.T) {
	t.Parallel()
	index, found := tree()["docs/adr/README.md"], 0
	for name := range tree() {
		number, _, is := strings.Cut(path.Base(name), "-")
		if path.Dir(name) != "docs/adr" || !is {
			continue
		}
		found++
		if !strings.Contains(index, fmt.Sprintf("[%s](%s)", number, path.Base(name))) {
			t.Errorf("docs/adr/README.md does not list %s", path.Base(name))
		}
	}
	if found < 20 {
		t.Errorf("only %d decisions are found", found)
	}
}

var targetShape = regexp.MustCompile("`make ([a-z-]+)")

// Each target of make that a document names exists.
func TestNamedTargets(t *testing.T) {
	t.Parallel()
	for name, text := range documents(t) {
		for _, match := range targetShape.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(tree()["Makefile"], "\n"+match[1]+":") {
				t.Errorf("%s names make %s, which is no target", name, match[1])
			}
		}
	}
}

var (
	testShape    = regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]*|Fuzz[A-Z][A-Za-z0-9]*)(…?)")
	testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)\(`)
)

// Each test that a document names is there.
func TestNamedTests(t *testing.T) {
	t.Parallel()
	there := make(map[string]bool)
	for name, text := range tree() {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, match := range testFunction.FindAllStringSubmatch(text, -1) {
			there[match[1]] = true
		}
	}
	checked := 0
	for name, text := range documents(t) {
		for _, match := range testShape.FindAllStringSubmatch(text, -1) {
			checked++
			if match[1] != "TestMain" && match[2] == "" && !there[match[1]] {
				t.Errorf("%s names %s, which is no test", name, match[1])
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d tests are named", checked)
	}
}

// Documents wrap at 100 columns, and a table that is wider is a list. Blocks of code may be wider.
func TestLinesOfDocuments(t *testing.T) {
	t.Parallel()
	for name, text := range documents(t) {
		isCode := false
		for i, line := range strings.Split(text, "\n") {
			if strings.HasPrefix(line, "```") {
				isCode = !isCode
			}
			if columns := len([]rune(line)); columns > 100 && !isCode {
				t.Errorf("%s:%d has %d columns", name, i+1, columns)
			}
		}
	}
}

// What the binary serves is the document that people read and tests hold answers against.
func TestOpenAPIIsPacked(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if string(OpenAPI()) != string(text) {
		t.Error("docs/openapi.json.gz holds another document than docs/openapi.json: run make openapi")
	}
}
