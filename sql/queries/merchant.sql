-- name: MerchantCreate :one
-- Reconnecting an account updates its row: both tokens are sealed and stored in this one statement.
-- own_key: the token is a key of the account's own, and webhook_secret that of its endpoint. Left
-- out, the secret of before stays.
INSERT INTO merchants AS m (id, stripe_user_id, access_token, refresh_token, scope, livemode, own_key, webhook_secret)
VALUES (@id, @stripe_user_id, @access_token, sqlc.narg(refresh_token), @scope, @livemode, @own_key, sqlc.narg(webhook_secret))
ON CONFLICT (stripe_user_id) DO UPDATE SET
    own_key = excluded.own_key,
    webhook_secret = coalesce(excluded.webhook_secret, CASE WHEN excluded.own_key THEN m.webhook_secret END),
    access_token = excluded.access_token,
    refresh_token = excluded.refresh_token,
    scope = excluded.scope,
    livemode = excluded.livemode,
    connected_at = clock_timestamp(),
    updated_at = clock_timestamp(),
    disconnected_at = NULL
RETURNING id;

-- name: MerchantUpdate :execrows
-- New tokens for an account that is connected.
UPDATE merchants SET
    access_token = @access_token,
    refresh_token = sqlc.narg(refresh_token),
    scope = @scope,
    updated_at = clock_timestamp()
WHERE id = @id AND disconnected_at IS NULL;

-- name: MerchantDisconnect :one
-- Forgets both tokens. Stripe's times are whole seconds: a deauthorization in the very second of
-- connecting is taken for the later of the two. Of a reconnection and this, the one that waits for
-- the row sees what the other wrote.
UPDATE merchants SET
    access_token = NULL,
    refresh_token = NULL,
    webhook_secret = NULL,
    disconnected_at = clock_timestamp(),
    updated_at = clock_timestamp()
WHERE stripe_user_id = sqlc.arg(account) AND disconnected_at IS NULL
    AND sqlc.arg(deauthorized_at)::timestamptz >= date_trunc('second', connected_at)
RETURNING id;

-- name: MerchantGetConnectedAt :one
SELECT connected_at FROM merchants WHERE id = $1;

-- name: MerchantUpdateFacts :execrows
-- What Stripe says about the account. What it did not say is NULL.
UPDATE merchants SET
    business_category = @business_category,
    country = @country,
    default_currency = @default_currency,
    timezone = @timezone,
    updated_at = clock_timestamp()
WHERE id = @id;

-- name: MerchantGet :one
SELECT * FROM merchants WHERE id = $1;

-- name: MerchantGetByStripeUserID :one
SELECT * FROM merchants WHERE stripe_user_id = $1;

-- name: MerchantGetHashSalt :one
-- The salt is made once: of two who set it, the first one's stays.
UPDATE merchants SET hash_salt = CASE WHEN hash_salt IS NOT DISTINCT FROM NULL THEN @hash_salt ELSE hash_salt END
WHERE id = @id
RETURNING hash_salt;

-- name: MerchantOwnEndpoint :one
-- Of who is connected by a key of their own: what signs the events of their own endpoint.
SELECT stripe_user_id AS account, webhook_secret FROM merchants
WHERE id = $1 AND own_key AND disconnected_at IS NULL AND webhook_secret IS DISTINCT FROM NULL;

-- name: MerchantListOwn :many
-- Who is, or was, connected by a key of their own.
SELECT stripe_user_id AS account, access_token, webhook_secret FROM merchants WHERE own_key ORDER BY stripe_user_id;

-- name: MerchantToken :one
-- How an account is connected.
SELECT own_key, scope, livemode, (disconnected_at IS NULL)::boolean AS connected FROM merchants WHERE stripe_user_id = $1;

-- name: MerchantReadOnly :one
-- Whether their key may change nothing.
SELECT (scope = 'read_only')::boolean AS read_only FROM merchants WHERE id = $1;

-- name: MerchantGetID :one
-- Reads nothing sealed: for commands that have no key.
SELECT id FROM merchants WHERE stripe_user_id = $1;

-- name: MerchantConnected :one
-- Whether an account is connected, until the transaction ends.
SELECT (disconnected_at IS NULL)::boolean AS connected, own_key FROM merchants WHERE stripe_user_id = $1 FOR NO KEY UPDATE;

-- name: MerchantLock :exec
-- Until the transaction ends. Who only needs the merchant to exist does not wait.
SELECT 1 FROM merchants WHERE id = $1 FOR NO KEY UPDATE;
