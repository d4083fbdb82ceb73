//go:build !failpoints

package connect

import "net/http"

// sabotage is where a test build may spoil a mutation, to see a test go red; here it is nothing.
func sabotage(*http.Request) {}
