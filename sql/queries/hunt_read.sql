-- What the dry run reads of hunts, and phantom stop of halts.

-- name: HuntReadSent :many
-- What a merchant's charges have asked for within a day, the oldest first.
SELECT a.currency, a.amount, a.sent_at::timestamptz AS sent_at FROM attempts a
WHERE a.merchant_id = sqlc.arg(merchant_id) AND a.action = 'invoice_pay' AND a.sent_at > phantom_now() - interval '24 hours'
    AND coalesce(a.result, '') NOT IN ('not_sent', 'absent')
ORDER BY a.sent_at, a.task_id;

-- name: CardAttemptCount :many
-- As CardAttemptList counts them: the attempts on each card of a merchant within 30 days, and when
-- the last one was.
SELECT tried.card, count(*) AS attempts, max(tried.at)::timestamptz AS last FROM (
    SELECT c.card, c.at FROM card_attempts c
    WHERE c.merchant_id = sqlc.arg(merchant_id) AND c.reached AND c.at > phantom_now() - interval '720 hours'
    UNION ALL
    SELECT a.card, a.sent_at FROM attempts a
    WHERE a.merchant_id = sqlc.arg(merchant_id) AND a.card IS NOT NULL AND a.action = 'invoice_pay'
        AND a.sent_at > phantom_now() - interval '720 hours' AND coalesce(a.result, 'unknown') IN ('unknown', 'processing', 'declined')
        AND NOT EXISTS (SELECT 1 FROM card_attempts c WHERE c.merchant_id = a.merchant_id AND c.charge = a.charge AND c.card = a.card)) AS tried
GROUP BY tried.card ORDER BY tried.card;

-- name: MessageReadSent :many
-- The messages of a merchant within the longest cap, the oldest first.
SELECT persons, channel, sent_at::timestamptz AS sent_at FROM messages
WHERE merchant_id = $1 AND sent_at > phantom_now() - interval '30 days'
ORDER BY sent_at, id;

-- name: MessageReadNumbers :many
-- What the newest SMS that was thought of says of each customer's number: its keyed hash, or empty
-- for none.
SELECT DISTINCT ON (h.customer) h.customer, coalesce(m.person, '')::bytea AS person
FROM messages m JOIN hunts h ON h.merchant_id = m.merchant_id AND h.id = m.hunt_id
WHERE m.merchant_id = sqlc.arg(merchant_id) AND m.channel = 'sms' AND (octet_length(m.person) = 32 OR m.code = ANY (sqlc.arg(unreachable)::text[])
    OR m.code IS NULL AND m.why = ANY (sqlc.arg(sentences)::text[])) -- of a server of before codes
ORDER BY h.customer, m.id DESC;

-- name: SuppressionReadAll :many
SELECT channel, person FROM suppressions WHERE merchant_id = $1 ORDER BY channel, person;

-- name: HaltReadAccounts :many
-- What is halted, and by whom: '' is everybody, and comes first.
SELECT coalesce(m.stripe_user_id, '')::text AS account, x.by, x.halted_at FROM halts x LEFT JOIN merchants m ON m.id = x.scope
ORDER BY account, x.by DESC;
