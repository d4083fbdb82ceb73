// Package input says what is wrong with what somebody has sent.
package input

// FieldError says which field of an input is wrong, and what would be right. It never quotes a
// value, and of names only those that have the shape of an id.
type FieldError struct{ Field, Rule string }

func (e *FieldError) Error() string { return e.Field + " " + e.Rule }

// Wrong is the error of a field that must be otherwise. The rule goes on from the field's name:
// "must be a whole number".
func Wrong(field, rule string) *FieldError { return &FieldError{Field: field, Rule: rule} }
