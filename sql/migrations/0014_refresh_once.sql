-- What is asked for while its task runs, and what goes before all else. docs/task-states.md says
-- how.
ALTER TABLE scheduled_tasks
    -- the fence of the try during which it was asked for once more
    ADD COLUMN again bigint NOT NULL DEFAULT 0,
    ADD COLUMN first boolean NOT NULL DEFAULT false; -- what it learns may end a hunt

-- Of few rows at a time: it costs the others nothing.
CREATE INDEX scheduled_tasks_first_idx ON scheduled_tasks (run_at) WHERE status = 'pending' AND first;
