// Package liberationsansbold stands in for Liberation Sans Bold: charts use the font only for the
// width of texts, and the browser's own font differs from it by more than bold letters do.
package liberationsansbold

import "codeberg.org/go-fonts/liberation/liberationsansregular"

// TTF is Liberation Sans.
var TTF = liberationsansregular.TTF
