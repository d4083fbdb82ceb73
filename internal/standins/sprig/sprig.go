// Package sprig stands in for functions of templates that no migration uses.
package sprig

import "text/template"

// TxtFuncMap has no functions: a migration that calls one fails to load.
func TxtFuncMap() template.FuncMap { return nil }
