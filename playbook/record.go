package playbook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/trail"
)

// Fields are a playbook's, as its JSON has them.
type Fields map[string]json.RawMessage

// ChangeOf is what the log says of a new playbook: the fields that differ, as they were and as they
// are.
func ChangeOf(merchantID uuid.UUID, before Fields, stored Versioned) (trail.Change, error) {
	after, err := fieldsOf(stored)
	if err != nil {
		return trail.Change{}, err
	}
	for _, name := range slices.Collect(maps.Keys(after)) {
		if name != "version" && bytes.Equal(before[name], after[name]) {
			delete(before, name)
			delete(after, name)
		}
	}
	return trail.Change{Merchant: merchantID, Action: "playbook.put", Before: before.discreet(), After: after.discreet()}, nil
}

// mostOfAField is how much of a field the log holds, in bytes: its rows are bounded, and a playbook
// may have half a megabyte.
const mostOfAField = 4096

// discreet counts what a playbook names one by one, and does not tell it: customers, and the words
// and lists of segments. The version has them, and what is too long.
func (f Fields) discreet() Fields {
	for name, value := range f {
		switch name {
		case "exclude":
			var lists map[string][]string
			counts := map[string]int{}
			_ = json.Unmarshal(value, &lists) // our own
			for list, ids := range lists {
				counts[list] = len(ids)
			}
			f[name], _ = json.Marshal(counts)
		case "segments":
			f[name] = trail.Digest(value)
		default:
			if len(value) > mostOfAField {
				f[name] = trail.Digest(value)
			}
		}
	}
	return f
}

// FieldsOfNewest are those of the playbook that holds. One that cannot be read any more may be
// replaced all the same: then its version is all that is known.
func FieldsOfNewest(ctx context.Context, queries *db.Queries, merchantID uuid.UUID) (Fields, error) {
	row, err := queries.PlaybookGetNewest(ctx, merchantID)
	if errors.Is(err, pgx.ErrNoRows) {
		return fieldsOf(Versioned{Playbook: Default()})
	}
	if err != nil {
		return nil, fmt.Errorf("read playbook: %w", err)
	}
	if v, err := Read(row); err == nil {
		return fieldsOf(v)
	}
	// It cannot be read, and may be replaced.
	return Fields{"version": fmt.Append(nil, row.Version)}, nil
}

func fieldsOf(v Versioned) (f Fields, err error) {
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil {
		return nil, fmt.Errorf("read the playbook's fields: %w", err)
	}
	return f, nil
}
