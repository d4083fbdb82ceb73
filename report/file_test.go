package report

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What is no file stays what it is: as root, a page for /dev/null would take the device's place.
func TestWriteFileKeepsPipes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan string, 1)
	go func() {
		text, err := os.ReadFile(path)
		read <- fmt.Sprintf("%s %v", text, err)
	}()
	if err := WriteFile(path, []byte("page")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		t.Fatalf("it is replaced: %v, %v", info, err)
	}
	if got := <-read; got != "page <nil>" {
		t.Errorf("read %q", got)
	}
}
