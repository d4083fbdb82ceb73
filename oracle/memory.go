package oracle

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/decline"
	"phantom/oracle/model"
	"phantom/vault"
)

const (
	memoryMonths   = 13 // of charges
	mostRemembered = 40 // charges
)

// Memory is what is remembered of one customer's charges, for this customer alone. It is kept
// sealed, and goes with their ghost.
type Memory struct {
	Brand   string   `json:"b,omitempty"` // of the card that was charged last
	Funding string   `json:"f,omitempty"`
	Charges []charge `json:"c,omitempty"` // the oldest first
}

// charge is one of them. One without a class has succeeded.
type charge struct {
	At      int64         `json:"t"`           // Unix time
	Late    bool          `json:"l,omitempty"` // it has succeeded after a failure
	Class   decline.Class `json:"k,omitempty"`
	Code    string        `json:"d,omitempty"`
	Invoice string        `json:"i,omitempty"` // of a failure
}

// Seen is a charge as it is read.
type Seen struct {
	At             time.Time
	Invoice        string
	Class          decline.Class // of a failure; "" of a success
	Code           string
	Brand, Funding string
}

// Remember makes a memory of a customer's charges. It sorts them by time: the same charges make the
// same memory, in any order. Of those of more than thirteen months ago and of more than the model
// looks at, nothing is kept, nor of hard declines and what came after them: they say nothing about
// when there is money.
func Remember(seen []Seen, now time.Time) (m Memory) {
	slices.SortStableFunc(seen, func(a, b Seen) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Invoice, b.Invoice)) })
	from, failed, hard := now.AddDate(0, -memoryMonths, 0), make(map[string]bool), make(map[string]bool)
	for _, s := range seen {
		m.Brand, m.Funding = model.Word(s.Brand), model.Word(s.Funding)
		was := hard[s.Invoice]
		if hard[s.Invoice] = s.Class.IsHard(); was || s.Class.IsHard() {
			continue
		}
		c := charge{At: s.At.Unix(), Class: s.Class, Code: s.Code}
		if c.Class == "" {
			c.Late, c.Code = failed[s.Invoice], ""
		} else {
			c.Invoice, failed[s.Invoice] = s.Invoice, true
		}
		if !s.At.Before(from) {
			m.Charges = append(m.Charges, c)
		}
	}
	m.Charges = m.Charges[max(len(m.Charges)-mostRemembered, 0):]
	return m
}

// text is a memory as it is sealed.
func (m Memory) text() string {
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // words and numbers always marshal
	}
	return string(text)
}

// memoryPlace is the vault's name of the place where a ghost's memory is sealed.
func memoryPlace(ghost uuid.UUID) string { return "ghost_memories.memory:" + ghost.String() }

// KeepMemories seals what is remembered of ghosts' customers. What is known already of a later
// charge stays: an audit's facts may be hours old by then.
func KeepMemories(ctx context.Context, tx db.DBTX, merchant uuid.UUID, of map[uuid.UUID]Memory) error {
	if len(of) == 0 {
		return nil
	}
	queries := db.New(tx)
	known, err := Memories(ctx, queries, merchant, slices.Collect(maps.Keys(of)))
	if err != nil {
		return err
	}
	keep := db.GhostMemoryKeepParams{MerchantID: merchant}
	for ghost, is := range of {
		was := known[ghost]
		if text := is.text(); text != was.text() && is.newest() >= was.newest() {
			keep.Ghosts = append(keep.Ghosts, ghost)
			keep.Memories = append(keep.Memories, vault.NewToken(memoryPlace(ghost), text))
		}
	}
	if len(keep.Ghosts) == 0 {
		return nil
	}
	if err := queries.GhostMemoryKeep(ctx, keep); err != nil {
		return fmt.Errorf("remember: %w", err)
	}
	return nil
}

// Memories are what is remembered of ghosts' customers. What does not open counts as empty, and
// phantom doctor counts it.
func Memories(ctx context.Context, queries *db.Queries, merchant uuid.UUID, ghosts []uuid.UUID) (map[uuid.UUID]Memory, error) {
	rows, err := queries.GhostMemoryList(ctx, db.GhostMemoryListParams{MerchantID: merchant, Ghosts: ghosts})
	if err != nil {
		return nil, fmt.Errorf("read what is remembered: %w", err)
	}
	memories := make(map[uuid.UUID]Memory, len(rows))
	for _, row := range rows {
		memories[row.GhostID] = MemoryOf(row.GhostID, row.Memory)
	}
	return memories, nil
}

// MemoryOf opens what is remembered of a ghost's customer; nil holds nothing.
func MemoryOf(ghost uuid.UUID, sealed *vault.StoredToken) (m Memory) {
	if sealed == nil {
		return m
	}
	text, err := sealed.Reveal(memoryPlace(ghost))
	if err != nil || json.Unmarshal([]byte(text), &m) != nil {
		return Memory{}
	}
	return m
}

// Failures are those of an invoice that are remembered.
func (m Memory) Failures(invoice string) (tried []Tried) {
	for _, c := range m.Charges {
		if c.Class != "" && c.Invoice == invoice {
			tried = append(tried, Tried{time.Unix(c.At, 0), c.Class, c.Code})
		}
	}
	return tried
}

// Holds says whether a charge of a time is remembered, of any invoice.
func (m Memory) Holds(at time.Time) bool {
	return slices.ContainsFunc(m.Charges, func(c charge) bool { return time.Unix(c.At, 0).Sub(at).Abs() < sameCharge })
}

// newest is the time of the newest charge, 0 where there is none.
func (m Memory) newest() int64 {
	if len(m.Charges) == 0 {
		return 0
	}
	return m.Charges[len(m.Charges)-1].At
}

// sameCharge is by how much two clocks tell the time of one charge differently.
const sameCharge = 10 * time.Minute

// AddFailure adds a failure to those of an invoice, unless it is there already.
func AddFailure(tried []Tried, one Tried) []Tried {
	if slices.ContainsFunc(tried, func(t Tried) bool { return t.At.Sub(one.At).Abs() < sameCharge }) {
		return tried
	}
	tried = append(tried, one)
	slices.SortStableFunc(tried, func(a, b Tried) int { return a.At.Compare(b.At) })
	return tried
}

// customer is what the model remembers.
func (m Memory) customer(debt model.Debt) *model.Customer {
	who := model.NewCustomer()
	for _, c := range m.Charges {
		attempt := 1
		if c.Late {
			attempt = 2
		}
		who.Add(model.Charge{
			Debt: debt, Invoice: cmp.Or(c.Invoice, "paid"), Attempt: attempt, At: time.Unix(c.At, 0), OK: c.Class == "", Class: model.ClassOf(c.Class), Code: model.Word(c.Code),
		})
	}
	return who
}
