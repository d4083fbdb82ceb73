package purge

import (
	"os"
	"testing"

	"phantom/db/dbtest"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(purgerURL); url != "" {
		os.Exit(purgerProcess(url))
	}
	os.Exit(dbtest.Main(m))
}
