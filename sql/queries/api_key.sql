-- name: APIKeyCreate :exec
INSERT INTO api_keys (merchant_id, id, key_hash) VALUES (@merchant_id, @id, @key_hash);

-- name: APIKeyList :many
SELECT id, created_at, last_used_at, revoked_at FROM api_keys WHERE merchant_id = @merchant_id ORDER BY id;

-- name: APIKeyRevoke :execrows
-- Revoking twice keeps the first time.
UPDATE api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE merchant_id = @merchant_id AND id = @id;

-- name: APIKeyFind :one
-- unnoted: its last use was noted more than a minute ago, or never.
SELECT k.merchant_id, k.id, coalesce(k.last_used_at < clock_timestamp() - interval '1 minute', true)::boolean AS unnoted,
    (m.disconnected_at IS NOT NULL)::boolean AS disconnected
FROM api_keys k JOIN merchants m ON m.id = k.merchant_id
WHERE k.key_hash = @key_hash AND k.revoked_at IS NULL;

-- name: APIKeyNoteUse :exec
-- Of many requests at once one writes: the others wait for its row, see the new time and leave it.
UPDATE api_keys SET last_used_at = clock_timestamp()
WHERE merchant_id = @merchant_id AND id = @id
    AND coalesce(last_used_at < clock_timestamp() - interval '1 minute', true);
