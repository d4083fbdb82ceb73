//go:build failpoints

package recovery

// Failpoint, if not nil, is called at every named point of a mutation. Only builds with the tag
// failpoints have it.
var Failpoint func(point string)

// unread takes the reads before a mutation away, to see a test go red.
var unread bool

func failpoint(point string) {
	if Failpoint != nil {
		Failpoint(point)
	}
}
