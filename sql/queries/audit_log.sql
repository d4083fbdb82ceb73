-- name: AuditLogCreate :exec
INSERT INTO audit_log (id, merchant_id, by, key_id, command, action, object, before, after)
VALUES (@id, sqlc.narg(merchant_id), @by, sqlc.narg(key_id), sqlc.narg(command), @action, sqlc.narg(object), sqlc.narg(before), sqlc.narg(after));

-- name: AuditLogReadPage :many
-- For the merchant: their own, the newest first. Ids are UUIDv7, so rows that are added while
-- somebody pages come before all that they have still to see.
SELECT id, at, by, key_id, command, action, object, before, after FROM audit_log
WHERE merchant_id = sqlc.arg(merchant_id)::uuid AND id < sqlc.arg(before_id)
    AND (sqlc.narg(key_id)::uuid IS NULL OR key_id = sqlc.narg(key_id))
ORDER BY id DESC
LIMIT sqlc.arg(page_size);

-- name: AuditLogListAll :many
-- For the operator: of everybody, of one merchant, or of one key, the newest first.
SELECT l.id, coalesce(m.stripe_user_id, '')::text AS account, l.at, l.by, l.key_id, l.command, l.action, l.object, l.before, l.after
FROM audit_log l LEFT JOIN merchants m ON m.id = l.merchant_id
WHERE (sqlc.narg(merchant_id)::uuid IS NULL OR l.merchant_id = sqlc.narg(merchant_id))
    AND (sqlc.narg(key_id)::uuid IS NULL OR l.key_id = sqlc.narg(key_id))
ORDER BY l.id DESC
LIMIT sqlc.arg(most);

-- name: AuditLogPurge :execrows
-- Of all merchants, and of none: whichever purge comes first takes what has had its time.
DELETE FROM audit_log WHERE id = ANY (ARRAY(
    SELECT l.id FROM audit_log l WHERE l.at <= audit_log_cutoff() ORDER BY l.at LIMIT sqlc.arg(batch) FOR UPDATE SKIP LOCKED));
