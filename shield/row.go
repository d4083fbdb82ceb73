package shield

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"phantom/db"
)

// Row is a subscription with its level, as those are told who follow: the stores of servers, and
// sidecars. Times are in whole seconds since 1970, because apps are told no finer ones.
type Row struct {
	Subscription string     `json:"s"`
	Customer     string     `json:"c"`
	Product      string     `json:"p,omitempty"`
	Level        Level      `json:"l"`
	Reason       Reason     `json:"r,omitempty"`
	Since        int64      `json:"t"`
	Ended        bool       `json:"e,omitempty"`
	Held         bool       `json:"h,omitempty"`
	InDebt       bool       `json:"d,omitempty"`
	Target       Level      `json:"g,omitempty"` // of one that is held
	Ahead        []RowAhead `json:"a,omitempty"`
	Gone         bool       `json:"x,omitempty"`
}

// RowAhead is a level to which time alone leads.
type RowAhead struct {
	Level Level `json:"l"`
	At    int64 `json:"t"`
}

// RowOf is a stored row as it is told.
func RowOf(row db.ShieldState, facts Facts) Row {
	told := Row{
		Subscription: row.Subscription, Customer: row.Customer, Product: facts.product(), Level: Level(row.Level), Reason: Reason(row.Reason),
		Since: row.Since.Unix(), Ended: facts.Service == Ended, Held: row.Held, InDebt: row.InDebt, Gone: row.Gone,
	}
	if row.ProvisionalUntil != nil {
		told.Level, told.Reason, told.Held = Full, ByAnnouncement, false
		return told
	}
	if row.Held {
		told.Target = Level(row.Target)
	}
	var ahead []Next
	_ = json.Unmarshal(row.Ahead, &ahead) // our own
	for _, next := range ahead {
		told.Ahead = append(told.Ahead, RowAhead{next.Level, upToSecond(next.At)})
	}
	return told
}

// upToSecond is a moment that is no earlier.
func upToSecond(at time.Time) int64 {
	if at.Nanosecond() == 0 {
		return at.Unix()
	}
	return at.Unix() + 1
}

func (r Row) equal(other Row) bool {
	same := slices.Equal(r.Ahead, other.Ahead)
	r.Ahead, other.Ahead = nil, nil
	return same && rowHead(r) == rowHead(other)
}

// comparableRow is a row without its list.
type comparableRow struct {
	subscription, customer, product string
	level, target                   Level
	reason                          Reason
	since                           int64
	ended, held, inDebt, gone       bool
}

func rowHead(r Row) comparableRow {
	return comparableRow{r.Subscription, r.Customer, r.Product, r.Level, r.Target, r.Reason, r.Since, r.Ended, r.Held, r.InDebt, r.Gone}
}

// Known is the row as [VerdictOf] takes it.
func (r Row) Known() Known {
	k := Known{
		ID: r.Subscription, Product: r.Product, Ended: r.Ended, Level: r.Level, Reason: r.Reason, Since: time.Unix(r.Since, 0).UTC(),
		Held: r.Held, Target: r.Target,
	}
	for _, next := range r.Ahead {
		k.Ahead = append(k.Ahead, Next{next.Level, time.Unix(next.At, 0).UTC()})
	}
	return k
}

// News is a notification: a merchant's new revision, and the rows that it changes where they are
// few.
type News struct {
	Merchant uuid.UUID `json:"m"`
	Revision int64     `json:"v"`
	Rows     []Row     `json:"n,omitempty"` // none: to be fetched
}

// mostNews is what PostgreSQL takes in a notification, with room to spare.
const mostNews = 7000

// Announce tells those who follow of a merchant's revision, and of the rows that it changes, once
// tx has committed.
func Announce(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, revision int64, rows []Row) error {
	news := News{Merchant: merchantID, Revision: revision}
	if len(rows) <= 8 {
		news.Rows = rows
	}
	text := mustJSON(news)
	if len(text) > mostNews {
		news.Rows = nil
		text = mustJSON(news)
	}
	return db.Notify(ctx, tx, db.ShieldChannel, string(text))
}

// reload has those who follow read all of a merchant's anew.
func reload(ctx context.Context, tx db.DBTX, merchantID uuid.UUID) error {
	revision, err := db.New(tx).ShieldReload(ctx, merchantID)
	if err != nil {
		return fmt.Errorf("raise the revision: %w", err)
	}
	return Announce(ctx, tx, merchantID, revision, nil)
}
