-- What the demo asks of its own database, where the clock stands still until the demo
-- moves it.

-- name: DemoBusy :one
-- Whether a task runs or is due.
SELECT EXISTS (SELECT 1 FROM scheduled_tasks WHERE status = 'running' OR status = 'pending' AND run_at <= phantom_now()) AS busy;

-- name: DemoNext :one
-- Whether a task runs or is due, whether a request's outcome is unknown that the clock must not
-- pass by, and when the next task is due: in a year, where none waits.
SELECT coalesce(bool_or(status = 'running' OR run_at <= phantom_now()), false)::boolean AS busy,
    coalesce(bool_or(first_sent_at < clock_timestamp() - make_interval(secs => sqlc.arg(patience_seconds))), false)::boolean AS unknown,
    coalesce(min(run_at) FILTER (WHERE status = 'pending'), phantom_now() + interval '1 year')::timestamptz AS due
FROM scheduled_tasks WHERE status IN ('pending', 'running');

-- name: DemoCountReview :one
SELECT count(*) FROM scheduled_tasks WHERE status = 'needs_review';

-- name: DemoOracleOn :exec
-- Lets the oracle play from the first day on: its trial in shadow takes weeks.
INSERT INTO oracle_states (livemode, state, since, why, looks, fortnights, compared_at, falls, checked_at, charges, log_loss, base_log_loss, calibration_error)
VALUES (false, 'on', phantom_now(), 'the demo begins with it', 0, 0, phantom_now(), 0, phantom_now(), 0, 0, 0, 0);

-- name: DemoRest :exec
-- Lets all merchants but one stand still: what they have taught is all that is asked of them.
DELETE FROM scheduled_tasks WHERE merchant_id <> $1;

-- name: DemoCountChosen :one
-- Charges that were sent at a moment that the oracle has chosen.
SELECT count(*)
FROM oracle_advice o JOIN attempts a ON a.merchant_id = o.merchant_id AND a.task_id = o.task_id
WHERE o.arm = 'oracle' AND o.planned_for = o.chosen_for AND a.sent_at IS NOT NULL;
