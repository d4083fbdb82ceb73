package outbound

import (
	"sync"

	"github.com/google/uuid"
)

// slots bound how many deliveries are on their way at once, and how many of them are one
// merchant's: endpoints that do not answer leave the other work its hands.
type slots struct {
	mutex sync.Mutex
	all   int
	of    map[uuid.UUID]int
	most  int
}

func newSlots(most int) *slots { return &slots{of: map[uuid.UUID]int{}, most: most} }

// take says whether a merchant's delivery may begin. Then give ends it.
func (s *slots) take(merchant uuid.UUID) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.all >= s.most || s.of[merchant] >= max(s.most/2, 1) {
		return false
	}
	s.all++
	s.of[merchant]++
	return true
}

func (s *slots) give(merchant uuid.UUID) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.all--
	if s.of[merchant]--; s.of[merchant] == 0 {
		delete(s.of, merchant)
	}
}
