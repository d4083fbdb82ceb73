package main

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Figures of so little mean nothing. This says that the command still measures.
func TestTinyForm(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "phantom")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-trimpath", "-tags", "minimal", "-o", binary, ".")
	build.Dir = filepath.Join("..", "..", "..")
	build.Env = append(build.Environ(), "CGO_ENABLED=0") // as make build, whose cache it finds
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if _, err := measure(t.Context(), binary, 1, time.Millisecond); err != nil {
		t.Fatal(err)
	}
}
