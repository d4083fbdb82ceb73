// Package liberationsansregular is Liberation Sans, as of Liberation 2 (see ../LICENSE).
package liberationsansregular

import _ "embed"

// TTF is the font's file.
//
//go:embed LiberationSans-Regular.ttf
var TTF []byte
