-- name: Now :one
-- PHANTOM's clock for everything that is planned in days.
SELECT phantom_now()::timestamptz AS now;
