package recovery

import (
	"context"
	"time"
)

// Question is what an advisor knows when it chooses the moment of the next charge.
type Question struct {
	Class, Code string // of the last failure
	Attempt     int    // 1 for our first
	LastFailed  time.Time
	NotBefore   time.Time
	NotAfter    time.Time
	Zone        *time.Location // the customer's
	Category    string         // the merchant's business_category
	Livemode    bool
	Seed        []byte // the same question with the same seed has the same answer
}

// Moment is an advisor's answer.
type Moment struct {
	At          time.Time
	Reason      string  // in plain words
	Probability float64 // with which this moment was chosen among all that were possible, over 0 to 1
}

// Advisor chooses when to charge. An error is a reason to ask again later.
type Advisor interface {
	Next(ctx context.Context, q Question) (Moment, error)
}

// Heuristic is the advisor until statistics say better.
type Heuristic struct{}

// Next implements [Advisor].
func (Heuristic) Next(_ context.Context, q Question) (Moment, error) {
	return Moment{At: q.NotBefore, Reason: "as soon as it is allowed", Probability: 1}, nil
}
