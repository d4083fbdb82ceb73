-- Claims read what is pending from merchant to merchant, in each lane: docs/adr/0008.
-- Of few rows at a time, like those that they replace: it costs the others nothing.
DROP INDEX scheduled_tasks_urgent_idx;
DROP INDEX scheduled_tasks_first_idx;
CREATE INDEX scheduled_tasks_urgent_idx ON scheduled_tasks (merchant_id, run_at) WHERE status = 'pending' AND kind IN ('webhook', 'refresh');
CREATE INDEX scheduled_tasks_first_idx ON scheduled_tasks (merchant_id, run_at) WHERE status = 'pending' AND first;
CREATE INDEX scheduled_tasks_long_idx ON scheduled_tasks (run_at) WHERE status = 'pending' AND kind = 'audit';
