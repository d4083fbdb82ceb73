//go:build unix && !aix && !solaris

package local

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A killed process's scratch folder goes, with the server in it. A living one's stays, and so does
// what Scratch did not make.
func TestScratch(t *testing.T) {
	t.Parallel()
	parent := folder(t)
	names := func() (names []string) {
		entries, err := os.ReadDir(parent)
		must(t, err)
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		return names
	}
	scratch := func() (other *process, name string) {
		t.Helper()
		before := names()
		other = spawnWith(t, "", "scratch", "TMPDIR="+parent)
		if word, rest := other.says(t); word != "started" {
			t.Fatal(word, rest)
		}
		made := slices.DeleteFunc(names(), func(name string) bool { return slices.Contains(before, name) })
		if len(made) != 1 {
			t.Fatalf("%q beside %q", made, before)
		}
		return other, made[0]
	}
	killed, dead := scratch()
	living, alive := scratch()
	strangers := []string{"trial-file", "trial-folder", "trials"}
	must(t, os.WriteFile(filepath.Join(parent, strangers[0]), nil, 0o600))
	must(t, os.MkdirAll(filepath.Join(parent, strangers[1], "pg", "data"), 0o755))
	must(t, os.Mkdir(filepath.Join(parent, strangers[2]), 0o755))
	server := postmasterPID(ScratchDir(filepath.Join(parent, dead)))
	other := postmasterPID(ScratchDir(filepath.Join(parent, alive)))
	killed.kill()
	if !runs(server) {
		t.Fatal("the server went with its process: there is nothing to show")
	}

	sweepScratch(t.Context(), parent, "trial", slog.New(slog.DiscardHandler))
	if runs(server) {
		t.Error("the killed process's server runs")
	}
	if !runs(other) {
		t.Error("the living process's server was stopped")
	}
	want := append([]string{alive}, strangers...)
	slices.Sort(want)
	if got := names(); !slices.Equal(got, want) {
		t.Errorf("after the sweep %q, want %q", got, want)
	}

	living.stdin.Close()
	if word, rest := living.says(t); word != "stopped" {
		t.Fatal(word, rest)
	}
	must(t, living.cmd.Wait())
	if got := names(); !slices.Equal(got, strangers) {
		t.Errorf("at the end %q, want %q", got, strangers)
	}
}
