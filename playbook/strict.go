package playbook

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"phantom/input"
)

var fieldShape = regexp.MustCompile(`^[a-z_]+$`)

// checkNames finds what encoding/json takes without a word and what nobody should guess at where
// money is asked for: a field that is given twice, one that differs from ours in case, and null,
// which would be taken for the default or for zero. text is a playbook that was decoded, so its
// fields are ours but for that. Its error is a [*input.FieldError].
func checkNames(text []byte) error { return checkValue(json.NewDecoder(bytes.NewReader(text)), "") }

func checkValue(d *json.Decoder, path string) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch token {
	case nil:
		return input.Wrong(cmp.Or(path, "body"), "must not be null")
	case json.Delim('['):
		for i := 0; d.More(); i++ {
			if err := checkValue(d, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case json.Delim('{'):
		if err := checkObject(d, path); err != nil {
			return err
		}
	default:
		return nil
	}
	_, err = d.Token() // the end
	return err
}

func checkObject(d *json.Decoder, path string) error {
	// Their fields are the caller's own, in segments too.
	byCurrency := strings.HasSuffix(path, "min_amount") || strings.HasSuffix(path, "daily_cap")
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string) // a field's name is one
		field := strings.TrimPrefix(path+"."+name, ".")
		switch {
		case byCurrency:
			field = path
		case !fieldShape.MatchString(name):
			return input.Wrong("body", onlyFields)
		}
		if seen[name] {
			return input.Wrong(field, "must be given once")
		}
		seen[name] = true
		if err := checkValue(d, field); err != nil {
			return err
		}
	}
	return nil
}
