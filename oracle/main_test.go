package oracle

import (
	"os"
	"testing"

	"phantom/db/dbtest"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }
