-- What the merchant API reads of ghosts and audits, and the one thing it changes.

-- name: GhostReadPage :many
-- Ids are UUIDv7, so rows that are added while somebody pages come after all that were there.
SELECT * FROM ghost_targets
WHERE merchant_id = @merchant_id AND id > @after
    AND (sqlc.narg(status)::text IS NULL OR status = sqlc.narg(status))
    AND (sqlc.narg(currency)::text IS NULL OR currency = sqlc.narg(currency))
    AND (sqlc.narg(decline_class)::text IS NULL OR decline_class = sqlc.narg(decline_class))
    AND (sqlc.narg(kind)::text IS NULL OR kind = sqlc.narg(kind))
    AND (sqlc.narg(min_amount)::bigint IS NULL OR amount >= sqlc.narg(min_amount))
ORDER BY id
LIMIT @page_size;

-- name: GhostRead :one
SELECT * FROM ghost_targets WHERE merchant_id = @merchant_id AND id = @id;

-- name: GhostAccessNone :one
-- Closed for this reason it stays closed, whatever an audit finds; so a ghost that was closed for another one is marked too.
UPDATE ghost_targets SET
    access = 'presumed',
    status = 'closed',
    closed_reason = 'no_access',
    closed_at = coalesce(closed_at, phantom_now()),
    updated_at = clock_timestamp()
WHERE merchant_id = @merchant_id AND id = @id
RETURNING *;

-- name: GhostAccessProven :one
-- Takes back what GhostAccessNone said. Whether the ghost still owes, Stripe must be asked: it stays closed until then.
UPDATE ghost_targets SET
    access = 'proven',
    closed_reason = CASE WHEN closed_reason = 'no_access' THEN 'access_proven' ELSE closed_reason END,
    updated_at = clock_timestamp()
WHERE merchant_id = @merchant_id AND id = @id
RETURNING *;

-- name: GhostReadSummary :many
-- Open ghosts in groups, which are few. age is the whole days since the first failure, or else the discovery; failed counts the
-- ghosts that have had a failure. date_part and not EXTRACT: over a million rows its numeric costs a third of the query.
SELECT kind, currency, decline_class, date_part('day', phantom_now() - coalesce(first_failed_at, discovered_at))::integer AS age,
    count(*) AS ghosts,
    count(first_failed_at) AS failed,
    count(*) FILTER (WHERE hidden) AS hidden,
    sum(amount)::bigint AS owed
FROM ghost_targets
WHERE merchant_id = @merchant_id AND status = 'open'
GROUP BY kind, currency, decline_class, age
ORDER BY kind, currency, decline_class, age;

-- name: AuditReadWasted :one
-- Of the latest audit that has counted them over the whole history, in the mode the merchant works in.
SELECT (a.totals ->> 'wasted_attempts')::bigint AS wasted_attempts
FROM audits a JOIN merchants m ON m.id = a.merchant_id AND m.livemode = a.livemode
WHERE a.merchant_id = @merchant_id AND a.state = 'succeeded' AND a.since IS NULL AND a.totals ->> 'wasted_attempts' IS NOT NULL
ORDER BY a.id DESC
LIMIT 1;

-- name: AuditRead :one
SELECT a.id, a.state, a.totals, a.error,
    greatest(a.objects, w.objects)::bigint AS objects, w.windows, w.windows_done
FROM audits a,
    LATERAL (
        SELECT coalesce(sum(objects), 0)::bigint AS objects, count(*) AS windows, count(*) FILTER (WHERE state = 'done') AS windows_done
        FROM audit_windows WHERE merchant_id = a.merchant_id AND audit_id = a.id) w
WHERE a.merchant_id = @merchant_id AND a.id = @id;
