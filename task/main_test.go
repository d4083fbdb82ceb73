package task_test

import (
	"os"
	"testing"

	"phantom/db/dbtest"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(workerURL); url != "" {
		os.Exit(workerProcess(url))
	}
	os.Exit(dbtest.Main(m))
}
