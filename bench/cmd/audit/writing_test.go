package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"phantom/db"
	"phantom/db/local"
	"phantom/sandbox"
)

// What is measured has to be what an audit writes: a column that the database wants and the
// measurement lacks is found here, and not in the middle of a long run.
func TestFindingsCanBeWritten(t *testing.T) {
	folder, err := os.MkdirTemp("", "bench-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // PostgreSQL may run as another user
		t.Fatal(err)
	}
	server, err := local.Start(t.Context(), local.Config{
		Dir: filepath.Join(folder, "server"), Database: "phantom_bench", Unsafe: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(server.Stop(context.WithoutCancel(t.Context())), os.RemoveAll(folder)); err != nil {
			t.Error(err)
		}
	}()
	if _, err := db.Migrate(t.Context(), server.URL(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	world, err := sandbox.New(sandbox.Config{Merchants: 1, Customers: 1})
	if err != nil {
		t.Fatal(err)
	}
	stripe := httptest.NewServer(world)
	defer stripe.Close()
	*url, *stripes = server.URL(), stripe.URL
	account, _, _, err := newService(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := handshake(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	upsert, copied, again, err := writing(t.Context(), server.URL(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, rate := range []float64{upsert[0], copied[0], again[0]} {
		if rate <= 0 {
			t.Errorf("%v, %v, %v rows a second", upsert, copied, again)
		}
	}
}
