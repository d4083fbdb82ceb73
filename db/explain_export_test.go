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
	one, key := []uuid.UUID{merchant}, uuid.UUID{15: 1}
	return map[string]QueryOfOne{
		"AuditLogReadPage":        {auditLogReadPage, []any{merchant, uuid.Max, nil, int32(51)}, 51},
		"AuditLogReadPage, a key": {auditLogReadPage, []any{merchant, uuid.Max, key, int32(51)}, 51},
		"AuditLogListAll":         {auditLogListAll, []any{nil, nil, int32(50)}, 200},
		"AuditLogListAll, a key":  {auditLogListAll, []any{nil, key, int32(50)}, 200},
		"AuditLogPurge":           {auditLogPurge, []any{int32(5000)}, 20},
		// It counts who is under way, and must not look through them for what has expired as well.
		"OAuthStateCreate":         {oAuthStateCreate, []any{make([]byte, 32), make([]byte, 32), int32(20_000)}, 6000},
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

// QueriesOfGhosts are those that read one merchant's ghosts, among 40,000 of theirs: what rare
// filters and the summary read does not grow with them.
func QueriesOfGhosts(merchant uuid.UUID) map[string]QueryOfOne {
	const page = int32(51)
	kinds, statuses := []string{"owed", "written_off", "charged_back"}, []string{"open", "closed"}
	classes := []string{"never", "customer", "timed", "low", "soon", "unknown"}
	after := uuid.Nil
	find := func(kinds, statuses, classes []string, currency *string, amount *int64, look int32, rows float64) QueryOfOne {
		return QueryOfOne{ghostFindPage, []any{amount, page, kinds, statuses, merchant, classes, currency, look, after}, rows}
	}
	only := func(one string) []string { return []string{one} }
	usd, jpy, chf := "usd", "jpy", "chf"
	some, none := int64(9000), int64(1_000_000)
	return map[string]QueryOfOne{
		"GhostReadPage":                         {ghostReadPage, []any{merchant, after, int32(1000), "open", "chf", "soon", "owed", none, page}, 1000},
		"GhostFindPage, all":                    find(kinds, statuses, classes, nil, nil, 0, 3000),
		"GhostFindPage, a rare kind":            find(only("written_off"), statuses, classes, nil, nil, 0, 200),
		"GhostFindPage, a rare class":           find(only("owed"), statuses, only("soon"), nil, nil, 0, 400),
		"GhostFindPage, a rare currency":        find(only("owed"), statuses, classes, &jpy, nil, 0, 200),
		"GhostFindPage, an unknown currency":    find(kinds, statuses, classes, &chf, nil, 0, 50),
		"GhostFindPage, two that never meet":    find(only("owed"), only("closed"), only("timed"), &usd, nil, 0, 50),
		"GhostFindPage, closed of a rare class": find(only("owed"), only("closed"), only("soon"), nil, nil, 0, 400),
		"GhostFindPage, an amount":              find(only("owed"), statuses, classes, nil, &some, 2000, 2200),
		"GhostFindPage, an amount of none":      find(only("owed"), statuses, classes, nil, &none, 2000, 2200),
		"GhostFindPage, an amount of one place": find(only("owed"), only("open"), only("timed"), &usd, &none, 2000, 2200),
		"GhostReadTotals":                       {ghostReadTotals, []any{merchant}, 100},
		"GhostReadAges":                         {ghostReadAges, []any{merchant}, 6000},
		"HuntPageTargets":                       {huntPageTargets, []any{"recover", merchant, after, int32(500)}, 1100},
		"HuntCountOpen":                         {huntCountOpen, []any{merchant}, 50},
	}
}

// ReadRows is how many rows a statement reads in the tables, with those that it throws away.
func ReadRows(ctx context.Context, t *testing.T, tx pgx.Tx, q QueryOfOne) (rows float64, plan string) {
	t.Helper()
	rows, plan, err := Explain(ctx, tx, "ANALYZE, ", q.Query, q.Args)
	if err != nil {
		t.Fatal(err)
	}
	return rows, plan
}

// Explain is ReadRows for any text. Without "ANALYZE, " the statement does not run, and the rows
// are those that the planner expects; a table that is to be read whole counts as too many then.
func Explain(ctx context.Context, tx pgx.Tx, how, query string, args []any) (rows float64, plan string, err error) {
	var text []byte
	if err := tx.QueryRow(ctx, "EXPLAIN ("+how+"FORMAT JSON) "+query, args...).Scan(&text); err != nil {
		return 0, "", err
	}
	var all []struct{ Plan planNode }
	if err := json.Unmarshal(text, &all); err != nil {
		return 0, "", err
	}
	all[0].Plan.walk("", how != "", &rows, &plan)
	return rows, plan, nil
}

// planNode is a node of a plan as EXPLAIN gives it in JSON.
type planNode struct {
	Type     string  `json:"Node Type"`
	Expected float64 `json:"Plan Rows"`
	Rows     float64 `json:"Actual Rows"`
	Loops    float64 `json:"Actual Loops"`
	Removed  float64 `json:"Rows Removed by Filter"`
	Recheck  float64 `json:"Rows Removed by Index Recheck"`
	Table    string  `json:"Relation Name"`
	Index    string  `json:"Index Name"`
	Filter   string  `json:"Filter"`
	Plans    []planNode
}

func (n planNode) walk(deep string, ran bool, rows *float64, plan *string) {
	*plan += fmt.Sprintf("%s%s %s %s: %.0f times %.0f rows, and %.0f thrown away\n", deep, n.Type, n.Table, n.Index,
		n.Loops, n.Rows, n.Removed)
	switch {
	case n.Table == "" && n.Index == "":
	case ran:
		*rows += n.Loops * (n.Rows + n.Removed + n.Recheck)
	case n.Type == "Seq Scan" && n.Filter != "":
		*rows += 1e6
	default:
		*rows += n.Expected
	}
	for _, below := range n.Plans {
		below.walk(deep+"  ", ran, rows, plan)
	}
}
