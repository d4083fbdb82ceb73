-- name: PurgeCutoff :one
-- What was discovered or received at this time or before is to go. In hours: a day of an interval
-- may have 23 or 25 of them.
SELECT (phantom_now() - interval '2160 hours')::timestamptz AS cutoff;

-- name: PurgeListMerchants :many
SELECT id FROM merchants ORDER BY id;

-- name: PurgeCountGhosts :one
SELECT count(*) FROM ghost_targets WHERE discovered_at <= @cutoff AND merchant_id = ANY (sqlc.arg(merchant_ids)::uuid[]);

-- name: PurgeTryLock :one
-- One batch of a merchant at a time, until the transaction ends: two would each leave an id alone
-- that the other's ghosts bear.
SELECT pg_try_advisory_xact_lock(hashtextextended('purge ' || sqlc.arg(merchant_id)::uuid, 0)) AS locked;

-- name: PurgeLock :exec
SELECT pg_advisory_xact_lock(hashtextextended('purge ' || sqlc.arg(merchant_id)::uuid, 0));

-- name: PurgeListGhosts :many
-- The next expired ghosts behind one.
SELECT id, discovered_at, stripe_customer_id, stripe_subscription_id, stripe_invoice_id FROM ghost_targets
WHERE merchant_id = @merchant_id AND discovered_at <= @cutoff
    AND (discovered_at, id) > (sqlc.arg(after_at)::timestamptz, sqlc.arg(after_id)::uuid)
ORDER BY discovered_at, id LIMIT sqlc.arg(batch);

-- name: PurgeLockGhosts :many
-- Those of them that are still there and that nobody else is writing.
SELECT id, discovered_at, stripe_customer_id, stripe_subscription_id, stripe_invoice_id FROM ghost_targets
WHERE merchant_id = @merchant_id AND id = ANY (sqlc.arg(ids)::uuid[]) AND discovered_at <= @cutoff
ORDER BY discovered_at, id FOR UPDATE SKIP LOCKED;

-- name: PurgeListBorneIDs :many
-- The Stripe ids that other ghosts of these customers bear.
SELECT DISTINCT borne.id::text AS id FROM ghost_targets g
CROSS JOIN LATERAL (VALUES (g.stripe_customer_id), (g.stripe_subscription_id), (g.stripe_invoice_id)) AS borne (id)
WHERE g.merchant_id = @merchant_id AND g.stripe_customer_id = ANY (sqlc.arg(customers)::text[])
    AND NOT EXISTS (SELECT 1 FROM unnest(sqlc.arg(ids)::uuid[]) AS batch (id) WHERE batch.id = g.id)
ORDER BY 1;

-- name: PurgeListTaskTexts :many
-- All that a merchant's tasks say, page by page. The quotation mark is what JSON's strings end with
-- too.
SELECT id, concat_ws('"', params::text, unique_key, last_error, outcome::text)::text AS said FROM scheduled_tasks
WHERE merchant_id = @merchant_id AND id > sqlc.arg(after) AND kind <> 'purge'
ORDER BY id LIMIT sqlc.arg(page);

-- name: PurgeDeleteTasks :many
-- Not those that run, or whose key at Stripe may still be sent again.
DELETE FROM scheduled_tasks d WHERE d.merchant_id = @merchant_id AND d.id = ANY (ARRAY(
    SELECT t.id FROM scheduled_tasks t
    WHERE t.merchant_id = @merchant_id AND t.id = ANY (sqlc.arg(ids)::uuid[]) AND t.status <> 'running'
        AND (t.first_sent_at IS NULL OR t.first_sent_at <= clock_timestamp() - interval '20 hours')
    ORDER BY t.id FOR UPDATE SKIP LOCKED))
RETURNING d.id, coalesce(d.params ->> 'event', '')::text AS event;

-- name: PurgeCloseAttempts :exec
-- Of deleted tasks. What was sent over 20 hours ago and never settled counts as executed: nobody
-- can find out any more.
UPDATE attempts SET result = CASE WHEN sent_at IS NULL THEN 'not_sent' ELSE 'unknown' END
WHERE merchant_id = @merchant_id AND task_id = ANY (sqlc.arg(tasks)::uuid[]) AND result IS NULL;

-- name: PurgeCloseMessages :exec
UPDATE messages SET state = CASE WHEN state = 'planned' THEN 'skipped' ELSE 'unclear' END, why = 'purged'
WHERE merchant_id = @merchant_id AND id = ANY (sqlc.arg(tasks)::uuid[]) AND state IN ('planned', 'sending');

-- name: PurgeListTasksLeft :many
SELECT id FROM scheduled_tasks WHERE merchant_id = @merchant_id AND id = ANY (sqlc.arg(ids)::uuid[]) ORDER BY id;

-- name: PurgeDeleteEvents :execrows
-- Those about these objects, and those that deleted tasks were about.
DELETE FROM webhook_events
WHERE merchant_id = @merchant_id AND (object_id = ANY (sqlc.arg(objects)::text[]) OR id = ANY (sqlc.arg(ids)::text[]));

-- name: PurgeDeleteGhosts :one
-- The ghosts go and what survives of them is written in one statement. An invoice or a card that
-- had more attempts before keeps that number: a ghost that was found again counts the old ones too.
WITH hashed AS (
    SELECT unnest(sqlc.arg(ids)::uuid[]) AS id, unnest(sqlc.arg(customers)::bytea[]) AS customer, unnest(sqlc.arg(invoices)::bytea[]) AS invoice
), gone AS (
    DELETE FROM ghost_targets g WHERE g.merchant_id = @merchant_id AND g.id = ANY (sqlc.arg(ids)::uuid[])
    RETURNING g.merchant_id, g.id, g.card, g.attempt_count, g.card_attempts, g.last_failed_at
), kept AS (
    INSERT INTO attempt_budgets AS b (merchant_id, subject, hash, attempts, last_failed_at)
    SELECT gone.merchant_id, budget.subject, budget.hash, max(budget.attempts), max(gone.last_failed_at)
    FROM gone JOIN hashed USING (id)
    CROSS JOIN LATERAL (VALUES ('customer', hashed.customer, gone.attempt_count), ('invoice', hashed.invoice, gone.attempt_count),
        ('card', gone.card, gone.card_attempts)) AS budget (subject, hash, attempts)
    WHERE octet_length(budget.hash) = 32 -- not every ghost has a card
    GROUP BY gone.merchant_id, budget.subject, budget.hash
    ON CONFLICT (merchant_id, subject, hash) DO UPDATE SET
        attempts = greatest(b.attempts, excluded.attempts), last_failed_at = greatest(b.last_failed_at, excluded.last_failed_at)
)
SELECT count(*) FROM gone;

-- name: PurgeOldEvents :execrows
DELETE FROM webhook_events d WHERE d.merchant_id = @merchant_id AND d.id = ANY (ARRAY(
    SELECT e.id FROM webhook_events e WHERE e.merchant_id = @merchant_id AND e.received_at <= @cutoff
    ORDER BY e.received_at LIMIT sqlc.arg(batch) FOR UPDATE SKIP LOCKED));

-- name: PurgeOldRefreshes :execrows
DELETE FROM ghost_refreshes d WHERE d.merchant_id = @merchant_id AND d.subscription = ANY (ARRAY(
    SELECT r.subscription FROM ghost_refreshes r WHERE r.merchant_id = @merchant_id AND r.refreshed_at <= @cutoff
    LIMIT sqlc.arg(batch) FOR UPDATE SKIP LOCKED));

-- name: PurgeStopAudits :execrows
-- An audit that nobody has gone on with for a day, because its merchant is parked or it waits for a
-- person, must not keep its facts. Its task is canceled first: were it to run on without its facts,
-- it would take everybody for no ghost.
WITH canceled AS (
    UPDATE scheduled_tasks t SET status = 'canceled', finished_at = clock_timestamp()
    FROM audits a
    WHERE a.merchant_id = @merchant_id AND a.state = 'running' AND a.created_at <= clock_timestamp() - interval '24 hours'
        AND t.merchant_id = a.merchant_id AND t.id = a.id
        AND (t.status IN ('parked', 'needs_review') OR t.status = 'pending' AND a.created_at <= sqlc.arg(cutoff))
    RETURNING t.id
)
UPDATE audits u SET state = 'failed', finished_at = clock_timestamp(),
    error = 'it stood still for a day, so what it had read was purged: start another'
WHERE u.merchant_id = @merchant_id AND u.state = 'running' AND u.created_at <= clock_timestamp() - interval '24 hours'
    AND (u.id = ANY (ARRAY(SELECT canceled.id FROM canceled)) OR NOT EXISTS (
        SELECT 1 FROM scheduled_tasks t WHERE t.merchant_id = u.merchant_id AND t.id = u.id
            AND t.status IN ('pending', 'running', 'parked', 'needs_review')));

-- name: PurgeAuditSubscriptions :execrows
-- This and the next four: what audits have read that do not run, or were never written down.
DELETE FROM audit_subscriptions WHERE ctid = ANY (ARRAY(
    SELECT f.ctid FROM audit_subscriptions f
    WHERE f.merchant_id = @merchant_id
        AND NOT EXISTS (SELECT 1 FROM audits a WHERE a.merchant_id = f.merchant_id AND a.id = f.audit_id AND a.state = 'running')
    LIMIT sqlc.arg(batch) FOR UPDATE SKIP LOCKED));

-- name: PurgeAuditInvoices :execrows
DELETE FROM audit_invoices WHERE ctid = ANY (ARRAY(
    SELECT f.ctid FROM audit_invoices f
    WHERE f.merchant_id = @merchant_id
        AND NOT EXISTS (SELECT 1 FROM audits a WHERE a.merchant_id = f.merchant_id AND a.id = f.audit_id AND a.state = 'running')
    LIMIT sqlc.arg(batch) FOR UPDATE SKIP LOCKED));

-- name: PurgeAuditIntents :execrows
DELETE FROM audit_intents WHERE ctid = ANY (ARRAY(
    SELECT f.ctid FROM audit_intents f
    WHERE f.merchant_id = @merchant_id
        AND NOT EXISTS (SELECT 1 FROM audits a WHERE a.merchant_id = f.merchant_id AND a.id = f.audit_id AND a.state = 'running')
    LIMIT sqlc.arg(batch) FOR UPDATE SKIP LOCKED));

-- name: PurgeAuditCharges :execrows
DELETE FROM audit_charges WHERE ctid = ANY (ARRAY(
    SELECT f.ctid FROM audit_charges f
    WHERE f.merchant_id = @merchant_id
        AND NOT EXISTS (SELECT 1 FROM audits a WHERE a.merchant_id = f.merchant_id AND a.id = f.audit_id AND a.state = 'running')
    LIMIT sqlc.arg(batch) FOR UPDATE SKIP LOCKED));

-- name: PurgeAuditDisputes :execrows
DELETE FROM audit_disputes WHERE ctid = ANY (ARRAY(
    SELECT f.ctid FROM audit_disputes f
    WHERE f.merchant_id = @merchant_id
        AND NOT EXISTS (SELECT 1 FROM audits a WHERE a.merchant_id = f.merchant_id AND a.id = f.audit_id AND a.state = 'running')
    LIMIT sqlc.arg(batch) FOR UPDATE SKIP LOCKED));

-- name: PurgeAuditCursors :exec
-- A cursor is the id of the last object read; an audit that has ended needs none.
UPDATE audit_windows w SET cursor = NULL
WHERE w.merchant_id = @merchant_id AND w.cursor IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM audits a WHERE a.merchant_id = w.merchant_id AND a.id = w.audit_id AND a.state = 'running');

-- name: PurgeAuditErrors :exec
-- What went wrong over 90 days ago. That it went wrong stays.
WITH old AS (
    SELECT a.id FROM audits a WHERE a.merchant_id = @merchant_id AND a.finished_at <= sqlc.arg(cutoff)::timestamptz
), windows AS (
    UPDATE audit_windows w SET error = 'purged'
    WHERE w.merchant_id = @merchant_id AND w.audit_id = ANY (ARRAY(SELECT old.id FROM old)) AND w.error <> 'purged'
)
UPDATE audits u SET error = 'purged'
WHERE u.merchant_id = @merchant_id AND u.id = ANY (ARRAY(SELECT old.id FROM old)) AND u.error <> 'purged';

-- name: PurgeOldPlaybooks :execrows
-- Versions that no hunt refers to, but the newest so many. Their numbers are never given again.
DELETE FROM playbooks d WHERE d.merchant_id = @merchant_id AND d.version = ANY (ARRAY(
    SELECT p.version FROM playbooks p
    WHERE p.merchant_id = @merchant_id
        AND p.version <= (SELECT max(n.version) FROM playbooks n WHERE n.merchant_id = @merchant_id) - sqlc.arg(keep)::int
        AND NOT EXISTS (SELECT 1 FROM hunts h WHERE h.merchant_id = p.merchant_id AND h.playbook_version = p.version)
    ORDER BY p.version LIMIT sqlc.arg(batch) FOR UPDATE SKIP LOCKED));

-- name: PurgeOldAudits :execrows
-- Audits that have ended, with their windows, but the newest so many, and but the newest that ended
-- in its way: what an API key and the report are told comes from these.
WITH ended AS (
    SELECT a.id, row_number() OVER (ORDER BY a.ticket DESC) AS place,
        row_number() OVER (PARTITION BY a.livemode, a.state, a.since IS NULL ORDER BY a.ticket DESC) AS place_of_its_way
    FROM audits a WHERE a.merchant_id = @merchant_id AND a.state <> 'running'
), old AS (
    SELECT ended.id FROM ended WHERE ended.place > sqlc.arg(keep)::int AND ended.place_of_its_way > 1
    ORDER BY ended.place DESC LIMIT sqlc.arg(batch)
), windows AS (
    DELETE FROM audit_windows w WHERE w.merchant_id = @merchant_id AND w.audit_id = ANY (ARRAY(SELECT old.id FROM old))
)
DELETE FROM audits d WHERE d.merchant_id = @merchant_id AND d.id = ANY (ARRAY(SELECT old.id FROM old));

-- name: PurgeListSlots :many
-- When the next daily purge is due: at a time of day of each merchant's own, which the last, random
-- digits of their id give. For one merchant, or, if that is the zero id, for all that have no purge
-- ahead of them.
SELECT slot.merchant_id, slot.at::timestamptz AS run_at, to_char(slot.at AT TIME ZONE 'UTC', 'YYYY-MM-DD')::text AS day
FROM (
    SELECT m.id AS merchant_id, today.at + CASE WHEN today.at <= phantom_now() THEN interval '24 hours' ELSE interval '0' END AS at
    FROM merchants m
    CROSS JOIN LATERAL (SELECT date_trunc('day', phantom_now(), 'UTC')
        + make_interval(secs => ('x' || right(m.id::text, 6))::bit(24)::integer % 86400) AS at) AS today
    WHERE m.id = sqlc.arg(merchant_id)::uuid
        OR sqlc.arg(merchant_id)::uuid = '00000000-0000-0000-0000-000000000000' AND NOT EXISTS (
            SELECT 1 FROM scheduled_tasks t
            WHERE t.merchant_id = m.id AND t.kind = 'purge' AND t.unique_key IS NOT NULL AND t.status IN ('pending', 'running'))) AS slot
ORDER BY slot.merchant_id LIMIT 1000;
