package ghost

import "github.com/go-faster/jx"

// What reads the shapes that all of Stripe's objects have in common. facts.go reads the objects.

// fields calls field for each key of an object; a key that field does not know it must skip.
func fields(d *jx.Decoder, field func(d *jx.Decoder, key string) error) error {
	if d.Next() == jx.Null {
		return d.Null()
	}
	// The conversion in the caller's switch does not allocate: the key does not outlive it.
	return d.ObjBytes(func(d *jx.Decoder, key []byte) error { return field(d, string(key)) })
}

// text reads a string, or null as "".
func text(d *jx.Decoder, into *string) (err error) {
	if d.Next() == jx.Null {
		return d.Null()
	}
	*into, err = d.Str()
	return err
}

// word reads a string of a small vocabulary, without a copy of its own for each of a million.
func word(d *jx.Decoder, into *string) error {
	if d.Next() == jx.Null {
		return d.Null()
	}
	raw, err := d.StrBytes()
	if err != nil {
		return err
	}
	for _, known := range vocabulary {
		if string(raw) == known {
			*into = known
			return nil
		}
	}
	*into = string(raw)
	return nil
}

var vocabulary = []string{
	"succeeded", "paid", "active", "open", "failed", "approved_by_network", "declined_by_network", "visa", "mastercard", "usd", "eur",
	"gbp", "US", "DE", "GB", "canceled", "past_due", "uncollectible", "void", "draft", "trialing", "pending", "not_sent_to_network",
	"month", "year", "keep_as_draft", "insufficient_funds", "generic_decline", "do_not_honor", "card_declined", "amex", "processing", "requires_action", "jpy",
}

// number reads an integer, or null as 0.
func number(d *jx.Decoder, into *int64) (err error) {
	if d.Next() == jx.Null {
		return d.Null()
	}
	*into, err = d.Int64()
	return err
}

func truth(d *jx.Decoder, into *bool) (err error) {
	if d.Next() == jx.Null {
		return d.Null()
	}
	*into, err = d.Bool()
	return err
}

// reference reads an object's id, whether the object is expanded or not. Of an expanded one status
// takes its status.
func reference(d *jx.Decoder, id, status *string) error {
	if d.Next() != jx.Object {
		return text(d, id)
	}
	return fields(d, func(d *jx.Decoder, key string) error {
		switch key {
		case "id":
			return text(d, id)
		case "status":
			if status != nil {
				return word(d, status)
			}
		}
		return d.Skip()
	})
}

// present reports whether there is anything but null.
func present(d *jx.Decoder, into *bool) error {
	*into = d.Next() != jx.Null
	return d.Skip()
}

// marker is the key of metadata by which a person says what PHANTOM is to do with an object.
const marker = "phantom"

// marked sets into where metadata holds the marker with a value.
func marked(d *jx.Decoder, value string, into *bool) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return fields(d, func(d *jx.Decoder, key string) error {
		if key != marker {
			return d.Skip()
		}
		var said string
		err := text(d, &said)
		*into = *into || said == value
		return err
	})
}

// elements calls field for each key of each element of a list of Stripe's, which is an object with
// data.
func elements(d *jx.Decoder, field func(d *jx.Decoder, key string) error) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return fields(d, func(d *jx.Decoder, key string) error {
		if key != "data" {
			return d.Skip()
		}
		return d.Arr(func(d *jx.Decoder) error { return fields(d, field) })
	})
}
