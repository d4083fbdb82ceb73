package report

import (
	"errors"
	"os"
	"path/filepath"
)

// WriteFile puts a file in place at once, over an older one, for its owner's eyes alone. What is
// there and no file, such as /dev/null or a pipe, is written to: root could put a file in its
// place.
func WriteFile(path string, content []byte) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(path, content, 0o600)
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".report-") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.Write(content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
