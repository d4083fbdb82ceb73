// Package oracle learns from charges when money is there, and chooses the moment of the next one.
//
// What it learns is counted where charges are read or settled ([Gather], [Settle]), a night's work
// makes a model of it ([Rebuild], package model), and [Service.Next] is asked by hunts. It chooses
// only where it has shown that it predicts well, and until it has shown that it does harm
// ([Standing]). In all other cases [Heuristic] chooses.
package oracle

import (
	"time"

	"github.com/google/uuid"

	"phantom/decline"
)

// Question is what an advisor (the interface of package forecast) knows when it chooses the moment
// of the next charge.
type Question struct {
	Merchant uuid.UUID
	Category string // the merchant's business_category, "" where it is not known
	Livemode bool

	Invoice  string
	Amount   int64 // minor units
	Currency string
	Country  string         // of the customer or their card, ISO 3166; "" where it is not known
	Zone     *time.Location // the customer's
	Memory   Memory         // of the customer

	Class      decline.Class // of the last failure
	Code       string        // of the last failure
	LastFailed time.Time
	Tried      []Tried // the invoice's failures that are known, the oldest first
	Attempt    int     // 1 for our first
	Left       int     // charges that may still be made, this one included

	Now       time.Time
	NotBefore time.Time
	NotAfter  time.Time

	// 8 bytes or more, even; the same question with the same seed has the same answer
	Seed []byte
	// the charge will be made: some moments are drawn, so that others can be learned about. False
	// for one that is only thought of
	Explore bool
	// 8 bytes or more, even over customers and always the same for one: who is in which arm
	Person []byte
}

// Tried is a charge of an invoice that has failed.
type Tried struct {
	At    time.Time
	Class decline.Class
	Code  string
}

// Moment is an advisor's answer.
type Moment struct {
	At     time.Time
	Reason string // in plain words
	// with which this moment was chosen among all that were possible, over 0 to 1
	Probability float64
	// what the oracle says about it; nil where it was not asked
	Advice *Advice
}

// Advice is what the oracle says about a moment that was chosen, by itself or by [Heuristic].
type Advice struct {
	Model     int64   // version; 0: what is known before any charge
	P         float64 // chance that a charge at that moment succeeds
	Low, High float64 // of it, with nine in ten
	// "low", "medium" or "high"
	Confidence string
	Arm        string // "oracle" or "heuristic"; "" where the oracle is not on
	Cell       string // where a charge at that moment counts

	// the oracle's own moment; zero: it would charge no more, and the fixed rules chose
	Chosen     time.Time
	ChosenP    float64   // chance of success then
	Propensity float64   // with which the oracle chose it
	Reason     string    // for the oracle's moment, in plain words
	Heuristic  time.Time // the moment of the fixed rules
}

// The arms that customers are in while the oracle is on.
const (
	ArmOracle    = "oracle"
	ArmHeuristic = "heuristic"
)
