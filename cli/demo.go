package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"phantom/demo"
)

// playDemo checks what is asked for before anything starts.
func playDemo(ctx context.Context, call Call) error {
	var o demo.Options
	flags := newFlags("demo")
	flags.IntVar(&o.Customers, "customers", 150, "customers of the merchant, from 1 to 2000; more take longer")
	flags.IntVar(&o.Others, "others", 29, "other merchants, from whose past the oracle learns, from 0 to 99; with fewer than five in all nothing is shared")
	flags.IntVar(&o.Days, "days", 60, "days to live through, from 1 to 90")
	flags.Uint64Var(&o.Seed, "seed", 1, "the same seed at the same hour makes the same merchant")
	flags.StringVar(&o.Path, "o", "demo.html", "the page to write")
	flags.BoolVar(&o.Plain, "plain", false, "plain lines instead of a live view, as where the output is no terminal")
	if err := call.parse(flags); err != nil {
		return err
	}
	switch {
	case o.Customers < 1 || o.Customers > 2000:
		return misuse("%s", "phantom demo: --customers must lie between 1 and 2000")
	case o.Others < 0 || o.Others > 99:
		return misuse("%s", "phantom demo: --others must lie between 0 and 99")
	case o.Days < 1 || o.Days > 90:
		return misuse("%s", "phantom demo: --days must lie between 1 and 90")
	}
	if info, err := os.Stat(filepath.Dir(o.Path)); o.Path == "" || err != nil || !info.IsDir() {
		return misuse("phantom demo: -o %.200q lies in no folder: name a file in one that is there", o.Path)
	}
	for _, name := range []string{"DATABASE_URL", "DATABASE_DIRECT_URL", "DATABASE_URL_FILE", "DATABASE_DIRECT_URL_FILE"} {
		if call.Getenv(name) != "" {
			return fmt.Errorf("[DATABASE] phantom demo moves the time of its database and drops it at the end: unset %s, and it takes a private one", name)
		}
	}
	return demo.Run(ctx, o, call.Stdout, call.Stderr)
}
