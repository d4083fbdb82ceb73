package verdict

import (
	"encoding/binary"
	"math/bits"
	"sync"
)

// shard is a part of the records. An entry of its index is the print of a record in the upper half
// and where it lies, plus one, in the lower; 0 is free, and goneEntry was taken.
type shard struct {
	mutex   sync.RWMutex
	index   []uint64
	used    int // entries that are not free, those that are gone too
	live    int
	arena   arena
	scratch []byte // a record on its way
}

// goneEntry is the print 1 with no place: prints are odd, and this one is never given a place 0.
const goneEntry = 1 << 32

// isFull says whether so many entries are too many for an index of a size: one in six stays free.
func isFull(used, size int) bool { return (used+1)*6 > size*5 }

// roomFor is the size of an index with so many entries, and some to come.
func roomFor(live int) int { return live*3/2 + 8 }

// first is the first entry at which a print is looked for.
func first(print uint32, size int) int { return int(uint64(print) * uint64(size) >> 32) }

// find is a customer's record, or nil.
func (s *shard) find(print, slot uint32, customer string) []byte {
	at := s.entry(print, slot, customer)
	if at < 0 {
		return nil
	}
	return s.arena.at(uint32(s.index[at]) - 1)
}

// entry is the entry of a customer's record, or -1.
func (s *shard) entry(print, slot uint32, customer string) int {
	size := len(s.index)
	if size == 0 {
		return -1
	}
	for i := first(print, size); ; i++ {
		if i == size {
			i = 0
		}
		e := s.index[i]
		if e == 0 {
			return -1
		}
		if uint32(e>>32) == print && uint32(e) != 0 && isOf(s.arena.at(uint32(e)-1), slot, customer) {
			return i
		}
	}
}

// findOwner is the record with a subscription among those of a print, or nil.
func (s *shard) findOwner(print, slot uint32, subscription string) []byte {
	size := len(s.index)
	if size == 0 {
		return nil
	}
	for i := first(print, size); ; i++ {
		if i == size {
			i = 0
		}
		e := s.index[i]
		if e == 0 {
			return nil
		}
		if uint32(e>>32) == print && uint32(e) != 0 {
			if record := s.arena.at(uint32(e) - 1); slotOf(record) == slot && holds(record, subscription) {
				return record
			}
		}
	}
}

// has says whether there is any record of a print.
func (s *shard) has(print uint32) bool {
	size := len(s.index)
	if size == 0 {
		return false
	}
	for i := first(print, size); ; i++ {
		if i == size {
			i = 0
		}
		e := s.index[i]
		if e == 0 {
			return false
		}
		if uint32(e>>32) == print && uint32(e) != 0 {
			return true
		}
	}
}

// put stores the record in scratch.
func (s *shard) put(print, slot uint32, customer string) {
	if at := s.entry(print, slot, customer); at >= 0 {
		old := uint32(s.index[at]) - 1
		if s.arena.overwrite(old, s.scratch) {
			return
		}
		s.arena.free(old)
		s.index[at] = uint64(print)<<32 | uint64(s.arena.add(s.scratch)+1)
	} else {
		if isFull(s.used, len(s.index)) {
			s.resize(s.live + 1)
		}
		s.insert(print, s.arena.add(s.scratch))
		s.live++
	}
	if s.arena.wasteful() {
		s.compact()
	}
}

func (s *shard) insert(print, offset uint32) {
	size := len(s.index)
	for i := first(print, size); ; i++ {
		if i == size {
			i = 0
		}
		if e := s.index[i]; e == 0 || uint32(e) == 0 {
			if e == 0 {
				s.used++
			}
			s.index[i] = uint64(print)<<32 | uint64(offset+1)
			return
		}
	}
}

func (s *shard) remove(print, slot uint32, customer string) {
	at := s.entry(print, slot, customer)
	if at < 0 {
		return
	}
	s.arena.free(uint32(s.index[at]) - 1)
	s.index[at] = goneEntry
	s.live--
}

// resize makes an index with room for so many.
func (s *shard) resize(live int) {
	old := s.index
	s.index, s.used = make([]uint64, roomFor(live)), 0
	for _, e := range old {
		if uint32(e) != 0 {
			s.insert(uint32(e>>32), uint32(e)-1)
		}
	}
}

// compact moves the records together.
func (s *shard) compact() {
	old := s.arena
	s.arena = arena{}
	for i, e := range s.index {
		if uint32(e) != 0 {
			s.index[i] = e>>32<<32 | uint64(s.arena.add(old.at(uint32(e)-1))+1)
		}
	}
}

// keep drops the records that it does not name.
func (s *shard) keep(wanted func(record []byte) bool) {
	for i, e := range s.index {
		if uint32(e) != 0 && !wanted(s.arena.at(uint32(e)-1)) {
			s.arena.free(uint32(e) - 1)
			s.index[i] = goneEntry
			s.live--
		}
	}
	s.resize(s.live)
	s.compact()
}

func (s *shard) each(visit func(record []byte)) {
	for _, e := range s.index {
		if uint32(e) != 0 {
			visit(s.arena.at(uint32(e) - 1))
		}
	}
}

func (s *shard) bytes() int64 { return int64(8*len(s.index)) + s.arena.bytes() }

// arena holds records one after the other, each behind its length, in blocks. A block never moves.
type arena struct {
	blocks       [][]byte
	held, wasted int
}

const (
	blockBits = 18
	blockSize = 1 << blockBits
)

// add appends a record, and returns where.
func (a *arena) add(record []byte) uint32 {
	need := sizeOf(record)
	last := len(a.blocks) - 1
	if last < 0 || len(a.blocks[last])+need > cap(a.blocks[last]) {
		// An eighth of what is there, so that little stays free.
		size := min(max(int(a.bytes())/8, 1<<10), blockSize)
		a.blocks = append(a.blocks, make([]byte, 0, max(size, need)))
		last++
	}
	block := a.blocks[last]
	offset := uint32(last<<blockBits | len(block))
	a.blocks[last] = append(binary.AppendUvarint(block, uint64(len(record))), record...)
	a.held += need
	return offset
}

// sizeOf is what a record takes, with its length.
func sizeOf(record []byte) int { return (bits.Len(uint(len(record))|1)+6)/7 + len(record) }

// at is a record.
func (a *arena) at(offset uint32) []byte {
	block := a.blocks[offset>>blockBits][offset&(blockSize-1):]
	if n := int(block[0]); n < 0x80 {
		return block[1 : 1+n : 1+n]
	}
	n, size := binary.Uvarint(block)
	return block[size : size+int(n) : size+int(n)]
}

// overwrite puts a record of the same length in another's place.
func (a *arena) overwrite(offset uint32, record []byte) bool {
	old := a.at(offset)
	if len(old) != len(record) {
		return false
	}
	copy(old, record)
	return true
}

func (a *arena) free(offset uint32) {
	n := sizeOf(a.at(offset))
	a.held -= n
	a.wasted += n
}

// wasteful says whether a third of what lies there is nobody's any more.
func (a *arena) wasteful() bool { return a.wasted > 4<<10 && 2*a.wasted > a.held }

func (a *arena) bytes() (n int64) {
	for _, block := range a.blocks {
		n += int64(cap(block))
	}
	return n
}

// ownerShard is a part of the index of subscriptions. An entry is the print of a subscription, in
// 26 bits, and the place of its customer's record, in 38; 0 is free, and all ones was taken.
type ownerShard struct {
	mutex   sync.RWMutex
	entries []uint64
	used    int
	live    int
}

const (
	placeBits = 38
	goneOwner = 1<<64 - 1
)

func (t *Table) ownerShard(slot uint32, subscription string) uint32 {
	return uint32(t.hash(slot, subscription) >> 58)
}

// ownerPrint is never 0.
func (t *Table) ownerPrint(slot uint32, subscription string) uint32 {
	return uint32(t.hash(slot, subscription)>>20)&(1<<26-1) | 1
}

func packOwner(print uint32, at place) uint64 {
	return uint64(print)<<placeBits | uint64(at.shard)<<32 | uint64(at.print)
}

func unpackOwner(e uint64) place { return place{uint32(e>>32) & 63, uint32(e)} }

func firstOwner(print uint32, size int) int { return int(uint64(print) * uint64(size) >> 26) }

// own notes whose a subscription is.
func (t *Table) own(slot uint32, subscription string, at place) {
	o := &t.owners[t.ownerShard(slot, subscription)]
	o.mutex.Lock()
	defer o.mutex.Unlock()
	e := packOwner(t.ownerPrint(slot, subscription), at)
	if o.index(e) >= 0 {
		return
	}
	if isFull(o.used, len(o.entries)) {
		o.resize(o.live + 1)
	}
	o.insert(e)
	o.live++
}

// ownerOf is where the record of a subscription lies.
func (t *Table) ownerOf(slot uint32, subscription string) (at place, is bool) {
	o := &t.owners[t.ownerShard(slot, subscription)]
	// Never both locks at a time: who writes takes them in the other order.
	places, n := o.find(t.ownerPrint(slot, subscription))
	for _, at := range places[:n] {
		s := &t.records[at.shard]
		s.mutex.RLock()
		found := s.findOwner(at.print, slot, subscription) != nil
		s.mutex.RUnlock()
		if found {
			return at, true
		}
	}
	return place{}, false
}

// mostAlike is how many subscriptions of one print are told apart. Of ten million, two share one in
// a thousand cases.
const mostAlike = 8

// find are the places of a print.
func (o *ownerShard) find(print uint32) (places [mostAlike]place, n int) {
	o.mutex.RLock()
	defer o.mutex.RUnlock()
	size := len(o.entries)
	if size == 0 {
		return places, 0
	}
	for i := firstOwner(print, size); n < mostAlike; i++ {
		if i == size {
			i = 0
		}
		e := o.entries[i]
		if e == 0 {
			break
		}
		if e != goneOwner && uint32(e>>placeBits) == print {
			places[n] = unpackOwner(e)
			n++
		}
	}
	return places, n
}

func (o *ownerShard) index(e uint64) int {
	size := len(o.entries)
	if size == 0 {
		return -1
	}
	for i := firstOwner(uint32(e>>placeBits), size); ; i++ {
		if i == size {
			i = 0
		}
		switch o.entries[i] {
		case e:
			return i
		case 0:
			return -1
		}
	}
}

func (o *ownerShard) insert(e uint64) {
	size := len(o.entries)
	for i := firstOwner(uint32(e>>placeBits), size); ; i++ {
		if i == size {
			i = 0
		}
		if x := o.entries[i]; x == 0 || x == goneOwner {
			if x == 0 {
				o.used++
			}
			o.entries[i] = e
			return
		}
	}
}

func (o *ownerShard) remove(print uint32, at place) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if i := o.index(packOwner(print, at)); i >= 0 {
		o.entries[i] = goneOwner
		o.live--
	}
}

func (o *ownerShard) resize(live int) {
	old := o.entries
	o.entries, o.used = make([]uint64, roomFor(live)), 0
	for _, e := range old {
		if e != 0 && e != goneOwner {
			o.insert(e)
		}
	}
}

func (o *ownerShard) keep(wanted func(place) bool) {
	for i, e := range o.entries {
		if e != 0 && e != goneOwner && !wanted(unpackOwner(e)) {
			o.entries[i] = goneOwner
			o.live--
		}
	}
	o.resize(o.live)
}
