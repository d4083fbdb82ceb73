-- What hunts ask the oracle, what came of it, and whether it may choose.

-- name: GhostMemoryList :many
SELECT ghost_id, memory FROM ghost_memories
WHERE merchant_id = sqlc.arg(merchant_id) AND ghost_id = ANY (sqlc.arg(ghosts)::uuid[])
ORDER BY ghost_id;

-- name: GhostMemoryPage :many
-- What is remembered of the customers of open ghosts, page by page.
SELECT k.ghost_id, k.memory, g.stripe_customer_id, g.stripe_subscription_id, g.zone, g.country
FROM ghost_memories k JOIN ghost_targets g ON g.merchant_id = k.merchant_id AND g.id = k.ghost_id AND g.status = 'open'
WHERE k.merchant_id = sqlc.arg(merchant_id) AND k.ghost_id > sqlc.arg(after)
ORDER BY k.ghost_id LIMIT sqlc.arg(most);

-- name: GhostMemoryKeep :exec
-- Many in one statement. A ghost that has gone meanwhile is left out.
INSERT INTO ghost_memories AS known (merchant_id, ghost_id, memory)
SELECT g.merchant_id, g.id, seen.memory
FROM (SELECT unnest(sqlc.arg(ghosts)::uuid[]) AS ghost, unnest(sqlc.arg(memories)::sealed_token[]) AS memory) AS seen
JOIN ghost_targets g ON g.merchant_id = sqlc.arg(merchant_id) AND g.id = seen.ghost
ORDER BY g.id
ON CONFLICT (merchant_id, ghost_id) DO UPDATE SET memory = excluded.memory, updated_at = clock_timestamp();

-- name: GhostListOpenOfCustomers :many
SELECT id, stripe_customer_id FROM ghost_targets
WHERE merchant_id = sqlc.arg(merchant_id) AND stripe_customer_id = ANY (sqlc.arg(customers)::text[]) AND status = 'open'
ORDER BY stripe_customer_id, id;

-- name: OracleListOurs :many
-- When charges of hunts have left that were told of when they were settled.
SELECT a.customer, a.sent_at::timestamptz AS sent_at
FROM oracle_advice o JOIN attempts a ON a.merchant_id = o.merchant_id AND a.task_id = o.task_id
WHERE o.merchant_id = sqlc.arg(merchant_id) AND o.livemode = sqlc.arg(livemode) AND o.paid IS NOT NULL
    AND a.sent_at > sqlc.arg(since)::timestamptz
ORDER BY a.customer, a.sent_at;

-- name: OracleAdviceCreate :exec
-- Of who has left meanwhile nothing is kept.
INSERT INTO oracle_advice (merchant_id, task_id, livemode, model, arm, class, planned_for, p, low, high, confidence, cell, chosen_for,
    chosen_p, propensity, reason, heuristic_for)
SELECT m.id, @task_id, @livemode, @model, nullif(@arm::text, ''), @class, @planned_for, @p, @low, @high, @confidence, @cell,
    sqlc.narg(chosen_for), @chosen_p, @propensity, @reason, @heuristic_for
FROM merchants m WHERE m.id = @merchant_id AND m.disconnected_at IS NULL;

-- name: OracleAdviceListOfHunt :many
SELECT o.* FROM oracle_advice o JOIN attempts a ON a.merchant_id = o.merchant_id AND a.task_id = o.task_id
WHERE a.merchant_id = sqlc.arg(merchant_id) AND a.hunt_id = sqlc.arg(hunt_id)
ORDER BY o.planned_for, o.task_id;

-- name: OracleSettle :exec
-- What came of a charge that left at about the moment the advice was about. It counts once, and
-- where it counts is forgotten here: it says something of the customer's habits.
WITH told AS (
    SELECT o.merchant_id, o.task_id, o.livemode, o.cell, a.sent_at
    FROM oracle_advice o
    JOIN attempts a ON a.merchant_id = o.merchant_id AND a.task_id = o.task_id
    JOIN merchants m ON m.id = o.merchant_id AND m.livemode = o.livemode
    WHERE o.merchant_id = sqlc.arg(merchant_id) AND o.task_id = sqlc.arg(task_id) AND o.paid IS NULL
        AND a.sent_at BETWEEN o.planned_for - interval '1 hour' AND o.planned_for + interval '1 hour'
        AND m.disconnected_at IS NULL
    FOR UPDATE OF o
), settled AS (
    UPDATE oracle_advice o SET paid = sqlc.arg(paid)::boolean, settled_at = phantom_now(), cell = ''
    FROM told WHERE o.merchant_id = told.merchant_id AND o.task_id = told.task_id
)
INSERT INTO oracle_cells AS c (merchant_id, livemode, month, ours, cell, attempts, successes)
SELECT merchant_id, livemode, date_trunc('month', sent_at AT TIME ZONE 'UTC')::date, true, cell, 1, (sqlc.arg(paid)::boolean)::integer FROM told
ON CONFLICT (merchant_id, livemode, month, ours, cell) DO UPDATE SET
    attempts = c.attempts + 1, successes = c.successes + excluded.successes;

-- name: OracleForgetReasons :exec
-- They say something of a customer's habits, as do cells that were never settled.
UPDATE oracle_advice SET reason = '', cell = ''
WHERE livemode = sqlc.arg(livemode) AND reason <> '' AND asked_at < phantom_now() - interval '90 days';

-- name: OracleSweepAdvice :exec
-- A charge that was planned while its merchant was leaving may leave some behind.
DELETE FROM oracle_advice o USING merchants m
WHERE m.id = o.merchant_id AND m.disconnected_at IS NOT NULL AND o.livemode = sqlc.arg(livemode);

-- name: OracleForgetAdvice :exec
-- Of a merchant who leaves.
DELETE FROM oracle_advice WHERE merchant_id = $1;

-- name: OracleListSettled :many
-- What was predicted before its outcome was known, and settled in the last 28 days. Many rows: read
-- them by OracleListSettledEach.
SELECT o.class, o.p, o.paid::boolean AS paid FROM oracle_advice o
WHERE o.livemode = sqlc.arg(livemode) AND o.paid IS NOT NULL AND o.settled_at > phantom_now() - interval '28 days'
ORDER BY o.settled_at, o.merchant_id, o.task_id;

-- name: OracleListSettledOfMerchant :many
-- As OracleListSettled, of one merchant, in the mode that they work in.
SELECT o.class, o.p, o.paid::boolean AS paid FROM oracle_advice o
JOIN merchants m ON m.id = o.merchant_id AND m.livemode = o.livemode
WHERE o.merchant_id = sqlc.arg(merchant_id) AND o.paid IS NOT NULL AND o.settled_at > phantom_now() - interval '28 days'
ORDER BY o.settled_at, o.task_id;

-- name: OracleCountSettled :one
SELECT count(DISTINCT merchant_id) AS merchants, count(*) AS charges FROM oracle_advice
WHERE livemode = sqlc.arg(livemode) AND paid IS NOT NULL AND settled_at > phantom_now() - interval '90 days';

-- name: OracleArms :many
-- Customers by the arm of their first hunt that began since the oracle is on and was asked about,
-- whether or not a charge followed: intention to treat, as FiguresArms counts. Who counts is
-- decided by time alone, the same for both arms. The late ones are those whose window was over
-- since a time.
SELECT f.oracle_arm::text AS arm,
    count(*) FILTER (WHERE f.read_by <= phantom_now()) AS customers,
    count(*) FILTER (WHERE f.read_by <= phantom_now() AND f.paid_at <= f.window_ends) AS recovered,
    count(*) FILTER (WHERE f.read_by > sqlc.arg(compared)::timestamptz AND f.read_by <= phantom_now()) AS late_customers,
    count(*) FILTER (WHERE f.read_by > sqlc.arg(compared)::timestamptz AND f.read_by <= phantom_now() AND f.paid_at <= f.window_ends) AS late_recovered
FROM (
    SELECT DISTINCT ON (h.merchant_id, h.customer) h.oracle_arm, h.paid_at,
        h.began_at + (p.body ->> 'window_days')::integer * interval '24 hours' AS window_ends,
        h.began_at + ((p.body ->> 'window_days')::integer + 1) * interval '24 hours' AS read_by
    FROM hunts h
    JOIN playbooks p ON p.merchant_id = h.merchant_id AND p.version = h.playbook_version
    WHERE h.livemode = sqlc.arg(livemode) AND h.oracle_arm IS NOT NULL AND h.began_at >= sqlc.arg(since)::timestamptz
    ORDER BY h.merchant_id, h.customer, h.began_at, h.id) AS f
GROUP BY f.oracle_arm
ORDER BY f.oracle_arm;

-- name: OracleReplay :one
-- Charges of the oracle's arm that were settled in 90 days, and those of them that were made within
-- the hour that the fixed rules would have chosen. Each of the latter stands for all that were not
-- drawn: it weighs one over its propensity.
SELECT count(*) AS charges, count(*) FILTER (WHERE o.paid) AS paid,
    coalesce(sum(1 / o.propensity) FILTER (WHERE o.alike), 0)::float8 AS weight,
    coalesce(sum(1 / o.propensity) FILTER (WHERE o.alike AND o.paid), 0)::float8 AS weight_paid,
    coalesce(sum(1 / o.propensity ^ 2) FILTER (WHERE o.alike), 0)::float8 AS squares
FROM (
    SELECT paid, propensity, abs(extract(epoch FROM planned_for - heuristic_for)) < 3600 AS alike FROM oracle_advice
    WHERE livemode = sqlc.arg(livemode) AND arm = 'oracle' AND chosen_for IS NOT NULL
        AND paid IS NOT NULL AND settled_at > phantom_now() - interval '90 days') AS o;

-- name: OracleReadState :one
SELECT * FROM oracle_states WHERE livemode = $1;

-- name: OracleListStates :many
-- For metrics: each mode's state, and when its newest model was made.
SELECT m.livemode::boolean AS livemode, coalesce(s.state, 'shadow') AS state, coalesce(s.charges, 0)::integer AS charges,
    coalesce(s.log_loss, 0)::float8 AS log_loss, coalesce(s.base_log_loss, 0)::float8 AS base_log_loss,
    coalesce(s.calibration_error, 0)::float8 AS calibration_error,
    coalesce(extract(epoch FROM phantom_now() - (SELECT max(o.built_at) FROM oracle_model o WHERE o.livemode = m.livemode)), -1)::float8 AS age
FROM (VALUES (true), (false)) AS m (livemode) LEFT JOIN oracle_states s ON s.livemode = m.livemode
ORDER BY m.livemode;

-- name: OracleLockState :one
SELECT * FROM oracle_states WHERE livemode = $1 FOR UPDATE;

-- name: OracleAddState :exec
INSERT INTO oracle_states (livemode, state, since, why, looks, fortnights, compared_at, falls, checked_at, charges, log_loss, base_log_loss, calibration_error)
VALUES ($1, 'shadow', phantom_now(), sqlc.arg(why)::text, 0, 0, phantom_now(), 0, to_timestamp(0), 0, 0, 0, 0)
ON CONFLICT (livemode) DO NOTHING;

-- name: OracleSetState :exec
UPDATE oracle_states SET state = @state, since = @since, why = @why, looks = @looks, fortnights = @fortnights, compared_at = @compared_at, falls = @falls, checked_at = phantom_now(), charges = @charges,
    log_loss = @log_loss, base_log_loss = @base_log_loss, calibration_error = @calibration_error
WHERE livemode = @livemode;

-- name: OracleCheckDue :one
-- Something was advised on, and the last check is a day old.
SELECT (EXISTS (SELECT 1 FROM oracle_advice o WHERE o.livemode = sqlc.arg(livemode) AND o.paid IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM oracle_states s WHERE s.livemode = sqlc.arg(livemode) AND s.checked_at > phantom_now() - interval '24 hours'))::boolean
    AS due;
