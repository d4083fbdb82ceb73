package model

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"phantom/decline"
)

// Class is a class of failures whose charges are repeated.
type Class uint8

// The classes, in the order of [decline.Class].
const (
	Timed Class = iota
	Low
	Soon
	Unknown
	classes = 4
)

// ClassOf is the class of a name. A name that is none of ours is Unknown.
func ClassOf(name decline.Class) Class {
	switch name {
	case decline.Timed:
		return Timed
	case decline.Low:
		return Low
	case decline.Soon:
		return Soon
	default:
		return Unknown
	}
}

var wordShape = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

// Word is a name as the model takes it, such as a code or a brand: "" for "unknown" and for what
// can be none.
func Word(text string) string {
	text = strings.ToLower(text)
	if text == "unknown" || !wordShape.MatchString(text) {
		return ""
	}
	return text
}

// Cell is all that the model looks at in a charge that was not the first of its invoice. What is
// empty or unknown counts for nothing.
type Cell struct {
	Class    Class  // of the failure before
	Code     string // of the failure before
	Attempt  uint8  // 0 is the first after the failure, most is 4
	Age      uint8  // since the first failure, an index of waits
	Gap      uint8  // since the last failure, an index of waits
	Category string
	Country  string
	Funding  string
	Brand    string
	Amount   int8 // steps of the logarithm of the amount
	Weekday  uint8
	Hour     uint8
	Rest     bool  // on a day of the weekend
	Billed   uint8 // the hour of the first charge
	// of the customer's memory, in quarters of log-odds
	Lift, Level, Own int8
}

// cellFields are how many parts the text of a cell has.
const cellFields = 17

// Text is the cell as it is stored. Names must hold no slash.
func (c *Cell) Text() string {
	return fmt.Sprintf("%d/%s/%d/%d/%d/%s/%s/%s/%s/%d/%d/%d/%d/%d/%d/%d/%d", c.Class, c.Code, c.Attempt, c.Age, c.Gap, c.Category, c.Country,
		c.Funding, c.Brand, c.Amount, c.Weekday, c.Hour, flag(c.Rest), c.Billed, c.Lift, c.Level, c.Own)
}

// ParseCell reads what [Cell.Text] wrote. It reports false for what is none.
func ParseCell(text string) (c Cell, ok bool) {
	parts := strings.Split(text, "/")
	if len(parts) != cellFields {
		return Cell{}, false
	}
	ok = true
	number := func(i, low, high int) int {
		n, err := strconv.Atoi(parts[i])
		ok = ok && err == nil && n >= low && n <= high
		return n
	}
	c = Cell{
		Class: Class(number(0, 0, classes-1)), Code: parts[1], Attempt: uint8(number(2, 0, 4)), Age: uint8(number(3, 0, len(waits))),
		Gap: uint8(number(4, 0, len(waits))), Category: parts[5], Country: parts[6], Funding: parts[7], Brand: parts[8],
		Amount: int8(number(9, -6, 6)), Weekday: uint8(number(10, 0, 6)), Hour: uint8(number(11, 0, 23)), Rest: number(12, 0, 1) == 1,
		Billed: uint8(number(13, 0, 23)), Lift: int8(number(14, -40, 40)), Level: int8(number(15, -40, 40)), Own: int8(number(16, -40, 40)),
	}
	return c, ok
}

// waits are the ends of the steps in which time is counted.
var waits = [...]time.Duration{30 * time.Hour, 54 * time.Hour, 102 * time.Hour, 198 * time.Hour, 300 * time.Hour}

func waitOf(wait time.Duration) uint8 {
	for i, end := range waits {
		if wait < end {
			return uint8(i)
		}
	}
	return uint8(len(waits))
}

// amountOf is the step of an amount in minor units: the logarithm to the base of 2 beside six of a
// currency's large units, such as dollars, from a 64th to 64 times as much.
func amountOf(amount int64, decimals int) int8 {
	if amount <= 0 {
		return 0
	}
	return int8(math.Round(min(max(math.Log2(float64(amount)/6/math.Pow10(decimals)), -6), 6)))
}

// quarter rounds log-odds to quarters.
func quarter(x float64) int8 { return int8(math.Round(min(max(x*4, -40), 40))) }

// block is a kind of coefficients. A coefficient is found by its block, a class, a name and its
// place among those of that block, class and name.
type block uint8

const (
	attemptBlock block = iota
	codeBlock
	ageBlock
	gapBlock
	categoryBlock
	categoryClassBlock
	countryBlock
	fundingBlock
	brandBlock
	merchantBlock
	hourBlock
	weekdayBlock
	restHourBlock
	categoryHourBlock
	categoryRestHourBlock
	categoryWeekdayBlock
	countryHourBlock
	midnightBlock
	merchantHourBlock
	merchantWeekdayBlock
	billedBlock
	amountBlock // from here on a coefficient is multiplied by what it stands for
	liftBlock
	levelBlock
	liftAmountBlock
	ownBlock
	seenBlock // at which hours of the week enough merchants have charged: no coefficient
	blocks
)

// kind is what is true of all coefficients of a block.
type kind struct {
	name   string
	places int
	sd     float64 // of the prior
	hours  bool    // places are hours of the day, of which neighbours share
	steps  bool    // places follow each other: a coefficient is by how much one differs from the last
	own    bool    // a merchant's own: nobody else's answers depend on it
	mean   func(class Class, place int) float64
}

const timing = .8 // coefficients of time vary less

var kinds = [blocks]kind{
	attemptBlock: {name: "attempt", places: 5, sd: .5, mean: func(c Class, place int) float64 {
		return [classes]float64{-1.9, -1.9, -.5, -1.9}[c] - .15*float64(place)
	}},
	codeBlock:             {name: "code", places: 1, sd: .3},
	ageBlock:              {name: "age", places: len(waits) + 1, sd: .2, steps: true},
	gapBlock:              {name: "gap", places: len(waits) + 1, sd: .3, steps: true},
	categoryBlock:         {name: "category", places: 1, sd: .3},
	categoryClassBlock:    {name: "category_class", places: 1, sd: .2},
	countryBlock:          {name: "country", places: 1, sd: .25},
	fundingBlock:          {name: "funding", places: 1, sd: .2},
	brandBlock:            {name: "brand", places: 1, sd: .1},
	merchantBlock:         {name: "merchant", places: 1, sd: .5, own: true},
	hourBlock:             {name: "hour", places: 24, sd: .3 * timing, hours: true},
	weekdayBlock:          {name: "weekday", places: 7, sd: .25 * timing},
	restHourBlock:         {name: "rest_hour", places: 24, sd: .2 * timing, hours: true},
	categoryHourBlock:     {name: "category_hour", places: 24, sd: .3 * timing, hours: true},
	categoryRestHourBlock: {name: "category_rest_hour", places: 24, sd: .2 * timing, hours: true},
	categoryWeekdayBlock:  {name: "category_weekday", places: 7, sd: .2 * timing},
	countryHourBlock:      {name: "country_hour", places: 24, sd: .2 * timing, hours: true},
	midnightBlock:         {name: "midnight", places: 1, sd: .3 * timing},
	merchantHourBlock:     {name: "merchant_hour", places: 24, sd: .35 * timing, hours: true, own: true},
	merchantWeekdayBlock:  {name: "merchant_weekday", places: 7, sd: .15 * timing, own: true},
	billedBlock:           {name: "billed", places: 24, sd: .5, hours: true},
	amountBlock:           {name: "amount", places: 1, sd: .3},
	liftBlock:             {name: "lift", places: 1, sd: .3, mean: byClass(.8, .3, .2, .5)},
	levelBlock:            {name: "level", places: 1, sd: .3, mean: byClass(.8, .6, .4, .6)},
	liftAmountBlock:       {name: "lift_amount", places: 1, sd: .2},
	seenBlock:             {name: "seen", places: 7 * 24},
	ownBlock:              {name: "own", places: 1, sd: .4, mean: byClass(.3, .3, .3, .3)},
}

func byClass(means ...float64) func(Class, int) float64 {
	return func(c Class, _ int) float64 { return means[c] }
}

// key names the coefficients of a block for one class and one name.
type key struct {
	block block
	class Class
	name  string
}

// prior is the mean of a coefficient before anything was learned.
func (k key) prior(place int) float64 {
	if mean := kinds[k.block].mean; mean != nil {
		return mean(k.class, place)
	}
	return 0
}

// term is a coefficient with what it is multiplied by.
type term struct {
	key   key
	place int
	value float64
}

// terms are those of a charge by a merchant, in the order of the blocks; without a key where a
// block has nothing to say.
func (c *Cell) terms(merchant string) (all [blocks]term) {
	hour, weekday := int(c.Hour), int(c.Weekday)
	put := func(b block, class Class, name string, place int, value float64) {
		all[b] = term{key{b, class, name}, place, value}
	}
	named := func(b block, class Class, name string, place int) {
		if name != "" {
			put(b, class, name, place, 1)
		}
	}
	put(attemptBlock, c.Class, "", int(c.Attempt), 1)
	named(codeBlock, 0, c.Code, 0)
	put(ageBlock, c.Class, "", int(c.Age), 1)
	put(gapBlock, c.Class, "", int(c.Gap), 1)
	named(categoryBlock, 0, c.Category, 0)
	named(categoryClassBlock, c.Class, c.Category, 0)
	named(countryBlock, 0, c.Country, 0)
	named(fundingBlock, c.Class, c.Funding, 0)
	named(brandBlock, 0, c.Brand, 0)
	named(merchantBlock, 0, merchant, 0)
	put(hourBlock, c.Class, "", hour, 1)
	put(weekdayBlock, c.Class, "", weekday, 1)
	named(categoryHourBlock, 0, c.Category, hour)
	if c.Rest {
		put(restHourBlock, 0, "", hour, 1)
		named(categoryRestHourBlock, 0, c.Category, hour)
	}
	named(categoryWeekdayBlock, 0, c.Category, weekday)
	named(countryHourBlock, 0, c.Country, hour)
	if c.Funding == "debit" && c.Hour == 0 {
		put(midnightBlock, c.Class, "", 0, 1)
	}
	named(merchantHourBlock, 0, merchant, hour)
	named(merchantWeekdayBlock, 0, merchant, weekday)
	put(billedBlock, 0, "", int(c.Billed), 1)
	lift := float64(c.Lift) / 4
	put(amountBlock, c.Class, "", 0, float64(c.Amount))
	put(liftBlock, c.Class, "", 0, lift)
	put(levelBlock, c.Class, "", 0, float64(c.Level)/4)
	put(liftAmountBlock, 0, "", 0, lift*float64(c.Amount))
	put(ownBlock, c.Class, "", 0, float64(c.Own)/4)
	return all
}

// daylight is what is thought of an hour before anything was learned: that people and banks are
// awake by day.
func daylight(hour int) float64 {
	x := .125 * math.Cos(2*math.Pi*float64(hour-12)/24)
	if hour < 6 {
		x -= .075
	}
	return x
}
