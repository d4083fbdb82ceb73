package task

import "testing"

// A free hand takes what goes first before all that its process has claimed earlier.
func TestNextTakesFirstThingsFirst(t *testing.T) {
	q := &Queue{ahead: make(chan *held, 9), work: make(chan *held, 9)}
	for range 5 {
		q.work <- &held{task: &Task{}}
	}
	q.ahead <- &held{task: &Task{First: true}}
	for i := range 6 {
		if h := q.next(); h.task.First != (i == 0) {
			t.Errorf("number %d goes first: %t", i, h.task.First)
		}
	}
	close(q.work)
	if q.next() != nil {
		t.Error("there is more than was claimed")
	}
}
