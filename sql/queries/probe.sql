-- The probe asks whether Stripe accepts the token again of a connected merchant whose tasks are
-- parked.

-- name: ProbeLoad :one
-- age: for how many seconds it has been asked.
SELECT (m.disconnected_at IS NULL)::boolean AS connected,
    EXISTS (SELECT 1 FROM scheduled_tasks t
        WHERE t.merchant_id = m.id AND t.status = 'parked') AS parked,
    extract(epoch FROM clock_timestamp() - probe.created_at)::float8 AS age
FROM scheduled_tasks probe JOIN merchants m ON m.id = probe.merchant_id
WHERE probe.merchant_id = sqlc.arg(merchant_id) AND probe.id = sqlc.arg(id);

-- name: ProbeRevive :execrows
-- One whose worker has died too often would keep its place, and the tasks parked.
UPDATE scheduled_tasks SET status = 'pending', attempts = 0, run_at = phantom_now()
WHERE kind = 'probe' AND status IN ('needs_review', 'parked');

-- name: ProbeListMissing :many
-- Connected merchants with parked tasks and no probe.
SELECT m.id FROM merchants m
WHERE m.disconnected_at IS NULL
    AND EXISTS (SELECT 1 FROM scheduled_tasks t
        WHERE t.merchant_id = m.id AND t.status = 'parked' AND t.kind <> 'probe')
    AND NOT EXISTS (SELECT 1 FROM scheduled_tasks t
        WHERE t.merchant_id = m.id AND t.kind = 'probe' AND t.status IN ('pending', 'running'))
ORDER BY m.id LIMIT 1000;
