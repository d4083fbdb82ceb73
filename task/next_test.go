package task

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
)

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

// Of what is claimed at once, the first of each merchant comes before the second of any.
func TestInTurns(t *testing.T) {
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
