package rarely

import (
	"testing"
	"time"
)

func TestRarely(t *testing.T) {
	t.Parallel()
	var r Lines
	now := time.Now()
	for i, want := range []struct {
		kind     string
		after    time.Duration
		unlogged int
		is       bool
	}{
		{"a", 0, 0, true}, {"a", time.Second, 0, false}, {"b", time.Second, 0, true}, {"a", 59 * time.Second, 0, false},
		{"a", 61 * time.Second, 2, true}, {"a", 62 * time.Second, 0, false}, {"b", 63 * time.Second, 0, true},
	} {
		if unlogged, is := r.Say(want.kind, now.Add(want.after)); unlogged != want.unlogged || is != want.is {
			t.Errorf("number %d: %d, %t", i, unlogged, is)
		}
	}
}
