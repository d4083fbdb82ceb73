package task

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
)

// A free hand takes what goes first before all that its process has claimed earlier.
func TestNextTakesFirstThingsFirst(t *testing.T) {
	t.Parallel()
	s := newHands(10)
	for range 5 {
		s.put(&held{task: &Task{}})
	}
	s.put(&held{task: &Task{First: true}})
	for i := range 6 {
		if h := s.take(); h.task.First != (i == 0) {
			t.Errorf("number %d goes first: %t", i, h.task.First)
		}
	}
	if s.take() != nil {
		t.Error("there is more than was claimed")
	}
}

// One merchant's tasks hold four of five hands at most, and the only hand of a queue. What waits
// for them is told apart, and each end of a task lets the next one begin.
func TestHandsAreLeftToOthers(t *testing.T) {
	t.Parallel()
	for workers, most := range map[int]int{1: 1, 2: 1, 4: 3, 10: 8, 20: 16} {
		s := newHands(workers)
		one, two := uuid.UUID{1}, uuid.UUID{2}
		for range 30 {
			s.put(&held{task: &Task{MerchantID: one}})
		}
		var trying []*held
		for h := s.take(); h != nil; h = s.take() {
			trying = append(trying, h)
		}
		if len(trying) != most || s.blocked != 30-most {
			t.Errorf("%d workers: one merchant holds %d hands, and %d wait", workers, len(trying), s.blocked)
		}
		if !s.sated(one, 30-most) || s.sated(one, 31-most) || s.sated(two, 0) {
			t.Errorf("%d workers: who has enough is not told", workers)
		}
		s.put(&held{task: &Task{MerchantID: two}})
		if h := s.take(); h == nil || h.task.MerchantID != two {
			t.Fatalf("%d workers: another one's task waits", workers)
		}
		s.put(&held{task: &Task{MerchantID: one, First: true}})
		if s.take() != nil || s.blocked != 31-most {
			t.Errorf("%d workers: what goes first takes more hands than are left", workers)
		}
		s.end(trying[0])
		if s.blocked != 0 {
			t.Errorf("%d workers: %d are blocked where a hand is free", workers, s.blocked)
		}
		if h := s.take(); h == nil || !h.task.First {
			t.Errorf("%d workers: a free hand does not take what goes first", workers)
		}
		if left := s.drain(); len(left) != 30-most || s.blocked != 0 || s.take() != nil {
			t.Errorf("%d workers: %d are given back", workers, len(left))
		}
		for _, h := range append(trying, &held{task: &Task{MerchantID: two}}) {
			s.end(h)
		}
		if len(s.loads) != 0 {
			t.Errorf("%d workers: %d merchants are remembered for nothing", workers, len(s.loads))
		}
	}
}

// Of what is claimed at once, the first of each merchant comes before the second of any.
func TestInTurns(t *testing.T) {
	t.Parallel()
	one, two := uuid.UUID{1}, uuid.UUID{2}
	var rows []db.TaskClaimRow
	for i := range 6 {
		row := db.TaskClaimRow{MerchantID: one, ID: uuid.UUID{9, byte(i)}, RunAt: time.Unix(int64(10-i), 0)}
		if i >= 3 {
			row.MerchantID, row.RunAt = two, time.Unix(int64(100-i), 0)
		}
		rows = append(rows, row)
	}
	for i, row := range inTurns(rows) {
		want, at := one, int64(8+i/2)
		if i%2 == 1 {
			want, at = two, int64(95+i/2)
		}
		if row.MerchantID != want || row.RunAt.Unix() != at {
			t.Errorf("number %d is %d of merchant %d", i, row.RunAt.Unix(), row.MerchantID[0])
		}
	}
}
