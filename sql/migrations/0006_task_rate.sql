-- A task's row is checked at each of its changes of state, and what one check costs was a tenth of
-- a change: the regular expression for kind. This says the same without one.
ALTER TABLE scheduled_tasks
    DROP CONSTRAINT scheduled_tasks_kind_name,
    ADD CONSTRAINT scheduled_tasks_kind_name CHECK (
        ltrim(kind, 'abcdefghijklmnopqrstuvwxyz_') = '' AND left(kind, 1) <> '_' AND length(kind) BETWEEN 1 AND 64);
