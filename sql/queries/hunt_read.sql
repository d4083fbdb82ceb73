-- What the dry run reads of hunts, and phantom stop of halts.

-- name: HuntReadSent :many
-- The charges of a merchant within the 30 days that card networks count, the oldest first.
SELECT a.customer, a.currency, a.amount, a.sent_at::timestamptz AS sent_at FROM attempts a
WHERE a.merchant_id = sqlc.arg(merchant_id) AND a.action = 'invoice_pay' AND a.sent_at > phantom_now() - interval '720 hours'
    AND coalesce(a.result, '') NOT IN ('not_sent', 'absent')
ORDER BY a.sent_at, a.task_id;

-- name: HaltReadAccounts :many
-- What is halted: '' is everybody, and comes first.
SELECT coalesce(m.stripe_user_id, '')::text AS account, x.halted_at FROM halts x LEFT JOIN merchants m ON m.id = x.scope
ORDER BY account;
