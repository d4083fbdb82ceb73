-- name: AttemptCreate :one
-- The next number of an object and action. Two at once collide on the key, and one of them is
-- planned again.
INSERT INTO attempts (merchant_id, object, action, number, task_id, hunt_id, customer, currency, amount, reason, probability, planned_for, code)
SELECT sqlc.arg(merchant_id), sqlc.arg(object), sqlc.arg(action)::text, coalesce(max(a.number), 0) + 1, sqlc.arg(task_id), sqlc.arg(hunt_id), sqlc.arg(customer),
    sqlc.arg(currency)::text, sqlc.arg(amount)::bigint, sqlc.arg(reason)::text, sqlc.arg(probability)::float8, sqlc.arg(planned_for)::timestamptz, nullif(sqlc.arg(code)::text, '')
FROM attempts a WHERE a.merchant_id = sqlc.arg(merchant_id) AND a.object = sqlc.arg(object) AND a.action = sqlc.arg(action)::text
RETURNING number;

-- name: AttemptGet :one
SELECT * FROM attempts WHERE merchant_id = $1 AND task_id = $2;

-- name: AttemptLoad :one
-- An attempt with its hunt and all that decides about its next step: the hunt's playbook and the
-- newest one, whether something halts it, and PHANTOM's time. Without a row its ghost is gone.
-- Anyone who is about to send has locked the hunt in a statement of its own before.
SELECT sqlc.embed(a), sqlc.embed(h), sqlc.embed(g), p.body AS playbook,
    (SELECT n.body FROM playbooks n WHERE n.merchant_id = h.merchant_id ORDER BY n.version DESC LIMIT 1)::jsonb AS newest,
    EXISTS (SELECT 1 FROM halts x WHERE x.scope IN (h.merchant_id, '00000000-0000-0000-0000-000000000000')) AS halted,
    (m.disconnected_at IS NOT NULL)::boolean AS disconnected, phantom_now()::timestamptz AS now
FROM attempts a
JOIN hunts h ON h.merchant_id = a.merchant_id AND h.id = a.hunt_id
JOIN ghost_targets g ON g.merchant_id = h.merchant_id AND g.id = h.ghost_id
JOIN merchants m ON m.id = h.merchant_id
JOIN playbooks p ON p.merchant_id = h.merchant_id AND p.version = h.playbook_version
WHERE a.merchant_id = sqlc.arg(merchant_id) AND a.task_id = sqlc.arg(task_id);

-- name: AttemptListOfHunt :many
SELECT * FROM attempts WHERE merchant_id = $1 AND hunt_id = $2 ORDER BY planned_for, number, task_id;

-- name: AttemptListOfObject :many
SELECT * FROM attempts WHERE merchant_id = $1 AND object = $2 ORDER BY action, number;

-- name: AttemptLock :exec
-- What follows in the transaction counts what was sent with a card one at a time, and a stop of the
-- hunt has come before, or waits. First the hunt, then the card.
WITH hunt AS MATERIALIZED (
    SELECT 1 AS held FROM hunts h WHERE h.merchant_id = sqlc.arg(merchant_id) AND h.id = sqlc.arg(hunt) FOR SHARE
)
SELECT CASE WHEN octet_length(sqlc.narg(card)::bytea) > 0
    THEN pg_advisory_xact_lock(hashtextextended('card ' || sqlc.arg(merchant_id)::uuid || encode(sqlc.narg(card)::bytea, 'hex'), 0))::text END AS held
FROM hunt;

-- name: AttemptLockMerchant :exec
SELECT pg_advisory_xact_lock(hashtextextended('charge ' || sqlc.arg(merchant_id)::uuid, 0));

-- name: CardAttemptList :many
-- The attempts on a card within the 30 days that card networks count, the newest first: those in
-- the ledger, and charges of ours that are out or whose charge the ledger has not heard of. What
-- was sent before the card was stored counts by its customer.
SELECT c.charge, c.at, false AS out FROM card_attempts c
WHERE c.merchant_id = sqlc.arg(merchant_id) AND c.card = sqlc.arg(card) AND c.reached AND c.at > phantom_now() - interval '720 hours'
UNION ALL
SELECT a.charge, a.sent_at, a.result IS NULL FROM attempts a
WHERE a.merchant_id = sqlc.arg(merchant_id) AND (a.card = sqlc.arg(card) OR a.card IS NULL AND a.customer = sqlc.arg(customer))
    AND a.action = 'invoice_pay' AND a.sent_at > phantom_now() - interval '720 hours' AND a.task_id <> sqlc.arg(task_id)
    AND coalesce(a.result, 'unknown') IN ('unknown', 'processing', 'declined')
    -- What Stripe has charged another card for than was foreseen counts for both: else it would
    -- leave again at once.
    AND NOT EXISTS (SELECT 1 FROM card_attempts c WHERE c.merchant_id = a.merchant_id AND c.charge = a.charge AND (a.card IS NULL OR c.card = a.card))
    -- of before charges were stored: the ledger has it by its time
    AND NOT (a.charge IS NULL AND coalesce(a.result, '') = 'declined' AND EXISTS (
        SELECT 1 FROM card_attempts c WHERE c.merchant_id = a.merchant_id AND c.card = sqlc.arg(card)
            AND c.at BETWEEN a.sent_at - interval '2 minutes' AND a.sent_at + interval '2 minutes'))
ORDER BY at DESC;

-- name: CardAttemptAdd :exec
-- Failed charges, each once, no matter who has seen it first.
INSERT INTO card_attempts (merchant_id, charge, card, at, reached)
SELECT sqlc.arg(merchant_id), charge, card, at, reached FROM (SELECT unnest(sqlc.arg(charges)::bytea[]) AS charge, unnest(sqlc.arg(cards)::bytea[]) AS card,
    unnest(sqlc.arg(ats)::timestamptz[]) AS at, unnest(sqlc.arg(reached)::boolean[]) AS reached) AS seen
ORDER BY charge
ON CONFLICT DO NOTHING;

-- name: AttemptSumSent :one
-- What a merchant's charges within a day have asked for.
SELECT coalesce(sum(a.amount), 0)::bigint AS amount FROM attempts a
WHERE a.merchant_id = sqlc.arg(merchant_id) AND a.currency = sqlc.arg(currency) AND a.action = 'invoice_pay'
    AND a.sent_at > phantom_now() - interval '24 hours' AND a.task_id <> sqlc.arg(task_id) AND coalesce(a.result, '') NOT IN ('not_sent', 'absent');

-- name: AttemptMarkSent :execrows
-- The card is the one that Stripe will charge now. What the look before it has seen of failed
-- charges goes into the ledger, as by CardAttemptAdd.
WITH entered AS (
    INSERT INTO card_attempts (merchant_id, charge, card, at, reached)
    SELECT sqlc.arg(merchant_id), charge, seen_card, at, reached FROM (SELECT unnest(sqlc.arg(charges)::bytea[]) AS charge,
        unnest(sqlc.arg(cards)::bytea[]) AS seen_card, unnest(sqlc.arg(ats)::timestamptz[]) AS at, unnest(sqlc.arg(reached)::boolean[]) AS reached) AS seen
    ORDER BY charge
    ON CONFLICT DO NOTHING
)
UPDATE attempts a SET sent_at = coalesce(a.sent_at, phantom_now()), card = coalesce(sqlc.narg(card)::bytea, a.card)
WHERE a.merchant_id = sqlc.arg(merchant_id) AND a.task_id = sqlc.arg(task_id) AND a.result IS NULL;

-- name: AttemptPutOff :exec
-- A moment that nobody has chosen: something forbade the one that was. Minutes are no other moment.
-- What was looked at is clear: no charge from before is this attempt's.
UPDATE attempts SET code = sqlc.arg(code)::text, clear_until = greatest(clear_until, sqlc.narg(clear_until)::timestamptz),
    planned_for = CASE WHEN planned_for < sqlc.arg(planned_for)::timestamptz - interval '1 hour' THEN sqlc.arg(planned_for)::timestamptz ELSE planned_for END,
    reason = CASE WHEN planned_for < sqlc.arg(planned_for)::timestamptz - interval '1 hour' THEN sqlc.arg(reason)::text ELSE reason END,
    probability = CASE WHEN planned_for < sqlc.arg(planned_for)::timestamptz - interval '1 hour' THEN 1 ELSE probability END
WHERE merchant_id = sqlc.arg(merchant_id) AND task_id = sqlc.arg(task_id) AND result IS NULL AND sent_at IS NULL;

-- name: AttemptSuspect :exec
-- A charge that may have been executed, though a database that was put back does not know it.
UPDATE attempts SET sent_at = coalesce(sent_at, phantom_now())
WHERE merchant_id = sqlc.arg(merchant_id) AND task_id = sqlc.arg(task_id) AND result IS NULL;

-- name: AttemptFound :execrows
-- A charge that has paid was this attempt's, which was taken for unsent: the commits of it were
-- lost.
UPDATE attempts SET result = 'paid', sent_at = coalesce(sent_at, sqlc.arg(executed_at)::timestamptz), charge = sqlc.arg(charge)::bytea, code = NULL
WHERE merchant_id = sqlc.arg(merchant_id) AND task_id = sqlc.arg(task_id) AND result IN ('not_sent', 'absent', 'unknown');

-- name: AttemptFinish :execrows
UPDATE attempts SET result = sqlc.arg(result)::text, decline_class = nullif(sqlc.arg(decline_class)::text, ''), decline_code = nullif(sqlc.arg(decline_code)::text, ''),
    charge = coalesce(sqlc.narg(charge)::bytea, charge), code = nullif(sqlc.arg(code)::text, ''),
    planned_for = coalesce(sqlc.narg(not_before)::timestamptz, planned_for),
    -- of what a database has forgotten that was put back
    sent_at = coalesce(sent_at, sqlc.narg(executed_at)::timestamptz)
WHERE merchant_id = sqlc.arg(merchant_id) AND task_id = sqlc.arg(task_id) AND result IS NULL;

-- name: AttemptCancelUnsent :exec
-- Of a hunt that ends: those whose task was canceled before it was sent.
UPDATE attempts a SET result = 'not_sent'
WHERE a.merchant_id = sqlc.arg(merchant_id) AND a.hunt_id = sqlc.arg(hunt_id) AND a.result IS NULL AND a.sent_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM scheduled_tasks t WHERE t.merchant_id = a.merchant_id AND t.id = a.task_id
        AND t.status IN ('pending', 'running', 'parked', 'needs_review'));

-- name: AttemptCancelGivenUp :many
-- Those whose task a person has canceled, having looked at it. What may have been executed counts
-- as that.
WITH closed AS (
    UPDATE attempts a SET result = CASE WHEN a.sent_at IS NULL THEN 'not_sent' ELSE 'unknown' END
    FROM scheduled_tasks t
    WHERE a.merchant_id = sqlc.arg(merchant_id) AND a.hunt_id = sqlc.arg(hunt_id) AND a.result IS NULL
        AND t.merchant_id = a.merchant_id AND t.id = a.task_id AND t.status = 'canceled'
    RETURNING a.task_id, a.action, coalesce(t.params ->> 'object', '')::text AS object
)
SELECT task_id, action, object FROM closed ORDER BY task_id;

-- name: AttemptUnknown :one
-- Whether another request about an object may be out, whichever hunt it is of.
SELECT EXISTS (SELECT 1 FROM attempts a
    WHERE a.merchant_id = sqlc.arg(merchant_id) AND a.object = sqlc.arg(object) AND a.task_id <> sqlc.arg(task_id)
        AND a.sent_at IS NOT NULL AND a.result IS NULL) AS unknown;

-- name: RecoveryCreate :execrows
-- Each invoice once.
INSERT INTO recoveries (merchant_id, invoice, hunt_id, currency, amount, cause, recovered_at)
VALUES (@merchant_id, @invoice, @hunt_id, @currency, @amount, @cause, @recovered_at)
ON CONFLICT (merchant_id, invoice) DO NOTHING;

-- name: RecoveryListOfHunt :many
SELECT * FROM recoveries WHERE merchant_id = $1 AND hunt_id = $2 ORDER BY recovered_at, invoice;
