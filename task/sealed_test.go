package task_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"

	"phantom/internal/stage"
	"phantom/state"
	"phantom/task"
	"phantom/vault"
)

// Params that do not open are left to a person, and cost the others of the same claim nothing.
func TestParamsThatDoNotOpen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	merchants := []uuid.UUID{b.merchant, stage.Merchant(b.t, b.pool, "acct_2")}
	sealedIn := func(id uuid.UUID) string { return "scheduled_tasks.sealed_params:" + id.String() }
	var good []uuid.UUID
	add := func(merchant uuid.UUID) uuid.UUID {
		id := uuid.Must(uuid.NewV7())
		sealed := vault.NewToken(sealedIn(id), "a letter")
		return b.enqueue(task.New{MerchantID: merchant, ID: id, Kind: "letter", SealedParams: &sealed})
	}
	damaged, foreign := add(b.merchant), add(b.merchant)
	for _, m := range merchants {
		good = append(good, add(m), add(m))
	}
	b.Exec("UPDATE scheduled_tasks SET sealed_params.tag = md5('x') WHERE id = $1", damaged)
	b.Exec("INSERT INTO vault_sentinels (key_id, sentinel) SELECT 'abcdef01', ROW((sentinel).ciphertext, (sentinel).iv, (sentinel).tag, " +
		"'abcdef01', 'vault_sentinels.sentinel:abcdef01')::sealed_token FROM vault_sentinels LIMIT 1")
	b.Exec("UPDATE scheduled_tasks SET sealed_params.key_id = 'abcdef01' WHERE id = $1", foreign)
	b.run(task.Config{Handlers: map[string]task.Handler{
		"letter": func(_ context.Context, t *task.Task) error {
			_, err := t.SealedParams.Reveal(sealedIn(t.ID))
			return err
		},
	}})
	for _, id := range good {
		await(t, "the others' tasks", func() bool {
			var status string
			err := b.pool.QueryRow(t.Context(), "SELECT status FROM scheduled_tasks WHERE id = $1", id).Scan(&status)
			return err == nil && status == "succeeded"
		})
	}
	row := b.awaitStatus(damaged, state.TaskNeedsReview)
	if row.Attempts != 1 || row.LastError == nil || !strings.Contains(*row.LastError, "does not open") ||
		!strings.Contains(*row.LastError, "docs/runbook.md") {
		t.Errorf("after %d tries: %v", row.Attempts, row.LastError)
	}
	// Another process may hold that key, so this is an ordinary failure.
	await(t, "a failed try", func() bool { row = b.get(foreign); return row.LastError != nil })
	if row.Status != state.TaskPending || !strings.Contains(*row.LastError, "abcdef01") {
		t.Errorf("%s: %s", row.Status, *row.LastError)
	}
}
