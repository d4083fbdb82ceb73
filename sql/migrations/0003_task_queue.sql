-- What the queue over scheduled_tasks needs beside the table. docs/task-states.md draws its states.

-- Of the live tasks of one kind and merchant at most one holds a key: one audit runs per account.
ALTER TABLE scheduled_tasks
    ADD COLUMN unique_key text,
    ADD CONSTRAINT scheduled_tasks_unique_key_length CHECK (length(unique_key) BETWEEN 1 AND 255);
CREATE UNIQUE INDEX scheduled_tasks_unique_key_idx ON scheduled_tasks (merchant_id, kind, unique_key)
    WHERE unique_key IS NOT NULL AND status IN ('pending', 'running', 'parked', 'needs_review');

-- Every index costs each of a task's three changes of state, so there are few: (status, run_at) of
-- 0002 serves claiming by time, the rescue and the dropping of old rows; this one serves claiming
-- merchant by merchant.
CREATE INDEX scheduled_tasks_merchant_due_idx ON scheduled_tasks (merchant_id, run_at) WHERE status = 'pending';

-- Few tasks have sealed params.
DROP INDEX scheduled_tasks_sealed_params_iv_key;
CREATE UNIQUE INDEX scheduled_tasks_sealed_params_iv_key
    ON scheduled_tasks (sealed_params_key_id, ((sealed_params).iv)) WHERE sealed_params_key_id IS NOT NULL;

-- Rows change state three times and go: vacuum often, so that the partial indexes stay small.
ALTER TABLE scheduled_tasks SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 1);
