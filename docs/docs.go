// Package docs holds what is published of the documents by the binary itself.
package docs

import _ "embed"

// OpenAPI describes the whole API as an OpenAPI 3.1 document.
//
//go:embed openapi.json
var OpenAPI []byte
