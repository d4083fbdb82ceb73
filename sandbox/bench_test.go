package sandbox

import "testing"

func BenchmarkWorld(b *testing.B) {
	for range b.N {
		s, _ := New(Config{Now: (&clock{t: birth}).Now})
		for _, a := range s.accounts {
			a.advance(birth.Unix())
		}
	}
}
