-- name: VaultSentinelLock :exec
-- Two processes with different new keys must not both find the database empty.
LOCK TABLE vault_sentinels IN SHARE ROW EXCLUSIVE MODE;

-- name: VaultSentinelListKeyIDs :many
SELECT key_id FROM vault_sentinels ORDER BY key_id;

-- name: VaultSentinelGet :one
SELECT sentinel FROM vault_sentinels WHERE key_id = $1;

-- name: VaultSentinelCreate :exec
INSERT INTO vault_sentinels (key_id, sentinel) VALUES (@key_id, @sentinel);

-- name: VaultSentinelDelete :execrows
DELETE FROM vault_sentinels WHERE key_id = $1;
