package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// guard is one entry of the list: a piece of code without which money, a customer or a record comes
// to harm, and the test that says so.
type guard struct {
	name string
	file string // below the repository's root
	// the declaration that find is looked for in, by its first words; "" is the whole file
	in   string
	edit []edit
	pkg  string // as go test takes it: ./task
	run  string // the pattern of -run
	tags string
	text string // the entry as it stands in the list
}

// edit takes the guard out.
type edit struct{ find, replace string }

// parseList reads the list. docs: CONTRIBUTING.md, "Guards".
func parseList(text string) (list []guard, err error) {
	seen := map[string]bool{}
	var g *guard
	for number, line := range strings.Split(text, "\n") {
		fail := func(why string) error { return fmt.Errorf("line %d: %s", number+1, why) }
		key, value, _ := strings.Cut(line, " ")
		if strings.TrimSpace(line) == "" || key == "#" {
			continue
		}
		if key == "guard" {
			if seen[value] || value == "" {
				return nil, fail("a guard has a name of its own")
			}
			seen[value] = true
			list = append(list, guard{name: value})
			g = &list[len(list)-1]
			g.text = line + "\n"
			continue
		}
		if g == nil {
			return nil, fail("the list begins with a guard")
		}
		g.text += line + "\n"
		last := len(g.edit) - 1
		switch key {
		case "file":
			g.file = value
		case "in":
			g.in = value
		case "-":
			if last < 0 || g.edit[last].replace != "" {
				g.edit = append(g.edit, edit{})
				last++
			}
			g.edit[last].find += value + "\n"
		case "+":
			if last < 0 {
				return nil, fail("a + comes behind its -")
			}
			g.edit[last].replace += value + "\n"
		case "test":
			g.pkg, g.run, _ = strings.Cut(value, " ")
		case "tags":
			g.tags = value
		default:
			return nil, fail("it begins with guard, file, in, -, +, test, tags or #")
		}
	}
	for i, g := range list {
		if g.file == "" || len(g.edit) == 0 || !strings.HasPrefix(g.pkg, "./") || g.run == "" {
			return nil, fmt.Errorf("guard %q lacks its file, its text or its test", g.name)
		}
		if _, err := regexp.Compile(g.run); err != nil {
			return nil, fmt.Errorf("guard %q: %w", g.name, err)
		}
		for k := range g.edit { // what is found may be a part of a line
			list[i].edit[k].find = strings.TrimSuffix(g.edit[k].find, "\n")
			list[i].edit[k].replace = strings.TrimSuffix(g.edit[k].replace, "\n")
		}
	}
	return list, nil
}

// mutate is source without the guard.
func (g guard) mutate(source string) (string, error) {
	begin, end := 0, len(source)
	if g.in != "" {
		if n := strings.Count(source, "\n"+g.in); n != 1 {
			return "", fmt.Errorf("%q begins %d declarations in %s, and not one", g.in, n, g.file)
		}
		begin = strings.Index(source, "\n"+g.in) + 1
		if length := endOf(source[begin:]); length >= 0 {
			end = begin + length
		}
	}
	part := source[begin:end]
	for _, e := range g.edit {
		if n := strings.Count(part, e.find); n != 1 {
			return "", fmt.Errorf("its text is found %d times in %s, and not once", n,
				strings.TrimSpace(g.file+" "+g.in))
		}
		part = strings.Replace(part, e.find, e.replace, 1)
	}
	if part == source[begin:end] {
		return "", errors.New("it changes nothing")
	}
	return source[:begin] + part + source[end:], nil
}

// endOf is where a declaration ends: with the line that closes its raw string, its function or its
// list.
func endOf(text string) int {
	first, _, _ := strings.Cut(text, "\n")
	for _, form := range []struct{ opens, closes string }{{"`", "\n`\n"}, {"{", "\n}\n"}, {"(",
		"\n)\n"}} {
		if strings.Contains(first, form.opens) {
			return strings.Index(text, form.closes)
		}
	}
	return -1
}

// testFile is the file of the package's tests that holds the first test of the guard's pattern.
func (g guard) testFile(root string) (string, error) {
	names, err := filepath.Glob(filepath.Join(root, g.pkg, "*_test.go"))
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(g.run, "/")
	pattern := regexp.MustCompile(first)
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		for _, found := range testName.FindAllStringSubmatch(string(text), -1) {
			if pattern.MatchString(found[1]) {
				return filepath.Rel(root, name)
			}
		}
	}
	return "", fmt.Errorf("no test of %s matches %s", g.pkg, g.run)
}

var testName = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// matches says whether a test that ran, with its subtests' names behind slashes, is as deep as the
// pattern asks and fits it.
func (g guard) matches(name string) bool {
	parts, names := strings.Split(g.run, "/"), strings.Split(name, "/")
	if len(names) < len(parts) {
		return false
	}
	for i, part := range parts {
		if ok, err := regexp.MatchString(part, names[i]); !ok || err != nil {
			return false
		}
	}
	return true
}
