-- name: OracleDaysToCount :many
-- The whole UTC days of an audit that are still to be counted, oldest first, each with its cells: what was tried in an hour of the
-- customer's week after a failure of a class, and what of it succeeded. A day with a charge that is pending waits, and one that the
-- audit saw in part is not whole. Blocked attempts were never made.
WITH numbered AS (
    SELECT c.sequence, c.created_at, c.outcome, c.decline_class, c.day_of_week, c.hour_of_day,
        dense_rank() OVER (PARTITION BY c.sequence ORDER BY c.created_at) AS moment
    FROM audit_charges c
    WHERE c.merchant_id = sqlc.arg(merchant_id) AND c.audit_id = sqlc.arg(audit_id) AND c.outcome <> 'blocked'
        AND c.created_at < date_trunc('day', sqlc.arg(until)::timestamptz, 'UTC')
), followed AS (
    -- The last failure before each attempt: the greatest of moment and class, by one running maximum over the same order. Groups,
    -- because of two charges of one second neither is before the other.
    SELECT (n.created_at AT TIME ZONE 'UTC')::date AS day, n.outcome, n.day_of_week, n.hour_of_day,
        coalesce(substr(max(lpad(n.moment::text, 10, '0') || coalesce(n.decline_class, 'unknown')) FILTER (WHERE n.outcome = 'failed')
            OVER (PARTITION BY n.sequence ORDER BY n.created_at GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 11), 'none') AS after
    FROM numbered n
), cells AS (
    SELECT f.day, f.after, f.day_of_week, f.hour_of_day, count(*) AS attempts,
        count(*) FILTER (WHERE f.outcome = 'succeeded') AS successes,
        count(*) FILTER (WHERE f.outcome = 'pending') AS pending
    FROM followed f
    GROUP BY f.day, f.after, f.day_of_week, f.hour_of_day
)
SELECT c.day,
    array_agg(c.after)::text[] AS decline_classes,
    array_agg(c.day_of_week)::smallint[] AS days_of_week,
    array_agg(c.hour_of_day)::smallint[] AS hours_of_day,
    array_agg(c.attempts)::bigint[] AS attempts,
    array_agg(c.successes)::bigint[] AS successes
FROM cells c
WHERE c.day::timestamp AT TIME ZONE 'UTC' >= coalesce((
        SELECT a.since FROM audits a WHERE a.merchant_id = sqlc.arg(merchant_id) AND a.id = sqlc.arg(audit_id)), '-infinity')
    AND NOT EXISTS (
        SELECT 1 FROM oracle_days d
        WHERE d.merchant_id = sqlc.arg(merchant_id) AND d.livemode = sqlc.arg(livemode) AND d.day = c.day)
GROUP BY c.day
HAVING sum(c.pending) = 0
ORDER BY c.day;

-- name: OracleCountDay :execrows
-- Counts a day, and nothing where somebody has counted it: the row of oracle_days decides. One statement and so one transaction. Cells
-- are written in the order of their key, so that two who count never wait for each other in a circle.
WITH counted AS (
    INSERT INTO oracle_days (merchant_id, livemode, day)
    VALUES (sqlc.arg(merchant_id), sqlc.arg(livemode), sqlc.arg(day))
    ON CONFLICT DO NOTHING
    RETURNING merchant_id, livemode
), cell AS (
    SELECT unnest(sqlc.arg(decline_classes)::text[]) AS decline_class, unnest(sqlc.arg(days_of_week)::smallint[]) AS day_of_week,
        unnest(sqlc.arg(hours_of_day)::smallint[]) AS hour_of_day, unnest(sqlc.arg(attempts)::bigint[]) AS attempts,
        unnest(sqlc.arg(successes)::bigint[]) AS successes
), contributed AS (
    INSERT INTO oracle_contributions AS mine (merchant_id, business_category, decline_class, action, day_of_week, hour_of_day, livemode,
        attempts, successes)
    SELECT counted.merchant_id, sqlc.arg(business_category)::text, cell.decline_class, 'charge', cell.day_of_week, cell.hour_of_day,
        counted.livemode, cell.attempts, cell.successes
    FROM counted CROSS JOIN cell
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
    -- Who has given no more than today's attempts is new to this cell.
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
