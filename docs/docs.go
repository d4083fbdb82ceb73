// Package docs holds what is published of the documents by the binary itself.
package docs

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"io"
	"sync"
)

// packed is openapi.json as make openapi packs it: in the binary it takes an eighth of the room.
//
//go:embed openapi.json.gz
var packed []byte

// OpenAPI describes the whole API as an OpenAPI 3.1 document. It is not to be changed.
var OpenAPI = sync.OnceValue(func() []byte {
	text, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		panic(err) // it is our own, and a test reads it
	}
	document, err := io.ReadAll(text)
	if err != nil {
		panic(err)
	}
	return document
})
