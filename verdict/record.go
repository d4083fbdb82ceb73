package verdict

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"phantom/shield"
)

// A record is a customer with what they are told, ready to be written out:
//
//	slot, the customer's id
//	level, reason, flags, since [, target] [, level and time of the next one]
//	how many subscriptions, and of each
//	    level and flags, reason, since, the id, product
//	    [, target] [, how many levels are ahead, and level and time of each]
//
// Times are 4 bytes: seconds since 1970, until 2106. An id is its length and its text: without the
// prefix that most have, which the length's highest bit stands for, and behind two bytes of length
// where it is very long.

// flags of a customer
const (
	hasSince  = 1 << iota
	hasTarget // the level is held, or not enforced
	hasNext
	inDebt
)

// flags of a subscription, beside three bits of its level
const (
	subEnded = 8 << iota
	subHeld
	subInDebt
	subAhead
)

const levelMask = 7

// reasons are all reasons, by their byte in a record. The first is none.
var reasons = []shield.Reason{
	"", shield.ByOverride, shield.ByExemption, shield.ByEnd, shield.ByIncompleteness, shield.ByPause, shield.ByCollection, shield.ByPayment,
	shield.ByWriteOff, shield.ByHoldout, shield.ByDispute, shield.ByPaymentUnderWay, shield.ByMinimum, shield.ByFailure, shield.ByChargeback,
	shield.ByPromise, shield.ByPaidPeriod, shield.ByAnnouncement, shield.ByStaleness,
}

// reasonByte is 0 for a reason of a newer server's: it is told without one.
func reasonByte(r shield.Reason) byte { return byte(max(slices.Index(reasons, r), 0)) }

func levelByte(l shield.Level) byte { return byte(max(slices.Index(shield.Levels, l), 0)) }

// head is what a customer is told, without their subscriptions.
type head struct {
	level, target shield.Level
	reason        shield.Reason
	since         int64 // 0: none
	next          *shield.RowAhead
	inDebt        bool
}

// headOf is what a customer with these rows is told: what [shield.VerdictOf] says. Most have one
// subscription, and nothing ahead.
func headOf(p *shield.Policy, rows []shield.Row) (h head) {
	for _, row := range rows {
		h.inDebt = h.inDebt || row.InDebt
	}
	if len(rows) == 1 && rows[0].Ahead == nil && p.Mode == shield.Enforce {
		row := &rows[0]
		h.level, h.reason, h.since = row.Level, row.Reason, row.Since
		if row.Held {
			h.target = row.Target
		}
		return h
	}
	known := make([]shield.Known, len(rows))
	for i, row := range rows {
		known[i] = row.Known()
	}
	v := shield.VerdictOf(*p, "", "", known)
	h.level, h.target, h.reason = v.Level, v.Target, v.Reason
	if v.Since != nil {
		h.since = v.Since.Unix()
	}
	if v.Next != nil {
		h.next = &shield.RowAhead{Level: v.Next.Level, At: v.Next.At.Unix()}
	}
	return h
}

// encode appends a record.
func encode(dst []byte, slot uint32, p *shield.Policy, customer string, rows []shield.Row, products *names) []byte {
	h := headOf(p, rows)
	dst = appendID(binary.LittleEndian.AppendUint32(dst, slot), customerPrefix, customer)
	var flags byte
	if h.since != 0 {
		flags |= hasSince
	}
	if h.target != "" {
		flags |= hasTarget
	}
	if h.next != nil {
		flags |= hasNext
	}
	if h.inDebt {
		flags |= inDebt
	}
	dst = append(dst, levelByte(h.level), reasonByte(h.reason), flags)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.since))
	if h.target != "" {
		dst = append(dst, levelByte(h.target))
	}
	if h.next != nil {
		dst = binary.LittleEndian.AppendUint32(append(dst, levelByte(h.next.Level)), uint32(h.next.At))
	}
	dst = binary.AppendUvarint(dst, uint64(len(rows)))
	for i := range rows {
		dst = encodeRow(dst, &rows[i], products)
	}
	return dst
}

func encodeRow(dst []byte, row *shield.Row, products *names) []byte {
	flags := levelByte(row.Level)
	if row.Ended {
		flags |= subEnded
	}
	if row.Held {
		flags |= subHeld
	}
	if row.InDebt {
		flags |= subInDebt
	}
	if len(row.Ahead) > 0 {
		flags |= subAhead
	}
	dst = binary.LittleEndian.AppendUint32(append(dst, flags, reasonByte(row.Reason)), uint32(row.Since))
	dst = appendID(dst, subscriptionPrefix, row.Subscription)
	dst = binary.AppendUvarint(dst, products.of(row.Product))
	if row.Held {
		dst = append(dst, levelByte(row.Target))
	}
	if len(row.Ahead) > 0 {
		dst = append(dst, byte(min(len(row.Ahead), 255)))
		for _, next := range row.Ahead[:min(len(row.Ahead), 255)] {
			dst = binary.LittleEndian.AppendUint32(append(dst, levelByte(next.Level)), uint32(next.At))
		}
	}
	return dst
}

func slotOf(record []byte) uint32 { return binary.LittleEndian.Uint32(record) }

const (
	customerPrefix     = "cus_"
	subscriptionPrefix = "sub_"

	cut  = 0x80 // the prefix is left out
	long = 0x7f // the length follows
)

func appendID(dst []byte, prefix, id string) []byte {
	if rest, is := strings.CutPrefix(id, prefix); is && len(rest) < long {
		return append(append(dst, byte(len(rest))|cut), rest...)
	}
	if len(id) < long {
		return append(append(dst, byte(len(id))), id...)
	}
	return append(append(dst, long, byte(len(id))), id...)
}

// readID takes an id apart: its prefix, the rest, and what follows.
func readID(from []byte, prefix string) (head string, rest, next []byte) {
	n, from := from[0], from[1:]
	switch {
	case n&cut != 0:
		n, head = n&^cut, prefix
	case n == long:
		n, from = from[0], from[1:]
	}
	return head, from[:n], from[n:]
}

func customerOf(record []byte) string {
	head, rest, _ := readID(record[4:], customerPrefix)
	return head + string(rest)
}

func isOf(record []byte, slot uint32, customer string) bool {
	if slotOf(record) != slot {
		return false
	}
	head, rest, _ := readID(record[4:], customerPrefix)
	return len(customer) == len(head)+len(rest) && customer[:len(head)] == head && customer[len(head):] == string(rest)
}

// reading is a record that is taken apart from the front.
type reading struct{ rest []byte }

func (r *reading) byte() byte {
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reading) time() int64 {
	t := binary.LittleEndian.Uint32(r.rest)
	r.rest = r.rest[4:]
	return int64(t)
}

func (r *reading) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	r.rest = r.rest[size:]
	return n
}

// readHead takes the head off, and says how many subscriptions follow.
func (r *reading) readHead() (h head, subscriptions int) {
	_, _, r.rest = readID(r.rest[4:], customerPrefix)
	h.level, h.reason = shield.Levels[r.byte()], reasons[r.byte()]
	flags := r.byte()
	h.since, h.inDebt = r.time(), flags&inDebt != 0
	if flags&hasTarget != 0 {
		h.target = shield.Levels[r.byte()]
	}
	if flags&hasNext != 0 {
		h.next = &shield.RowAhead{Level: shield.Levels[r.byte()]}
		h.next.At = r.time()
	}
	return h, int(r.number())
}

// sub is a subscription of a record.
type sub struct {
	level   shield.Level
	reason  shield.Reason
	flags   byte
	since   int64
	head    string // of its id
	rest    []byte
	product uint64
	target  shield.Level
	ahead   []byte
}

func (r *reading) readSub() (s sub) {
	s.flags = r.byte()
	s.level, s.reason = shield.Levels[s.flags&levelMask], reasons[r.byte()]
	s.since = r.time()
	s.head, s.rest, r.rest = readID(r.rest, subscriptionPrefix)
	s.product = r.number()
	if s.flags&subHeld != 0 {
		s.target = shield.Levels[r.byte()]
	}
	if s.flags&subAhead != 0 {
		n := 5 * int(r.byte())
		s.ahead, r.rest = r.rest[:n], r.rest[n:]
	}
	return s
}

// is says whether it is the subscription of an id.
func (s *sub) is(id string) bool {
	return len(id) == len(s.head)+len(s.rest) && id[:len(s.head)] == s.head && id[len(s.head):] == string(s.rest)
}

// holds says whether a record has a subscription.
func holds(record []byte, subscription string) bool {
	r := reading{record}
	_, n := r.readHead()
	for range n {
		if s := r.readSub(); s.is(subscription) {
			return true
		}
	}
	return false
}

// decode is a record as rows.
func decode(record []byte, products []string, customer string) []shield.Row {
	r := reading{record}
	_, n := r.readHead()
	rows := make([]shield.Row, 0, n+1)
	for range n {
		s := r.readSub()
		row := shield.Row{
			Subscription: s.head + string(s.rest), Customer: customer, Product: products[s.product], Level: s.level, Reason: s.reason, Since: s.since,
			Ended: s.flags&subEnded != 0, Held: s.flags&subHeld != 0, InDebt: s.flags&subInDebt != 0, Target: s.target,
		}
		for a := s.ahead; len(a) > 0; a = a[5:] {
			row.Ahead = append(row.Ahead, shield.RowAhead{Level: shield.Levels[a[0]], At: int64(binary.LittleEndian.Uint32(a[1:]))})
		}
		rows = append(rows, row)
	}
	return rows
}

// appendTime writes a time as RFC 3339 has it, in UTC.
func appendTime(dst []byte, unix int64) []byte {
	return time.Unix(unix, 0).UTC().AppendFormat(dst, time.RFC3339)
}
