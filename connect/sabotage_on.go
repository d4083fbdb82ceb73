//go:build failpoints

package connect

import "net/http"

// Sabotage, if not nil, spoils a mutation before it leaves. Only builds with the tag failpoints
// have it.
var Sabotage func(*http.Request)

func sabotage(request *http.Request) {
	if Sabotage != nil {
		Sabotage(request)
	}
}
