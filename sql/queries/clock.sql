-- name: Now :one
-- PHANTOM's clock for everything that is planned in days.
SELECT phantom_now()::timestamptz AS now;

-- name: WallClock :one
-- The database's own time, which nobody moves: for leases and for the age of keys.
SELECT clock_timestamp()::timestamptz AS now;

-- name: NotifyAll :exec
-- Delivered when the caller's transaction commits.
SELECT pg_notify(told.channel, told.payload)
FROM (SELECT unnest(@channels::text[]) AS channel, unnest(@payloads::text[]) AS payload) AS told;
