-- The report's figures. They are read in one snapshot, so that they fit together.

-- name: ReportMerchant :one
SELECT id, livemode, disconnected_at, phantom_now()::timestamptz AS generated_at FROM merchants WHERE stripe_user_id = @account;

-- name: ReportNewestAudit :one
-- Finished or not.
SELECT a.id, a.state, a.error, a.created_at
FROM audits a JOIN merchants m ON m.id = a.merchant_id AND m.livemode = a.livemode
WHERE a.merchant_id = @merchant_id
ORDER BY a.created_at DESC, a.id DESC
LIMIT 1;

-- name: ReportAudit :one
-- The newest that came to a result; a failed one may have, of a part of the history.
SELECT a.id, a.state, a.since, a.objects, a.totals, a.error, coalesce(a.finished_at, a.created_at)::timestamptz AS finished_at
FROM audits a JOIN merchants m ON m.id = a.merchant_id AND m.livemode = a.livemode
WHERE a.merchant_id = @merchant_id AND a.state <> 'running' AND a.totals ->> 'currencies' IS NOT NULL
ORDER BY a.created_at DESC, a.id DESC
LIMIT 1;

-- name: ReportCells :many
-- Open ghosts in groups, which are few. bucket is a place in report.ages. days are whole ones since
-- the first failed payment.
SELECT currency, hidden, decline_class,
    (CASE WHEN age < 8 THEN 0 WHEN age < 31 THEN 1 WHEN age < 91 THEN 2 WHEN age < 366 THEN 3 ELSE 4 END)::integer AS bucket,
    count(*) AS ghosts, count(*) FILTER (WHERE access = 'proven') AS proven, sum(amount)::bigint AS owed,
    coalesce(sum(greatest(age, 0)) FILTER (WHERE first_failed_at IS NOT NULL), 0)::bigint AS days
FROM (
    SELECT currency, hidden, decline_class, access, amount, first_failed_at,
        floor(extract(epoch FROM phantom_now() - coalesce(first_failed_at, discovered_at)) / 86400)::integer AS age
    FROM ghost_targets
    WHERE merchant_id = @merchant_id AND status = 'open' AND kind = 'owed') AS open_ghosts
GROUP BY currency, hidden, decline_class, bucket
ORDER BY currency, hidden, decline_class, bucket;

-- name: ReportCustomers :many
-- A customer may have several ghosts. The row without a currency counts everybody once.
SELECT coalesce(currency, '')::text AS currency, count(DISTINCT stripe_customer_id) AS customers,
    count(DISTINCT stripe_customer_id) FILTER (WHERE hidden) AS hidden
FROM ghost_targets
WHERE merchant_id = @merchant_id AND status = 'open' AND kind = 'owed'
GROUP BY GROUPING SETS ((currency), ())
ORDER BY 1;

-- name: ReportApart :many
-- Debts of the other kinds, which are in no other figure, and those of customers who have
-- subscribed anew.
SELECT kind, currency, count(*) AS ghosts, sum(amount)::bigint AS owed, count(DISTINCT stripe_customer_id) AS customers,
    count(*) FILTER (WHERE resubscribed) AS resubscribed,
    coalesce(sum(amount) FILTER (WHERE resubscribed), 0)::bigint AS resubscribed_owed
FROM ghost_targets
WHERE merchant_id = @merchant_id AND status = 'open'
GROUP BY kind, currency
ORDER BY kind DESC, ghosts DESC, currency;

-- name: ReportClosed :many
SELECT coalesce(closed_reason, '')::text AS reason, count(*) AS ghosts
FROM ghost_targets
WHERE merchant_id = @merchant_id AND status = 'closed'
GROUP BY closed_reason
ORDER BY ghosts DESC, reason;

-- name: ReportLargest :many
-- Amounts of two currencies do not compare: the places are dealt out to the largest of each in
-- turn.
SELECT id, stripe_customer_id, stripe_subscription_id, email, amount, currency, access, rule, hidden, decline_class, decline_code,
    attempt_count, first_failed_at
FROM (
    SELECT *, row_number() OVER (PARTITION BY currency ORDER BY amount DESC, id) AS place
    FROM ghost_targets
    WHERE merchant_id = @merchant_id AND status = 'open' AND kind = 'owed') AS placed
ORDER BY place, currency
LIMIT @places;

-- name: ReportAccess :one
-- What the newest policy does to access, now and in the last 30 days. mode is 'off' without one.
SELECT coalesce((SELECT p.body ->> 'mode' FROM shield_policies p WHERE p.merchant_id = m.id ORDER BY p.version DESC LIMIT 1), 'off')::text AS mode,
    (SELECT count(*) FROM shield_states s WHERE s.merchant_id = m.id AND s.livemode = m.livemode AND NOT s.gone) AS subscriptions,
    (SELECT count(*) FROM shield_states s WHERE s.merchant_id = m.id AND s.livemode = m.livemode AND NOT s.gone AND s.level = 'limited') AS limited,
    (SELECT count(*) FROM shield_states s WHERE s.merchant_id = m.id AND s.livemode = m.livemode AND NOT s.gone AND s.level = 'blocked') AS blocked,
    (SELECT count(*) FROM shield_states s WHERE s.merchant_id = m.id AND s.livemode = m.livemode AND NOT s.gone
        AND s.target IN ('limited', 'blocked')) AS would,
    (SELECT count(DISTINCT t.subscription) FROM shield_transitions t WHERE t.merchant_id = m.id AND t.livemode = m.livemode AND t.enforced AND t.lowered
        AND t.at > phantom_now() - interval '30 days') AS lowered,
    (SELECT count(DISTINCT t.subscription) FROM shield_transitions t WHERE t.merchant_id = m.id AND t.livemode = m.livemode AND t.enforced AND t.lowered
        AND t.at > phantom_now() - interval '30 days' AND EXISTS (
            SELECT FROM shield_transitions up
            WHERE up.merchant_id = t.merchant_id AND up.customer = t.customer AND up.id > t.id AND up.subscription = t.subscription
                AND up.to_level = 'full' AND up.reason = 'paid')) AS back
FROM merchants m WHERE m.id = @merchant_id;
