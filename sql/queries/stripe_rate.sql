-- name: StripeRateReserve :one
-- Reserves the next requests to an account's Stripe, evenly spaced at rate: the last one's turn
-- ends in ends_in seconds. All processes take from one row. A process that comes up to two turns
-- late gets them still, or every hiccup would cost a little of the rate.
INSERT INTO stripe_rates AS r (merchant_id, next_at)
VALUES (sqlc.arg(merchant_id), clock_timestamp() + make_interval(secs => sqlc.arg(requests)::float8 / sqlc.arg(most)::float8))
ON CONFLICT (merchant_id) DO UPDATE SET
    next_at = greatest(r.next_at, clock_timestamp() - make_interval(secs => 2 / stripe_pace(r.slowed_to, r.slowed_at, sqlc.arg(most)::float8)))
        + make_interval(secs => sqlc.arg(requests)::float8 / stripe_pace(r.slowed_to, r.slowed_at, sqlc.arg(most)::float8))
RETURNING extract(epoch FROM r.next_at - clock_timestamp())::float8 AS ends_in,
    stripe_pace(r.slowed_to, r.slowed_at, sqlc.arg(most)::float8)::float8 AS rate;

-- name: StripeRateSlow :exec
-- After a 429: half the pace, and at least a request every two seconds. Those who are told so
-- within the same second are one answer.
UPDATE stripe_rates r SET
    slowed_to = greatest(0.5, stripe_pace(r.slowed_to, r.slowed_at, sqlc.arg(most)::float8) / 2), slowed_at = clock_timestamp(),
    next_at = greatest(r.next_at, clock_timestamp() + make_interval(secs => sqlc.arg(pause)::float8))
WHERE r.merchant_id = sqlc.arg(merchant_id) AND r.slowed_at < clock_timestamp() - interval '1 second';
