package local

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

const oldestMajor = 14

// installation is one folder with initdb, pg_ctl and postgres of one version.
type installation struct {
	folder string
	major  int
}

func (i installation) program(name string) string { return filepath.Join(i.folder, name) }

// search says where installations are looked for.
type search struct {
	lookPath func(string) (string, error)
	globs    []string // folders, in order; the highest version first among the matches of one
}

func machine() search {
	return search{exec.LookPath, []string{
		"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
		"/usr/pgsql-*/bin",          // Red Hat, from postgresql.org
		"/usr/lib/postgresql*/bin",  // SUSE
		"/usr/libexec/postgresql*",  // Alpine
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
		"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	}}
}

// folders lists the folders that hold all three programs, in the order of preference: PATH comes
// first.
func (s search) folders() []string {
	var found []string
	add := func(folder string) {
		for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
			if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Mode()&0o111 == 0 {
				return
			}
		}
		// A symlink to a version is the same installation: once is enough.
		if resolved, err := filepath.EvalSymlinks(folder); err == nil && !slices.Contains(found, resolved) {
			found = append(found, resolved)
		}
	}
	for _, name := range []string{"pg_ctl", "initdb"} {
		if path, err := s.lookPath(name); err == nil {
			if path, err = filepath.EvalSymlinks(path); err == nil {
				// a lone link in PATH has no siblings
				add(filepath.Dir(path))
			}
		}
	}
	for _, glob := range s.globs {
		matches, _ := filepath.Glob(glob) // the one error is a malformed pattern
		slices.SortStableFunc(matches, func(a, b string) int { return lastNumber(b) - lastNumber(a) })
		for _, match := range matches {
			add(match)
		}
	}
	return found
}

// choose returns the first installation of the major version, or for 0 the first that is not too
// old. version asks a folder for its major version; a broken one is passed over. Errors:
// *NotInstalledError when there is none at all, else one that names what was found.
func (s search) choose(major int, version func(folder string) (int, error)) (installation, error) {
	folders := s.folders()
	if len(folders) == 0 {
		return installation{}, &NotInstalledError{s.command()}
	}
	var seen []string
	var broken error
	for _, folder := range folders {
		found, err := version(folder)
		if err != nil {
			broken = cmp.Or(broken, err)
			continue
		}
		if found == major || major == 0 && found >= oldestMajor {
			return installation{folder, found}, nil
		}
		seen = append(seen, fmt.Sprintf("%d (%s)", found, folder))
	}
	if broken != nil {
		return installation{}, broken
	}
	if major == 0 {
		return installation{}, fmt.Errorf("PostgreSQL %s is too old: install version %d or newer", strings.Join(seen, ", "), oldestMajor)
	}
	return installation{}, fmt.Errorf("the data was written by PostgreSQL %d, and installed is %s: install version %[1]d, or move the data folder away to begin with an empty one",
		major, strings.Join(seen, ", "))
}

// command is the line that installs PostgreSQL here, "" if no known package manager is.
func (s search) command() string {
	sudo := ""
	if os.Geteuid() > 0 {
		sudo = "sudo "
	}
	if runtime.GOOS == "darwin" {
		return "brew install postgresql@17"
	}
	for _, manager := range []struct{ name, command string }{
		{"apt-get", sudo + "apt-get install -y postgresql"},
		{"dnf", sudo + "dnf install -y postgresql-server"},
		{"apk", sudo + "apk add postgresql"},
		{"pacman", sudo + "pacman -S --noconfirm postgresql"},
		{"brew", "brew install postgresql@17"}, // never as root
	} {
		if _, err := s.lookPath(manager.name); err == nil {
			return manager.command
		}
	}
	return ""
}

var (
	numbers = regexp.MustCompile(`[0-9]+`)
	// "postgres (PostgreSQL) 17.2", "… 18beta1"
	versionLine = regexp.MustCompile(`\(PostgreSQL\) ([0-9]+)`)
)

func lastNumber(path string) int {
	all := numbers.FindAllString(path, -1)
	if len(all) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(all[len(all)-1])
	return n
}

func parseVersion(line string) (int, error) {
	match := versionLine.FindStringSubmatch(line)
	if match == nil {
		return 0, fmt.Errorf("read the version of PostgreSQL: unexpected %q", line)
	}
	return strconv.Atoi(match[1])
}
