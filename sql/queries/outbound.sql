-- name: EndpointCreate :one
-- As many as a merchant may have. Under the lock on the merchant's row.
INSERT INTO event_endpoints (merchant_id, id, url, types, secret)
SELECT sqlc.arg(merchant_id), sqlc.arg(id), sqlc.arg(url), sqlc.arg(types), sqlc.arg(secret)
WHERE (SELECT count(*) FROM event_endpoints e WHERE e.merchant_id = sqlc.arg(merchant_id)) < sqlc.arg(most)::int
RETURNING created_at;

-- name: EndpointList :many
-- Without what is sealed.
SELECT id, url, types, created_at, disabled_at, disabled_why FROM event_endpoints WHERE merchant_id = $1 ORDER BY id;

-- name: EndpointExists :one
SELECT EXISTS (SELECT 1 FROM event_endpoints WHERE merchant_id = $1 AND id = $2) AS there;

-- name: EndpointDelete :execrows
DELETE FROM event_endpoints WHERE merchant_id = $1 AND id = $2;

-- name: EndpointDisable :execrows
UPDATE event_endpoints SET disabled_at = clock_timestamp(), disabled_why = @why WHERE merchant_id = @merchant_id AND id = @id AND disabled_at IS NULL;

-- name: EndpointListFor :many
-- Those that want an event.
SELECT id FROM event_endpoints
WHERE merchant_id = @merchant_id AND disabled_at IS NULL AND (types = '{}' OR sqlc.arg(type)::text = ANY (types)) ORDER BY id
FOR KEY SHARE; -- one that is being deleted is waited for, and then is none

-- name: EventContext :one
SELECT stripe_user_id AS account, clock_timestamp()::timestamptz AS now FROM merchants WHERE id = $1;

-- name: DeliveryCreate :exec
INSERT INTO event_deliveries (merchant_id, id, endpoint_id, type, body) VALUES (@merchant_id, @id, @endpoint_id, @type, @body);

-- name: DeliveryGet :one
SELECT d.id, d.endpoint_id, d.type, d.body, d.state, d.attempts, d.created_at, e.url, e.secret, e.disabled_at,
    (m.disconnected_at IS NOT NULL)::boolean AS disconnected
FROM event_deliveries d
JOIN event_endpoints e ON e.merchant_id = d.merchant_id AND e.id = d.endpoint_id
JOIN merchants m ON m.id = d.merchant_id
WHERE d.merchant_id = $1 AND d.id = $2;

-- name: DeliveryTried :exec
UPDATE event_deliveries SET attempts = attempts + 1, status = sqlc.narg(status), why = sqlc.narg(why), state = @state,
    body = CASE WHEN @state::text = 'pending' THEN body END, finished_at = CASE WHEN @state::text <> 'pending' THEN clock_timestamp() END
WHERE merchant_id = @merchant_id AND id = @id AND state = 'pending';

-- name: DeliveryList :many
-- Of an endpoint, the newest first.
SELECT id, type, state, attempts, status, why, created_at, finished_at FROM event_deliveries
WHERE merchant_id = @merchant_id AND endpoint_id = @endpoint_id AND id < @before_id ORDER BY id DESC LIMIT @page;

-- name: DeliveryGiveUp :execrows
-- What waits for longer than all tries take: of a merchant who had disconnected.
UPDATE event_deliveries SET state = 'failed', body = NULL, finished_at = clock_timestamp(), why = 'it has waited for too long'
WHERE merchant_id = $1 AND state = 'pending' AND created_at < clock_timestamp() - interval '4 days';

-- name: DeliveryForget :execrows
DELETE FROM event_deliveries WHERE merchant_id = $1 AND finished_at < clock_timestamp() - interval '30 days';
