// Package liberationsansbold is Liberation Sans Bold, as of Liberation 2 (see ../LICENSE).
package liberationsansbold

import _ "embed"

// TTF is the font's file.
//
//go:embed LiberationSans-Bold.ttf
var TTF []byte
