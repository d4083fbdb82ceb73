-- name: AuditCreate :execrows
-- One runs per account at a time. The lock keeps a handshake in the other mode before or after
-- this.
INSERT INTO audits (merchant_id, id, since, ticket, livemode)
SELECT m.id, @id, sqlc.narg(since), nextval('ghost_tickets'), m.livemode FROM merchants m WHERE m.id = @merchant_id AND m.disconnected_at IS NULL
FOR SHARE
ON CONFLICT (merchant_id) WHERE state = 'running' DO NOTHING;

-- name: AuditCreateWindow :exec
INSERT INTO audit_windows (merchant_id, audit_id, id, list, from_at, to_at)
VALUES (@merchant_id, @audit_id, @id, @list, @from_at, @to_at);

-- name: AuditAbandon :exec
-- An audit whose task has ended without it, by a person's hand, does not run any more.
UPDATE audits a SET state = 'failed', error = 'the audit was given up: start it again', finished_at = clock_timestamp()
WHERE a.merchant_id = $1 AND a.state = 'running' AND NOT EXISTS (
    SELECT 1 FROM scheduled_tasks t
    WHERE t.merchant_id = a.merchant_id AND t.id = a.id AND t.status IN ('pending', 'running', 'parked'));

-- name: AuditEndOtherMode :exec
-- Its task finds it ended and drops its facts.
UPDATE audits a SET state = 'failed', finished_at = clock_timestamp(),
    error = 'the account was connected in the other mode (live or test) meanwhile'
FROM merchants m WHERE m.id = a.merchant_id AND a.merchant_id = $1 AND a.state = 'running' AND a.livemode <> m.livemode;

-- name: AuditLockRunning :one
-- It cannot end, nor be widened by another, until the transaction does.
SELECT id, since FROM audits WHERE merchant_id = $1 AND state = 'running' FOR NO KEY UPDATE;

-- name: AuditWiden :exec
-- The windows that this adds are written in the same transaction. An audit that is about to end
-- finds that it must not.
UPDATE audits SET since = sqlc.narg(since) WHERE merchant_id = @merchant_id AND id = @id;

-- name: AuditGet :one
SELECT * FROM audits WHERE merchant_id = $1 AND id = $2;

-- name: AuditProgress :one
-- read is which part of the spans is read, 0 to 1, of the lists that the audit began with.
SELECT a.state, a.error, a.totals, count(w.id) AS windows, count(w.id) FILTER (WHERE w.state = 'done') AS windows_done,
    coalesce(sum(w.objects), 0)::bigint AS objects,
    coalesce(1 - sum(extract(epoch FROM w.to_at - w.from_at)) FILTER (WHERE w.state <> 'done')
        / nullif(max(extract(epoch FROM a.until - coalesce(a.since, '2011-01-01'))) * 5, 0), 1)::float8 AS read
FROM audits a LEFT JOIN audit_windows w ON w.merchant_id = a.merchant_id AND w.audit_id = a.id
WHERE a.merchant_id = $1 AND a.id = $2
GROUP BY a.merchant_id, a.id;

-- name: AuditListWindows :many
SELECT * FROM audit_windows WHERE merchant_id = $1 AND audit_id = $2 ORDER BY list, to_at DESC, id;

-- name: AuditReopenWindows :exec
-- For another try.
UPDATE audit_windows SET state = 'open', error = NULL WHERE merchant_id = $1 AND audit_id = $2 AND state = 'failed';

-- name: AuditCheckpoint :execrows
-- What was read is stored in the same transaction. Nobody else may have read on from where we
-- began: the audit must still be ours.
UPDATE audit_windows w SET
    cursor = sqlc.narg(cursor), from_at = sqlc.arg(from_at), to_at = sqlc.arg(to_at), objects = w.objects + sqlc.arg(read),
    state = sqlc.arg(state)
WHERE w.merchant_id = sqlc.arg(merchant_id) AND w.audit_id = sqlc.arg(audit_id) AND w.id = sqlc.arg(id)
    AND w.state = 'open' AND w.cursor IS NOT DISTINCT FROM sqlc.narg(before) AND w.from_at <= sqlc.arg(from_at)
    AND EXISTS (SELECT 1 FROM audits a WHERE a.merchant_id = w.merchant_id AND a.id = w.audit_id AND a.state = 'running');

-- name: AuditFailWindow :exec
UPDATE audit_windows SET state = 'failed', error = @error WHERE merchant_id = @merchant_id AND audit_id = @audit_id AND id = @id AND state = 'open';

-- name: AuditFinish :execrows
-- By the task's holder alone: who has lost their lease may have read less than the one who goes on.
-- And only as wide as they know it.
UPDATE audits a SET state = sqlc.arg(state), error = sqlc.narg(error), totals = sqlc.arg(totals), objects = sqlc.arg(objects),
    finished_at = clock_timestamp()
WHERE a.merchant_id = sqlc.arg(merchant_id) AND a.id = sqlc.arg(id) AND a.state = 'running'
    AND a.since IS NOT DISTINCT FROM sqlc.narg(since) AND EXISTS (
    SELECT 1 FROM scheduled_tasks t
    WHERE t.merchant_id = a.merchant_id AND t.id = a.id AND t.fence = sqlc.arg(fence) AND t.status = 'running');

-- name: AuditAddSubscriptions :copyfrom
INSERT INTO audit_subscriptions (merchant_id, audit_id, id, customer, status, paused, created_at, leaving, ignored, products, prices,
    ended_at, pause, paused_by_us, monthly, currency)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16);

-- name: AuditAddInvoices :copyfrom
INSERT INTO audit_invoices (merchant_id, audit_id, subscription, id, status, created_at, send_invoice, currency, amount_remaining,
    attempt_count, due_at, paid_out_of_band, email, lines, period_from, period_to, separate)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17);

-- name: AuditAddIntents :copyfrom
INSERT INTO audit_intents (merchant_id, audit_id, invoice, status, intent) VALUES ($1, $2, $3, $4, $5);

-- name: AuditAddCharges :copyfrom
INSERT INTO audit_charges (merchant_id, audit_id, sequence, disputed, created_at, outcome, refunded, decline_class, decline_code, brand,
    card, day_of_week, hour_of_day, zone, intent, country, customer, amount, currency, funding)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20);

-- name: AuditAddDisputes :copyfrom
INSERT INTO audit_disputes (merchant_id, audit_id, charge, is_open, lost, created_at) VALUES ($1, $2, $3, $4, $5, $6);

-- name: AuditDropSubscriptions :exec
-- This and the next four: by the task's holder alone, as AuditFinish.
DELETE FROM audit_subscriptions f
WHERE f.merchant_id = sqlc.arg(merchant_id) AND f.audit_id = sqlc.arg(audit_id) AND EXISTS (
    SELECT 1 FROM scheduled_tasks t
    WHERE t.merchant_id = sqlc.arg(merchant_id) AND t.id = sqlc.arg(audit_id) AND t.fence = sqlc.arg(fence) AND t.status = 'running');

-- name: AuditDropInvoices :exec
DELETE FROM audit_invoices f
WHERE f.merchant_id = sqlc.arg(merchant_id) AND f.audit_id = sqlc.arg(audit_id) AND EXISTS (
    SELECT 1 FROM scheduled_tasks t
    WHERE t.merchant_id = sqlc.arg(merchant_id) AND t.id = sqlc.arg(audit_id) AND t.fence = sqlc.arg(fence) AND t.status = 'running');

-- name: AuditDropIntents :exec
DELETE FROM audit_intents f
WHERE f.merchant_id = sqlc.arg(merchant_id) AND f.audit_id = sqlc.arg(audit_id) AND EXISTS (
    SELECT 1 FROM scheduled_tasks t
    WHERE t.merchant_id = sqlc.arg(merchant_id) AND t.id = sqlc.arg(audit_id) AND t.fence = sqlc.arg(fence) AND t.status = 'running');

-- name: AuditDropCharges :exec
DELETE FROM audit_charges f
WHERE f.merchant_id = sqlc.arg(merchant_id) AND f.audit_id = sqlc.arg(audit_id) AND EXISTS (
    SELECT 1 FROM scheduled_tasks t
    WHERE t.merchant_id = sqlc.arg(merchant_id) AND t.id = sqlc.arg(audit_id) AND t.fence = sqlc.arg(fence) AND t.status = 'running');

-- name: AuditDropDisputes :exec
DELETE FROM audit_disputes f
WHERE f.merchant_id = sqlc.arg(merchant_id) AND f.audit_id = sqlc.arg(audit_id) AND EXISTS (
    SELECT 1 FROM scheduled_tasks t
    WHERE t.merchant_id = sqlc.arg(merchant_id) AND t.id = sqlc.arg(audit_id) AND t.fence = sqlc.arg(fence) AND t.status = 'running');

-- name: AuditForgetCursors :exec
UPDATE audit_windows SET cursor = NULL WHERE merchant_id = $1 AND audit_id = $2 AND cursor IS NOT NULL;

-- name: AuditListDebts :many
-- Every finalised invoice of every subscription that has one unpaid or charged back, or an open
-- ghost, with what is known of its attempts, in the order of subscriptions. Streamed by
-- db.AuditStreamDebts and never called as it is: its rows may be many. A charge belongs to the
-- invoice that it names, or, in newer versions, to the one that names its payment intent.
--
-- It is written so that the planner guesses its rows well: it knows nothing of a CTE's values. With
-- an OR in suspects, or tries grouped by their expression, it expects a hundred million rows, and
-- has the statement compiled for longer than it runs. Each table is joined by what is sought of it
-- alone: joined by the merchant and the audit too, a merge over these two, which are the same in
-- every row, compares each debt with each subscription.
WITH contested AS (
    SELECT coalesce(n.invoice, c.sequence) AS invoice, bool_or(p.is_open) AS disputed, sum(p.lost)::bigint AS lost,
        max(p.created_at) FILTER (WHERE p.lost > 0) AS lost_at
    FROM audit_disputes p
    JOIN audit_charges c ON c.merchant_id = p.merchant_id AND c.audit_id = p.audit_id AND c.disputed = p.charge
    LEFT JOIN audit_intents n ON n.merchant_id = c.merchant_id AND n.audit_id = c.audit_id AND n.intent = c.intent
    WHERE p.merchant_id = sqlc.arg(merchant_id) AND p.audit_id = sqlc.arg(audit_id)
    GROUP BY 1
), suspects AS (
    SELECT i.subscription FROM audit_invoices i
    WHERE i.merchant_id = sqlc.arg(merchant_id) AND i.audit_id = sqlc.arg(audit_id)
        AND i.status IN ('open', 'uncollectible') AND i.amount_remaining > 0
    UNION
    SELECT i.subscription FROM audit_invoices i
    WHERE i.merchant_id = sqlc.arg(merchant_id) AND i.audit_id = sqlc.arg(audit_id)
        AND i.status = 'paid' AND i.id IN (SELECT x.invoice FROM contested x WHERE x.lost > 0)
    UNION
    SELECT g.stripe_subscription_id COLLATE "C" FROM ghost_targets g WHERE g.merchant_id = sqlc.arg(merchant_id) AND g.status = 'open'
), debts AS (
    SELECT i.* FROM audit_invoices i JOIN suspects ON suspects.subscription = i.subscription
    WHERE i.merchant_id = sqlc.arg(merchant_id) AND i.audit_id = sqlc.arg(audit_id)
), linked AS (
    SELECT n.intent, min(n.invoice) AS invoice FROM audit_intents n
    WHERE n.merchant_id = sqlc.arg(merchant_id) AND n.audit_id = sqlc.arg(audit_id) AND n.intent IS NOT NULL
    GROUP BY n.intent
), tries AS (
    SELECT debts.id AS sequence, bool_or(c.refunded) AS refunded,
        array_agg(c.created_at ORDER BY c.created_at) AS ats, array_agg(c.outcome ORDER BY c.created_at) AS outcomes,
        array_agg(coalesce(c.decline_class, '') ORDER BY c.created_at) AS classes,
        array_agg(coalesce(c.decline_code, '') ORDER BY c.created_at) AS codes,
        array_agg(coalesce(c.card, '') ORDER BY c.created_at) AS cards,
        array_agg(coalesce(c.zone, '') ORDER BY c.created_at) AS zones,
        array_agg(coalesce(c.country, '') ORDER BY c.created_at) AS countries
    FROM audit_charges c
    LEFT JOIN linked l ON l.intent = c.intent
    JOIN debts ON debts.id = coalesce(l.invoice, c.sequence)
    WHERE c.merchant_id = sqlc.arg(merchant_id) AND c.audit_id = sqlc.arg(audit_id)
    GROUP BY debts.id
), recent AS (
    SELECT c.card, count(*) AS attempts FROM audit_charges c
    WHERE c.merchant_id = sqlc.arg(merchant_id) AND c.audit_id = sqlc.arg(audit_id) AND c.card IS NOT NULL
        AND c.outcome = 'failed' AND c.created_at > phantom_now() - interval '30 days'
    GROUP BY c.card
), returned AS (
    SELECT s.id FROM suspects
    JOIN audit_subscriptions s ON s.id = suspects.subscription
    JOIN audit_subscriptions o ON o.merchant_id = s.merchant_id AND o.audit_id = s.audit_id AND o.customer = s.customer
        AND o.created_at > s.created_at AND o.status IN ('active', 'trialing', 'past_due') AND o.products && s.products
    WHERE s.merchant_id = sqlc.arg(merchant_id) AND s.audit_id = sqlc.arg(audit_id)
    GROUP BY s.id
)
SELECT d.subscription, coalesce(s.customer, '') AS customer, coalesce(s.status, '') AS subscription_status, coalesce(s.paused, false) AS paused,
    coalesce(s.leaving, false) AS leaving, coalesce(s.ignored, false) AS ignored, (r.id IS NOT NULL)::boolean AS resubscribed,
    s.products::text[] AS products, s.prices::text[] AS prices, coalesce(s.ended_at, 'epoch')::timestamptz AS ended_at,
    coalesce(s.pause, '') AS pause, coalesce(s.paused_by_us, false) AS paused_by_us, coalesce(s.monthly, 0)::bigint AS monthly,
    coalesce(s.currency, '') AS subscription_currency,
    d.id, d.status, d.created_at, d.send_invoice, d.currency, d.amount_remaining, d.attempt_count, d.due_at, d.paid_out_of_band, d.email,
    d.lines, d.period_from, d.period_to, d.separate,
    coalesce(n.status, '') AS intent, coalesce(t.refunded, false) AS refunded, coalesce(x.disputed, false) AS disputed,
    coalesce(x.lost, 0)::bigint AS lost, coalesce(x.lost_at, 'epoch')::timestamptz AS lost_at,
    t.ats::timestamptz[] AS ats, t.outcomes::text[] AS outcomes, t.classes::text[] AS classes, t.codes::text[] AS codes,
    t.cards::bytea[] AS cards, t.zones::text[] AS zones, t.countries::text[] AS countries,
    coalesce(recent.attempts, 0)::integer AS card_attempts
FROM debts d
LEFT JOIN audit_subscriptions s ON s.merchant_id = sqlc.arg(merchant_id) AND s.audit_id = sqlc.arg(audit_id) AND s.id = d.subscription
LEFT JOIN returned r ON r.id = d.subscription
LEFT JOIN audit_intents n ON n.merchant_id = sqlc.arg(merchant_id) AND n.audit_id = sqlc.arg(audit_id) AND n.invoice = d.id AND n.status <> ''
LEFT JOIN tries t ON t.sequence = d.id
LEFT JOIN contested x ON x.invoice = d.id
LEFT JOIN recent ON recent.card = t.cards[cardinality(t.cards)]
ORDER BY d.subscription, d.created_at, d.id;

-- name: AuditWaste :one
-- Attempts that could never have succeeded: those on a card after the network had said never again,
-- for the same debt.
SELECT count(*) AS attempts, count(*) FILTER (WHERE brand = 'visa') AS visa, count(*) FILTER (WHERE brand = 'mastercard') AS mastercard
FROM (
    SELECT c.brand, bool_or(c.decline_class = 'never') OVER (
        PARTITION BY c.sequence, c.card ORDER BY c.created_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS refused
    FROM audit_charges c
    WHERE c.merchant_id = sqlc.arg(merchant_id) AND c.audit_id = sqlc.arg(audit_id) AND c.outcome = 'failed' AND c.card IS NOT NULL
) AS tries
WHERE refused;

-- name: AuditListSlots :many
-- When the next weekly audit is due: at a moment of the week of each merchant's own, which the
-- last, random digits of their id give. For one merchant, or, if that is the zero id, for all that
-- have none ahead of them; and who has left needs none.
SELECT slot.merchant_id, slot.at::timestamptz AS run_at, to_char(slot.at AT TIME ZONE 'UTC', 'YYYY-MM-DD')::text AS day
FROM (
    SELECT m.id AS merchant_id, week.at + CASE WHEN week.at <= phantom_now() THEN interval '168 hours' ELSE interval '0' END AS at
    FROM merchants m
    CROSS JOIN LATERAL (SELECT date_trunc('week', phantom_now(), 'UTC')
        + make_interval(secs => ('x' || right(m.id::text, 6))::bit(24)::integer % 604800) AS at) AS week
    WHERE m.disconnected_at IS NULL AND (m.id = sqlc.arg(merchant_id)::uuid
        OR sqlc.arg(merchant_id)::uuid = '00000000-0000-0000-0000-000000000000' AND NOT EXISTS (
            SELECT 1 FROM scheduled_tasks t
            WHERE t.merchant_id = m.id AND t.kind = 'weekly_audit' AND t.status IN ('pending', 'running', 'parked')))) AS slot
ORDER BY slot.merchant_id LIMIT 1000;

-- name: AuditListOthers :many
-- The subscriptions of an audit that AuditListDebts leaves out. Streamed by db.AuditStreamOthers.
WITH suspects AS (
    SELECT i.subscription FROM audit_invoices i
    WHERE i.merchant_id = sqlc.arg(merchant_id) AND i.audit_id = sqlc.arg(audit_id)
        AND i.status IN ('open', 'uncollectible') AND i.amount_remaining > 0
    UNION
    SELECT i.subscription FROM audit_disputes p
    JOIN audit_charges c ON c.merchant_id = p.merchant_id AND c.audit_id = p.audit_id AND c.disputed = p.charge
    LEFT JOIN audit_intents n ON n.merchant_id = c.merchant_id AND n.audit_id = c.audit_id AND n.intent = c.intent
    JOIN audit_invoices i ON i.merchant_id = p.merchant_id AND i.audit_id = p.audit_id AND i.id = coalesce(n.invoice, c.sequence)
    WHERE p.merchant_id = sqlc.arg(merchant_id) AND p.audit_id = sqlc.arg(audit_id) AND p.lost > 0
    UNION
    SELECT g.stripe_subscription_id COLLATE "C" FROM ghost_targets g WHERE g.merchant_id = sqlc.arg(merchant_id) AND g.status = 'open'
)
SELECT s.id, s.customer, s.status, s.paused, s.ended_at, s.pause, s.paused_by_us, s.monthly, s.currency, s.products::text[] AS products,
    s.prices::text[] AS prices
FROM audit_subscriptions s LEFT JOIN suspects x ON x.subscription = s.id
WHERE s.merchant_id = sqlc.arg(merchant_id) AND s.audit_id = sqlc.arg(audit_id) AND x.subscription IS NULL
ORDER BY s.id;
