package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"testing"
)

// What phantom licenses prints is what the modules say now.
func TestLicensesAreCurrent(t *testing.T) {
	t.Parallel()
	want, err := collect("../..")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open("../../" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("licenses.txt.gz is not what the modules say: run make licenses")
	}
}
