package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The commands of README.md and docs/api.md work when they are pasted in order, beside the server
// of make run. Those that are fenced as sh are meant to be pasted.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	variables, in := devMode(t)
	server, base := ready(t, variables, in)
	folder := server.command.Dir
	if err := os.Mkdir(filepath.Join(folder, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(folder, "bin", "phantom")); err != nil {
		t.Fatal(err)
	}
	// What fails, an answer with an error too, ends the script.
	script := "set -euo pipefail\ncurl() { command curl --fail-with-body \"$@\"; }\nset -x\n"
	blocks := 0
	for _, page := range []string{"README.md", "docs/api.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
			script += match[1]
			blocks++
		}
	}
	if blocks < 10 {
		t.Fatalf("only %d blocks are found", blocks)
	}
	// The binary is built already, and TestDemo runs the demo.
	script = strings.NewReplacer("make build\n", "", "bin/phantom demo\n", "", "http://localhost:8080", base).Replace(script)
	command := exec.Command("bash", "-c", script)
	command.Dir, command.Env = folder, environ(variables)
	endsWithUs(command)
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, want := range []string{`"status":"success"`, "ghosts owe EUR", `"hunts":`, "hunts send", `encrypted_token`} {
		if !strings.Contains(string(output), want) {
			t.Errorf("nothing says %q:\n%s", want, output)
		}
	}
}
