package verdict

import (
	"strconv"

	"phantom/shield"
)

// token is a revision as apps are told it.
func token(epoch string, revision int64) string { return epoch + "." + strconv.FormatInt(revision, 10) }

// answer is what a request is told about a customer.
type answer struct {
	known  bool
	level  shield.Level
	reason shield.Reason
	access bool
	inDebt bool
}

// answerOf is what a record says of the product as a whole.
func (v *view) answerOf(record []byte, expired bool) answer {
	a := answer{known: record != nil}
	if a.known {
		r := reading{record}
		h, _ := r.readHead()
		a.level, a.reason, a.inDebt = h.level, h.reason, h.inDebt
	} else {
		a.level, _ = v.unknown()
	}
	if level, does := v.failing(); expired && does {
		a.level, a.reason = level, shield.ByStaleness
	}
	a.access = a.level.Access()
	return a
}

// failing is what holds where nothing newer has been known for longer than the policy allows, if it
// says so: the level in place of each that is stored.
func (v *view) failing() (level shield.Level, does bool) {
	switch v.Policy.Fail.Mode {
	case "open":
		return shield.Full, true
	case "closed":
		return shield.Blocked, true
	}
	return "", false
}

// unknown is what a customer is told of whom nothing is known.
func (v *view) unknown() (level, target shield.Level) {
	if v.Policy.Mode != shield.Enforce {
		if v.Policy.Unknown != shield.Full {
			target = v.Policy.Unknown
		}
		return shield.Full, target
	}
	return v.Policy.Unknown, ""
}

// appendVerdict writes what is known of a customer, as [shield.Verdict] is as JSON, and says what
// was written. record is nil of one of whom nothing is known. expired says that what is known is
// older than the policy allows.
func (v *view) appendVerdict(dst []byte, record []byte, customer, feature string, products []string, expired bool) ([]byte, answer) {
	var h head
	var n int
	r := reading{record}
	a := answer{known: record != nil}
	if a.known {
		h, n = r.readHead()
		a.inDebt = h.inDebt
	} else {
		h.level, h.target = v.unknown()
	}
	if level, does := v.failing(); expired && does {
		h = head{level: level, reason: shield.ByStaleness}
	}
	a.level, a.reason, a.access = h.level, h.reason, v.Policy.Allows(h.level, feature)
	dst = append(append(dst, `{"customer":"`...), customer...) // an id has nothing to escape
	dst = append(dst, `","known":`...)
	dst = strconv.AppendBool(dst, a.known)
	dst = append(dst, `,"access":`...)
	dst = strconv.AppendBool(dst, a.access)
	dst = v.appendHead(dst, h)
	dst = append(dst, `,"subscriptions":[`...)
	full := v.Policy.Mode != shield.Enforce
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		s := r.readSub()
		level := s.level
		if full {
			level = shield.Full
		}
		dst = appendSub(dst, s, level, products)
	}
	return append(dst, `]}`...), a
}

// appendHead writes a verdict's middle.
func (v *view) appendHead(dst []byte, h head) []byte {
	dst = append(append(dst, `,"level":"`...), h.level...)
	if h.target != "" {
		dst = append(append(dst, `","target":"`...), h.target...)
	}
	if h.reason != "" {
		dst = append(append(dst, `","reason":"`...), h.reason...)
	}
	dst = append(dst, '"')
	if h.since != 0 {
		dst = append(appendTime(append(dst, `,"since":"`...), h.since), '"')
	}
	if h.next != nil {
		dst = append(append(dst, `,"next":{"level":"`...), h.next.Level...)
		dst = append(appendTime(append(dst, `","at":"`...), h.next.At), `"}`...)
	}
	dst = append(append(dst, `,"features":`...), v.features[h.level]...)
	dst = append(append(dst, `,"revision":"`...), v.revision...)
	dst = append(dst, `","livemode":`...)
	return strconv.AppendBool(dst, v.Livemode)
}

func appendSub(dst []byte, s sub, level shield.Level, products []string) []byte {
	dst = append(append(append(dst, `{"id":"`...), s.head...), s.rest...)
	if product := products[s.product]; product != "" {
		dst = append(append(dst, `","product":"`...), product...)
	}
	dst = append(append(dst, `","level":"`...), level...)
	if s.reason != "" {
		dst = append(append(dst, `","reason":"`...), s.reason...)
	}
	return append(dst, `"}`...)
}

// appendSubscription writes the verdict about one subscription of a record: its own level, and what
// is said of its customer.
func (v *view) appendSubscription(dst []byte, record []byte, id, feature string, products []string, expired bool) ([]byte, answer) {
	var h head
	var found sub
	a := answer{}
	customer := ""
	if record != nil {
		r := reading{record}
		_, n := r.readHead()
		for range n {
			if s := r.readSub(); s.is(id) {
				found, a.known = s, true
				customer = customerOf(record)
				break
			}
		}
	}
	if a.known {
		h = v.headOfSub(found)
		a.inDebt = found.flags&subInDebt != 0
	} else {
		h.level, h.target = v.unknown()
	}
	if level, does := v.failing(); expired && does {
		h = head{level: level, reason: shield.ByStaleness}
	}
	a.level, a.reason, a.access = h.level, h.reason, v.Policy.Allows(h.level, feature)
	dst = append(append(dst, `{"customer":"`...), customer...)
	dst = append(dst, `","known":`...)
	dst = strconv.AppendBool(dst, a.known)
	dst = append(dst, `,"access":`...)
	dst = strconv.AppendBool(dst, a.access)
	dst = v.appendHead(dst, h)
	dst = append(dst, `,"subscriptions":[`...)
	if a.known {
		dst = appendSub(dst, found, h.level, products)
	}
	return append(dst, `]}`...), a
}

// headOfSub is what is said of a subscription alone.
func (v *view) headOfSub(s sub) head {
	row := shield.Row{Level: s.level, Reason: s.reason, Since: s.since, Held: s.flags&subHeld != 0, Target: s.target}
	for a := s.ahead; len(a) > 0; a = a[5:] {
		row.Ahead = append(row.Ahead, shield.RowAhead{Level: shield.Levels[a[0]], At: int64(uint32(a[1]) | uint32(a[2])<<8 | uint32(a[3])<<16 | uint32(a[4])<<24)})
	}
	return headOf(&v.Policy, []shield.Row{row})
}

// appendStrings writes words that need no escape.
func appendStrings(dst []byte, words []string) []byte {
	dst = append(dst, '[')
	for i, word := range words {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), word...), '"')
	}
	return append(dst, ']')
}
