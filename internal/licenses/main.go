// Command licenses collects the licences of everything in the release binary for phantom licenses:
//
//	go run ./internal/licenses
//
// writes cli/licenses.txt.gz anew. make licenses does it, after a change of go.mod.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const path = "cli/licenses.txt.gz"

func main() {
	text, err := collect(".")
	if err == nil {
		err = write(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func write(text []byte) error {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, packed.Bytes(), 0o644)
}

// module is one that has packages in the binary.
type module struct {
	name, version string
	dir           string
	own           bool // our own code stands in its place
	folders       []string
}

// collect returns the licences of the program in root, as a release is built.
func collect(root string) ([]byte, error) {
	modules, err := list(root)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, m := range modules {
		texts, err := m.texts()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, "%s\n%s\n%[1]s\n\n", strings.Repeat("=", 80), strings.TrimSpace(m.name+" "+m.version))
		for _, text := range texts {
			out.Write(text)
			out.WriteString("\n\n")
		}
	}
	return out.Bytes(), nil
}

// list asks Go which modules the binary is made of, by name, the standard library first.
func list(root string) ([]*module, error) {
	command := exec.Command("go", "list", "-deps", "-tags", "minimal", "-json=Dir,Module", ".")
	command.Dir, command.Stderr = root, os.Stderr
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	text, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	library := &module{name: "The Go standard library", dir: strings.TrimSpace(string(goroot))}
	library.folders = []string{library.dir}
	found := make(map[string]*module)
	for decoder := json.NewDecoder(bytes.NewReader(text)); ; {
		var p struct {
			Dir    string
			Module *struct {
				Path, Version, Dir string
				Main               bool
				Replace            *struct{ Path string }
			}
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if p.Module == nil || p.Module.Main {
			continue
		}
		m := found[p.Module.Path]
		if m == nil {
			m = &module{name: p.Module.Path, version: p.Module.Version, dir: p.Module.Dir}
			m.own = p.Module.Replace != nil && strings.HasPrefix(p.Module.Replace.Path, "./internal/standins/")
			found[m.name] = m
		}
		m.folders = append(m.folders, p.Dir)
	}
	modules := []*module{library}
	for _, m := range found {
		modules = append(modules, m)
	}
	slices.SortFunc(modules[1:], func(a, b *module) int { return strings.Compare(a.name, b.name) })
	return modules, nil
}

var isLicense = regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying|notice|patents)([-._][^.]*)?(\.(md|txt))?$`)

// texts are the licences of a module: its own, and those that lie beside packages of others in it.
func (m *module) texts() ([][]byte, error) {
	if m.own {
		return [][]byte{[]byte("Code of PHANTOM's own stands in for this module.")}, nil
	}
	var folders []string
	for _, folder := range m.folders {
		for ; len(folder) >= len(m.dir); folder = filepath.Dir(folder) {
			folders = append(folders, folder)
		}
	}
	slices.Sort(folders)
	var texts [][]byte
	for _, folder := range slices.Compact(folders) {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if entry.IsDir() || !isLicense.MatchString(entry.Name()) {
				continue
			}
			text, err := os.ReadFile(filepath.Join(folder, entry.Name()))
			if err != nil {
				return nil, err
			}
			text = bytes.TrimSpace(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
			if !slices.ContainsFunc(texts, func(other []byte) bool { return bytes.Equal(other, text) }) {
				texts = append(texts, text)
			}
		}
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("%s has no licence: it may not be passed on", m.name)
	}
	return texts, nil
}
