// Package liberationsansitalic stands in for a font that no chart uses.
package liberationsansitalic

import "codeberg.org/go-fonts/liberation/liberationsansregular"

// TTF is Liberation Sans.
var TTF = liberationsansregular.TTF
