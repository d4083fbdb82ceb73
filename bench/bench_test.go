package bench_test

import (
	"testing"

	"phantom/bench"
)

func BenchmarkPairs(b *testing.B) {
	pairs, err := bench.Vault()
	if err != nil {
		b.Fatal(err)
	}
	database, closeAll, err := bench.Database(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := closeAll(); err != nil {
			b.Error(err)
		}
	})
	for _, pair := range append(pairs, database...) {
		for side, do := range map[string]func() error{"ours": pair.Ours, "peer": pair.Peer} {
			b.Run(pair.Name+"/"+side, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := do(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
