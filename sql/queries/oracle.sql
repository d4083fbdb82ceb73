-- name: OracleCharges :many
-- What an audit saw of a merchant's attempts, each debt's together and in order; the class makes
-- the order of two in one second the same for everybody. Blocked ones were never made. A million
-- rows: read them by OracleChargesEach.
SELECT sequence, created_at, outcome, coalesce(decline_class, 'unknown')::text AS decline_class, day_of_week, hour_of_day
FROM audit_charges
WHERE merchant_id = $1 AND audit_id = $2 AND created_at < sqlc.arg(before) AND outcome <> 'blocked'
ORDER BY sequence, created_at, decline_class;

-- name: OracleOpenDays :many
-- The UTC days of an audit's charges that may be counted: they hold nothing pending, and nobody has
-- counted them.
SELECT (c.created_at AT TIME ZONE 'UTC')::date AS day
FROM audit_charges c
WHERE c.merchant_id = sqlc.arg(merchant_id) AND c.audit_id = sqlc.arg(audit_id) AND c.created_at < sqlc.arg(before)
    AND c.outcome <> 'blocked'
GROUP BY 1
HAVING bool_and(c.outcome <> 'pending')
EXCEPT
SELECT d.day FROM oracle_days d WHERE d.merchant_id = sqlc.arg(merchant_id) AND d.livemode = sqlc.arg(livemode)
ORDER BY day;

-- name: OracleTakeDays :execrows
-- Takes days for the transaction that counts them, but for those that somebody else has taken. The
-- order of the days keeps two who take them from waiting for each other in a circle.
INSERT INTO oracle_days (merchant_id, livemode, day)
SELECT sqlc.arg(merchant_id), sqlc.arg(livemode), day FROM unnest(sqlc.arg(days)::date[]) AS day ORDER BY day
ON CONFLICT DO NOTHING;

-- name: OracleCount :exec
-- Adds to the counts of a merchant and to those of all. Cells are written in the order of their
-- key, so that two who count never wait for each other in a circle.
WITH cell AS (
    SELECT unnest(sqlc.arg(decline_classes)::text[]) AS decline_class, unnest(sqlc.arg(days_of_week)::smallint[]) AS day_of_week,
        unnest(sqlc.arg(hours_of_day)::smallint[]) AS hour_of_day, unnest(sqlc.arg(attempts)::bigint[]) AS attempts,
        unnest(sqlc.arg(successes)::bigint[]) AS successes
), contributed AS (
    INSERT INTO oracle_contributions AS mine (merchant_id, business_category, decline_class, action, day_of_week, hour_of_day, livemode,
        attempts, successes)
    SELECT sqlc.arg(merchant_id)::uuid, sqlc.arg(business_category)::text, cell.decline_class, 'charge', cell.day_of_week, cell.hour_of_day,
        sqlc.arg(livemode)::boolean, cell.attempts, cell.successes
    FROM cell
    ORDER BY cell.decline_class, cell.day_of_week, cell.hour_of_day
    ON CONFLICT (merchant_id, business_category, decline_class, action, day_of_week, hour_of_day, livemode) DO UPDATE SET
        attempts = mine.attempts + excluded.attempts,
        successes = mine.successes + excluded.successes
    RETURNING mine.livemode, mine.decline_class, mine.day_of_week, mine.hour_of_day, mine.attempts
)
INSERT INTO liquidity_oracle AS o (business_category, decline_class, action, day_of_week, hour_of_day, livemode, attempts, successes,
    merchants)
SELECT sqlc.arg(business_category)::text, cell.decline_class, 'charge', cell.day_of_week, cell.hour_of_day, contributed.livemode,
    cell.attempts, cell.successes,
    -- A merchant whose attempts are no more than these is new to this cell.
    CASE WHEN contributed.attempts = cell.attempts THEN 1 ELSE 0 END
FROM cell JOIN contributed USING (decline_class, day_of_week, hour_of_day)
ORDER BY cell.decline_class, cell.day_of_week, cell.hour_of_day
ON CONFLICT (business_category, decline_class, action, day_of_week, hour_of_day, livemode) DO UPDATE SET
    attempts = o.attempts + excluded.attempts,
    successes = o.successes + excluded.successes,
    merchants = o.merchants + excluded.merchants;

-- name: OracleCells :many
-- What may be served: a cell of fewer than five merchants could tell about one of them.
SELECT * FROM liquidity_oracle
WHERE livemode = sqlc.arg(livemode) AND merchants >= 5
ORDER BY business_category, decline_class, action, day_of_week, hour_of_day;
