package task

import (
	"slices"

	"github.com/google/uuid"
)

// hands are a queue's workers and the stock of claimed tasks that they take from. Its queue's mutex
// guards it.
type hands struct {
	most    int // hands that one merchant's tasks may hold: the others are left
	stock   [2][]*held
	loads   map[uuid.UUID]*load
	blocked int // tasks in stock whose merchant holds as many hands as it may
}

// load is what one merchant has of a queue.
type load struct{ trying, waiting int }

// counts says whether a task takes one of its merchant's hands. An audit does not: audits have a
// bound of their own, and where there are two hands it would hold up all else of its merchant.
func (h *held) counts() bool { return h.task.Kind != longKind }

// newHands leaves every fifth hand to others, at least one, but the only one.
func newHands(workers int) hands {
	return hands{most: max(workers-max(workers/5, 1), 1), loads: map[uuid.UUID]*load{}}
}

// put adds a task to the stock, and says whether a free hand may take it. What goes first is taken
// before the others.
func (s *hands) put(h *held) (free bool) {
	place := 1
	if h.task.First {
		place = 0
	}
	s.stock[place] = append(s.stock[place], h)
	if !h.counts() {
		return true
	}
	l := s.loads[h.task.MerchantID]
	if l == nil {
		l = new(load)
		s.loads[h.task.MerchantID] = l
	}
	if l.waiting++; l.trying >= s.most {
		s.blocked++
		return false
	}
	return true
}

// take returns the next task whose merchant may hold one more hand, and nil where there is none.
func (s *hands) take() *held {
	if s.blocked == len(s.stock[0])+len(s.stock[1]) {
		return nil
	}
	for place, stock := range s.stock {
		for i, h := range stock {
			l := s.loads[h.task.MerchantID]
			if h.counts() && l.trying >= s.most {
				continue
			}
			if i == 0 {
				stock[0] = nil
				s.stock[place] = stock[1:]
			} else {
				s.stock[place] = slices.Delete(stock, i, i+1)
			}
			if !h.counts() {
				return h
			}
			l.waiting--
			if l.trying++; l.trying == s.most {
				s.blocked += l.waiting
			}
			return h
		}
	}
	return nil
}

// end frees a hand.
func (s *hands) end(h *held) {
	if !h.counts() {
		return
	}
	l := s.loads[h.task.MerchantID]
	if l.trying == s.most {
		s.blocked -= l.waiting
	}
	if l.trying--; l.trying == 0 && l.waiting == 0 {
		delete(s.loads, h.task.MerchantID)
	}
}

// drain takes all that nobody tries yet.
func (s *hands) drain() []*held {
	all := slices.Concat(s.stock[0], s.stock[1])
	s.stock, s.blocked = [2][]*held{}, 0
	for merchant, l := range s.loads {
		if l.waiting = 0; l.trying == 0 {
			delete(s.loads, merchant)
		}
	}
	return all
}

// sated says whether a merchant has as many tasks as it may hold hands, and so many more.
func (s *hands) sated(merchant uuid.UUID, more int) bool {
	l := s.loads[merchant]
	return l != nil && l.trying+l.waiting >= s.most+more
}

// waiting is how many tasks of a merchant wait for a hand.
func (s *hands) waiting(merchant uuid.UUID) int {
	if l := s.loads[merchant]; l != nil {
		return l.waiting
	}
	return 0
}
