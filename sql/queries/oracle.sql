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

-- name: OracleHistory :many
-- The charges of an audit's customers who had a failure, each customer's together and in order. In
-- newer versions of Stripe's API an invoice is known by the payment intents that it names. Many
-- rows: read them by OracleHistoryEach.
SELECT c.customer, coalesce(l.invoice, c.sequence)::text AS invoice, c.created_at, c.outcome, c.decline_class, c.decline_code, c.brand,
    c.funding, c.country, c.zone, c.amount, c.currency
FROM audit_charges c
LEFT JOIN (
    SELECT n.intent, min(n.invoice) AS invoice FROM audit_intents n
    WHERE n.merchant_id = sqlc.arg(merchant_id) AND n.audit_id = sqlc.arg(audit_id) AND n.intent IS NOT NULL
    GROUP BY n.intent) AS l ON l.intent = c.intent
WHERE c.merchant_id = sqlc.arg(merchant_id) AND c.audit_id = sqlc.arg(audit_id) AND c.created_at < sqlc.arg(before)
    AND c.outcome IN ('succeeded', 'failed') AND c.customer IN (
        SELECT f.customer FROM audit_charges f
        WHERE f.merchant_id = sqlc.arg(merchant_id) AND f.audit_id = sqlc.arg(audit_id) AND f.outcome = 'failed')
ORDER BY c.customer, c.created_at, c.sequence, c.outcome;

-- name: OracleReadMerchant :one
-- Without a token, which nobody needs for a picture.
SELECT id, livemode, business_category, country, timezone FROM merchants WHERE id = $1;

-- name: OracleLockMerchant :one
SELECT id FROM merchants WHERE id = $1 AND disconnected_at IS NULL FOR NO KEY UPDATE;

-- name: OracleDropCells :exec
-- A whole history replaces what the one before has told. What hunts have told (ours) stays.
DELETE FROM oracle_cells WHERE merchant_id = sqlc.arg(merchant_id) AND livemode = sqlc.arg(livemode) AND NOT ours;

-- name: OracleDropPaydays :exec
DELETE FROM oracle_paydays WHERE merchant_id = sqlc.arg(merchant_id) AND livemode = sqlc.arg(livemode);

-- name: OracleAddCells :copyfrom
INSERT INTO oracle_cells (merchant_id, livemode, month, ours, cell, attempts, successes) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: OracleAddPaydays :copyfrom
INSERT INTO oracle_paydays (merchant_id, livemode, country, customers, habits) VALUES ($1, $2, $3, $4, $5);

-- name: OracleForgetCells :exec
DELETE FROM oracle_cells WHERE merchant_id = $1;

-- name: OracleForgetPaydays :exec
DELETE FROM oracle_paydays WHERE merchant_id = $1;

-- name: OracleListCells :many
-- All that a night's model is made of. A million rows: read them by OracleListCellsEach.
SELECT c.merchant_id, c.month, c.ours, c.cell, c.attempts, c.successes
FROM oracle_cells c JOIN merchants m ON m.id = c.merchant_id
WHERE c.livemode = sqlc.arg(livemode) AND m.disconnected_at IS NULL
ORDER BY c.merchant_id, c.month, c.ours, c.cell;

-- name: OracleListPaydays :many
SELECT p.merchant_id, p.country, p.customers, p.habits
FROM oracle_paydays p JOIN merchants m ON m.id = p.merchant_id
WHERE p.livemode = sqlc.arg(livemode) AND m.disconnected_at IS NULL
ORDER BY p.merchant_id, p.country;

-- name: OracleDropOldCells :exec
-- Gather keeps 24 whole months beside the one that runs. A charge that settles while its merchant
-- is leaving may leave a cell behind: it goes too.
DELETE FROM oracle_cells c WHERE c.livemode = sqlc.arg(livemode) AND (c.month < phantom_now() - interval '25 months'
    OR EXISTS (SELECT 1 FROM merchants m WHERE m.id = c.merchant_id AND m.disconnected_at IS NOT NULL));

-- name: OracleAddModel :one
INSERT INTO oracle_model (livemode, merchants, attempts, coefficients)
VALUES (sqlc.arg(livemode), sqlc.arg(merchants), sqlc.arg(attempts), sqlc.arg(coefficients))
RETURNING version;

-- name: OracleDropModels :exec
-- Those of more than 30 nights ago.
DELETE FROM oracle_model o
WHERE o.livemode = sqlc.arg(livemode) AND o.version < sqlc.arg(newest) AND o.built_at < phantom_now() - interval '30 days';

-- name: OracleLockModels :exec
-- A merchant who disconnects waits for this, and this for them.
LOCK TABLE oracle_model IN SHARE ROW EXCLUSIVE MODE;

-- name: OracleForgetModels :exec
-- Of both modes: any of them may hold a trace of who leaves. The workers make new ones within
-- minutes.
DELETE FROM oracle_model;

-- name: OracleCountGone :one
-- How many of those who are in a model have no cells any more.
SELECT count(*) FROM unnest(sqlc.arg(merchants)::uuid[]) AS told (id)
WHERE NOT EXISTS (SELECT 1 FROM oracle_cells c WHERE c.merchant_id = told.id AND c.livemode = sqlc.arg(livemode))
    AND NOT EXISTS (SELECT 1 FROM oracle_paydays p WHERE p.merchant_id = told.id AND p.livemode = sqlc.arg(livemode));

-- name: OracleModelDue :one
-- There is something to learn from, and the last night's work is a day old.
SELECT (EXISTS (SELECT 1 FROM oracle_cells c WHERE c.livemode = sqlc.arg(livemode))
    AND NOT EXISTS (SELECT 1 FROM oracle_model o WHERE o.livemode = sqlc.arg(livemode) AND o.built_at > phantom_now() - interval '24 hours'))::boolean
    AS due;

-- name: OracleNewestModel :one
SELECT version FROM oracle_model WHERE livemode = $1 ORDER BY version DESC LIMIT 1;

-- name: OracleReadModel :one
SELECT version, built_at, merchants, attempts, coefficients FROM oracle_model
WHERE livemode = $1
ORDER BY version DESC LIMIT 1;

-- name: OracleCountCells :one
SELECT count(DISTINCT merchant_id) AS merchants, count(*) AS cells, coalesce(sum(attempts), 0)::bigint AS attempts,
    coalesce(sum(successes), 0)::bigint AS successes
FROM oracle_cells WHERE livemode = $1;
