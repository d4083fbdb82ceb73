package input

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Strict reads an object's JSON where money or access hang on it, and takes nothing on trust. It
// refuses a field that it does not know, that is given twice, or that differs from ours in case. It
// refuses null, and text behind the object.
type Strict struct {
	// Only says what the object takes. It goes on from its name, "body".
	Only string
	// Names says whether the fields of the object at a path such as segments[0].set.min_amount are
	// names of the sender's own. In a path * stands for such a name. nil: none are.
	Names func(path string) bool
}

var fieldShape = regexp.MustCompile(`^[a-z_]+$`)

// Decode reads text into what into points to. Its error is a [*FieldError].
func (s Strict) Decode(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			return Wrong("body", "must be one JSON object")
		}
	}
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Field != "":
		return Wrong(wrong.Field, "has the wrong type")
	case err != nil && strings.HasPrefix(err.Error(), "json: unknown field "):
		return Wrong("body", s.Only)
	case err != nil:
		return Wrong("body", "must be a JSON object")
	}
	return s.checkValue(json.NewDecoder(bytes.NewReader(text)), place{})
}

// place is where a value stands. Shown quotes no name of the sender's own; in path * stands for
// such a name.
type place struct{ shown, path string }

func (p place) element(i int) place {
	index := fmt.Sprintf("[%d]", i)
	return place{p.shown + index, p.path + index}
}

func (p place) field(name string, own bool) place {
	if own {
		return place{p.shown, p.path + ".*"}
	}
	return place{strings.TrimPrefix(p.shown+"."+name, "."), strings.TrimPrefix(p.path+"."+name, ".")}
}

// checkValue finds what encoding/json takes without a word. The text has been decoded, so its
// fields are ours but for that.
func (s Strict) checkValue(d *json.Decoder, at place) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch token {
	case nil:
		return Wrong(cmp.Or(at.shown, "body"), "must not be null")
	case json.Delim('['):
		for i := 0; d.More(); i++ {
			if err := s.checkValue(d, at.element(i)); err != nil {
				return err
			}
		}
	case json.Delim('{'):
		if err := s.checkObject(d, at); err != nil {
			return err
		}
	default:
		return nil
	}
	_, err = d.Token() // the end
	return err
}

func (s Strict) checkObject(d *json.Decoder, at place) error {
	own, seen := s.Names != nil && s.Names(at.path), map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string) // a field's name is one
		if !own && !fieldShape.MatchString(name) {
			return Wrong("body", s.Only)
		}
		inner := at.field(name, own)
		if seen[name] {
			return Wrong(inner.shown, "must be given once")
		}
		seen[name] = true
		if err := s.checkValue(d, inner); err != nil {
			return err
		}
	}
	return nil
}
