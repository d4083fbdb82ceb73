// Package liberationsansbold stands in for Liberation Sans Bold: charts take a text's width from a
// font alone, and the browser's own font differs from it by more than bold letters do.
package liberationsansbold

import "codeberg.org/go-fonts/liberation/liberationsansregular"

// TTF is Liberation Sans.
var TTF = liberationsansregular.TTF
