-- name: APIKeyCreate :exec
INSERT INTO api_keys (merchant_id, id, key_hash, name, scope, expires_at)
VALUES (@merchant_id, @id, @key_hash, sqlc.narg(name), @scope, sqlc.narg(expires_at));

-- name: APIKeyList :many
SELECT id, name, scope, created_at, last_used_at, expires_at, revoked_at,
    coalesce(expires_at <= clock_timestamp(), false)::boolean AS expired
FROM api_keys WHERE merchant_id = @merchant_id ORDER BY id;

-- name: APIKeyLock :one
-- Until the transaction ends.
SELECT (revoked_at IS NOT NULL)::boolean AS revoked FROM api_keys WHERE merchant_id = @merchant_id AND id = @id FOR NO KEY UPDATE;

-- name: APIKeyRevoke :exec
UPDATE api_keys SET revoked_at = clock_timestamp() WHERE merchant_id = @merchant_id AND id = @id;

-- name: APIKeyFind :one
-- unnoted: its last use was noted more than a minute ago, or never.
SELECT k.merchant_id, k.id, k.scope, coalesce(k.last_used_at < clock_timestamp() - interval '1 minute', true)::boolean AS unnoted,
    (m.disconnected_at IS NOT NULL)::boolean AS disconnected
FROM api_keys k JOIN merchants m ON m.id = k.merchant_id
WHERE k.key_hash = @key_hash AND k.revoked_at IS NULL AND coalesce(k.expires_at > clock_timestamp(), true);

-- name: APIKeyNoteUse :exec
-- Of many requests at once one writes: the others wait for its row, see the new time and leave it.
UPDATE api_keys SET last_used_at = clock_timestamp()
WHERE merchant_id = @merchant_id AND id = @id
    AND coalesce(last_used_at < clock_timestamp() - interval '1 minute', true);
