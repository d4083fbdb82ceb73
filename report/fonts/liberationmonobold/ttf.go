// Package liberationmonobold stands in for a font that no chart uses.
package liberationmonobold

import "codeberg.org/go-fonts/liberation/liberationsansregular"

// TTF is Liberation Sans.
var TTF = liberationsansregular.TTF
