// Package trail is the record of what people and keys have changed: the table audit_log, which the
// database lets nobody change or shorten. docs/adr/0018 says what is recorded.
//
// Whose doing a change is travels with the context, from where a key or a command is known ([By])
// to the transaction that makes the change ([Record]). What PHANTOM does of its own accord has
// nobody there, and leaves no row.
package trail

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
)

// Actor is whose doing a change is.
type Actor struct {
	by      string
	key     *uuid.UUID
	command *string
}

// Those who need no key and no command.
var (
	Merchant = Actor{by: "merchant"} // at Stripe's page, in the handshake
	Stripe   = Actor{by: "stripe"}   // by an event about the merchant's account
	Nobody   = Actor{}               // nobody asked for it: it leaves no row
)

// Key is a key of the merchant API, by its id.
func Key(id uuid.UUID) Actor { return Actor{by: "key", key: &id} }

// Operator is who runs a subcommand. The command is its words without flags, such as "tasks retry".
func Operator(command string) Actor { return Actor{by: "operator", command: &command} }

type actorKey struct{}

// By says whose doing all changes under the context are.
func By(ctx context.Context, actor Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// Change is what has been changed. None of it may hold a secret, or what identifies a person: no
// address, no number, no text of a template, no name that somebody has typed.
type Change struct {
	Merchant      uuid.UUID // the zero id: all merchants
	Action        string    // "channel.put"
	Object        string    // the id or name of what was changed; "" where the action says it
	Before, After any       // for JSON; nil for nothing
}

// Record adds a change to the log, in the transaction that makes it: both are there or neither is.
func Record(ctx context.Context, tx pgx.Tx, change Change) error {
	actor, _ := ctx.Value(actorKey{}).(Actor)
	if actor.by == "" {
		return nil
	}
	row := db.AuditLogCreateParams{By: actor.by, KeyID: actor.key, Command: actor.command, Action: change.Action}
	if change.Merchant != uuid.Nil {
		row.MerchantID = &change.Merchant
	}
	if change.Object != "" {
		row.Object = &change.Object
	}
	var err error
	if row.ID, err = uuid.NewV7(); err != nil {
		return fmt.Errorf("make id: %w", err)
	}
	for _, side := range []struct {
		value any
		into  *[]byte
	}{{change.Before, &row.Before}, {change.After, &row.After}} {
		if side.value == nil {
			continue
		}
		if *side.into, err = json.Marshal(side.value); err != nil {
			return fmt.Errorf("record the change: %w", err)
		}
	}
	if err := db.New(tx).AuditLogCreate(ctx, row); err != nil {
		return fmt.Errorf("record the change: %w", err)
	}
	return nil
}

// Entry is a row of the log, as people and apps are shown it. Times are in UTC.
type Entry struct {
	ID      uuid.UUID       `json:"id"`
	At      time.Time       `json:"at"`
	By      string          `json:"by"`  // "key", "operator", "merchant" or "stripe"
	Key     *uuid.UUID      `json:"key"` // the key's id
	Command *string         `json:"command"`
	Action  string          `json:"action"`
	Object  *string         `json:"object"`
	Before  json.RawMessage `json:"before"`
	After   json.RawMessage `json:"after"`
}

// Filter says which rows a page holds.
type Filter struct {
	Key    *uuid.UUID // nil: by anybody
	Before uuid.UUID  // the last row of the page before; zero for the first page
	Limit  int        // rows on a page
}

// Page is a part of a merchant's log, the newest first.
type Page struct {
	Entries []Entry
	Next    uuid.UUID // Before for the page behind this one; zero when this is the last
}

// List returns a page of a merchant's log. Who reads to the last page sees every row once that was
// there at the first.
func List(ctx context.Context, from db.DBTX, merchantID uuid.UUID, filter Filter) (Page, error) {
	rows, err := db.New(from).AuditLogReadPage(ctx, db.AuditLogReadPageParams{
		MerchantID: merchantID, BeforeID: cmp.Or(filter.Before, uuid.Max), KeyID: filter.Key, PageSize: int32(filter.Limit) + 1,
	})
	if err != nil {
		return Page{}, fmt.Errorf("list the log: %w", err)
	}
	page := Page{Entries: make([]Entry, 0, filter.Limit)}
	if len(rows) > filter.Limit { // the one too many says that there is more
		rows = rows[:filter.Limit]
		page.Next = rows[len(rows)-1].ID
	}
	for _, row := range rows {
		page.Entries = append(page.Entries, Entry{
			row.ID, row.At.UTC(), row.By, row.KeyID, row.Command, row.Action, row.Object, row.Before, row.After,
		})
	}
	return page, nil
}

// Digest stands for a text that the log must not hold, and tells it from another.
func Digest(text []byte) json.RawMessage {
	sum := sha256.Sum256(text)
	return fmt.Appendf(nil, `{"bytes":%d,"sha256":%q}`, len(text), hex.EncodeToString(sum[:]))
}
