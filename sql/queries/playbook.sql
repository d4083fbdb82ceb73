-- name: PlaybookCreate :one
-- Under the lock on the merchant's row, which orders versions.
INSERT INTO playbooks (merchant_id, version, body)
SELECT sqlc.arg(merchant_id), coalesce(max(p.version), 0) + 1, sqlc.arg(body)::jsonb FROM playbooks p WHERE p.merchant_id = sqlc.arg(merchant_id)
RETURNING version;

-- name: PlaybookGetNewest :one
SELECT * FROM playbooks WHERE merchant_id = $1 ORDER BY version DESC LIMIT 1;

-- name: PlaybookGet :one
SELECT * FROM playbooks WHERE merchant_id = $1 AND version = $2;
