package db

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// QueryOfOne is a statement on behalf of one merchant, person or lane.
type QueryOfOne struct {
	Query string
	Args  []any
	Rows  float64 // that it may read beside thousands of others'
}

// QueriesOfOne are statements whose plans matter, by their names.
func QueriesOfOne(merchant uuid.UUID) map[string]QueryOfOne {
	one := []uuid.UUID{merchant}
	return map[string]QueryOfOne{
		"HuntListActiveOfPerson":   {huntListActiveOfPerson, []any{merchant, []byte("nobody")}, 10},
		"TaskClaim, all":           {taskClaim, []any{60.0, one, false, false, int32(8), int32(8)}, 40},
		"TaskClaim, urgent":        {taskClaim, []any{60.0, one, false, true, int32(8), int32(8)}, 40},
		"TaskClaim, first":         {taskClaim, []any{60.0, one, true, false, int32(8), int32(8)}, 40},
		"TaskClaimLong":            {taskClaimLong, []any{60.0, int32(8)}, 20},
		"TaskDueMerchants, all":    {taskDueMerchants, []any{int32(200), uuid.Nil, false, false, int32(1000)}, 700},
		"TaskDueMerchants, urgent": {taskDueMerchants, []any{int32(0), uuid.Nil, false, true, int32(1000)}, 20},
		"TaskDueMerchants, first":  {taskDueMerchants, []any{int32(0), uuid.Nil, true, false, int32(1000)}, 20},
	}
}

// ReadRows is how many rows a statement reads in the tables, with those that it throws away.
func ReadRows(ctx context.Context, t *testing.T, tx pgx.Tx, q QueryOfOne) (rows float64, plan string) {
	t.Helper()
	var text []byte
	if err := tx.QueryRow(ctx, "EXPLAIN (ANALYZE, FORMAT JSON) "+q.Query, q.Args...).Scan(&text); err != nil {
		t.Fatal(err)
	}
	type node struct {
		Type    string  `json:"Node Type"`
		Rows    float64 `json:"Actual Rows"`
		Loops   float64 `json:"Actual Loops"`
		Removed float64 `json:"Rows Removed by Filter"`
		Recheck float64 `json:"Rows Removed by Index Recheck"`
		Table   string  `json:"Relation Name"`
		Index   string  `json:"Index Name"`
		Plans   []json.RawMessage
	}
	var walk func(raw json.RawMessage, deep string)
	walk = func(raw json.RawMessage, deep string) {
		var n node
		if err := json.Unmarshal(raw, &n); err != nil {
			t.Fatal(err)
		}
		plan += fmt.Sprintf("%s%s %s %s: %.0f times %.0f rows, and %.0f thrown away\n", deep, n.Type, n.Table, n.Index,
			n.Loops, n.Rows, n.Removed)
		if n.Table != "" || n.Index != "" {
			rows += n.Loops * (n.Rows + n.Removed + n.Recheck)
		}
		for _, below := range n.Plans {
			walk(below, deep+"  ")
		}
	}
	var all []struct{ Plan json.RawMessage }
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	walk(all[0].Plan, "")
	return rows, plan
}
