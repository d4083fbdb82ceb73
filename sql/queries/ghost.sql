-- name: GhostTicket :one
-- Taken before Stripe is read.
SELECT nextval('ghost_tickets')::bigint AS ticket;

-- name: GhostLockMerchant :one
-- An audit's writes and those of refreshes exclude each other, and both a handshake in the other
-- mode.
SELECT livemode FROM merchants WHERE id = $1 FOR NO KEY UPDATE;

-- name: GhostShareMerchant :one
-- Refreshes go on beside each other.
SELECT livemode FROM merchants WHERE id = $1 FOR SHARE;

-- name: GhostModeChanged :one
-- Whether a merchant works in the other mode now than their newest audit did: each handshake begins
-- an audit, or finds one of its mode.
SELECT coalesce((
    SELECT a.livemode <> m.livemode FROM audits a JOIN merchants m ON m.id = a.merchant_id
    WHERE a.merchant_id = $1 ORDER BY a.ticket DESC LIMIT 1), false)::boolean AS changed;

-- name: GhostDropAll :exec
-- What was found in the other mode (live or test) and who was read when. What a customer, an
-- invoice or a card has had stays, in attempt_budgets.
WITH refreshes AS (DELETE FROM ghost_refreshes r WHERE r.merchant_id = $1)
DELETE FROM ghost_targets g WHERE g.merchant_id = $1;

-- name: GhostNewestAudit :one
-- The ticket of the newest audit, and whether one has counted the attempts on every card within the
-- 30 days of a card network's limit.
SELECT coalesce(max(ticket), 0)::bigint AS ticket,
    coalesce(max(created_at) FILTER (WHERE state = 'succeeded' AND since IS NULL) > phantom_now() - interval '30 days', false)::boolean AS counted
FROM audits WHERE merchant_id = $1;

-- name: GhostListFresher :many
-- Which of these subscriptions were read later than a ticket.
SELECT subscription FROM ghost_refreshes
WHERE merchant_id = @merchant_id AND subscription = ANY (@subscriptions::bytea[]) AND ticket > @ticket ORDER BY subscription;

-- name: GhostClaimRefresh :execrows
-- Changes nothing if somebody with a later ticket has written.
INSERT INTO ghost_refreshes AS r (merchant_id, subscription, ticket) VALUES (@merchant_id, @subscription, @ticket)
ON CONFLICT (merchant_id, subscription) DO UPDATE SET ticket = excluded.ticket, refreshed_at = clock_timestamp()
WHERE r.ticket < excluded.ticket;

-- name: GhostSecondsSinceRefresh :one
-- For how long a subscription has not been read by a refresh, in seconds; an hour at most.
SELECT coalesce((SELECT least(extract(epoch FROM clock_timestamp() - r.refreshed_at), 3600) FROM ghost_refreshes r
    WHERE r.merchant_id = @merchant_id AND r.subscription = @subscription), 3600)::float8 AS seconds;

-- name: GhostListOfSubscription :many
SELECT * FROM ghost_targets WHERE merchant_id = $1 AND stripe_subscription_id = $2 ORDER BY currency, id;

-- name: GhostListOfSubscriptions :many
SELECT * FROM ghost_targets
WHERE merchant_id = @merchant_id AND stripe_subscription_id = ANY (@subscriptions::text[]) ORDER BY stripe_subscription_id, currency, id;

-- name: GhostListOfCustomer :many
-- Those of a customer for which another payment method may matter: open, or closed because a
-- payment is under way.
SELECT id, stripe_subscription_id FROM ghost_targets
WHERE merchant_id = $1 AND stripe_customer_id = $2 AND (status = 'open' OR closed_reason = 'payment_under_way')
ORDER BY stripe_subscription_id, id;

-- name: GhostListUnseen :many
-- Subscriptions of open ghosts of which an audit has read no invoice. There are few: an audit reads
-- them all. By EXCEPT, for the ghosts may be new to the planner: of few ghosts it would search all
-- invoices for each.
SELECT (g.stripe_subscription_id COLLATE "C")::text AS subscription FROM ghost_targets g
WHERE g.merchant_id = sqlc.arg(merchant_id) AND g.status = 'open'
EXCEPT
SELECT i.subscription FROM audit_invoices i WHERE i.merchant_id = sqlc.arg(merchant_id) AND i.audit_id = sqlc.arg(audit_id)
ORDER BY subscription;

-- name: GhostSetKind :exec
-- Ghosts whose debt has become one of another kind. Where another row is of that kind, this one
-- closes instead.
UPDATE ghost_targets g SET kind = new.kind, updated_at = clock_timestamp()
FROM (SELECT unnest(sqlc.arg(ids)::uuid[]) AS id, unnest(sqlc.arg(kinds)::text[]) AS kind) AS new
WHERE g.merchant_id = sqlc.arg(merchant_id) AND g.id = new.id AND g.kind <> new.kind AND NOT EXISTS (
    SELECT 1 FROM ghost_targets o
    WHERE o.merchant_id = g.merchant_id AND o.stripe_customer_id = g.stripe_customer_id
        AND o.stripe_subscription_id = g.stripe_subscription_id AND o.currency = g.currency AND o.kind = new.kind);

-- name: GhostUpsert :execrows
-- Many findings in one statement. What has not changed is not written, and what the merchant's app
-- said has no access stays closed. The e-mail is sealed for the id that stands beside it: where
-- another process was first, its row keeps its own.
INSERT INTO ghost_targets AS g (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, email, amount, currency,
    invoices, rule, hidden, decline_class, decline_code, attempt_count, card, card_attempts, first_failed_at, last_failed_at,
    zone, kind, products, prices, country, leaving, resubscribed, ignored)
SELECT sqlc.arg(merchant_id), id, customer, subscription, invoice, CASE WHEN has_email THEN email END, amount, currency,
    owed, rule, hidden, class, nullif(code, ''), attempts, CASE WHEN card <> '' THEN card END, card_attempts, first_failed, last_failed,
    nullif(zone, ''), kind, string_to_array(products, ' '), string_to_array(prices, ' '), nullif(country, ''), leaving, resubscribed,
    ignored
FROM (SELECT unnest(sqlc.arg(ids)::uuid[]) AS id, unnest(sqlc.arg(customers)::text[]) AS customer,
    unnest(sqlc.arg(subscriptions)::text[]) AS subscription, unnest(sqlc.arg(invoices)::text[]) AS invoice,
    unnest(sqlc.arg(emails)::sealed_token[]) AS email, unnest(sqlc.arg(has_emails)::boolean[]) AS has_email,
    unnest(sqlc.arg(amounts)::bigint[]) AS amount, unnest(sqlc.arg(currencies)::text[]) AS currency,
    unnest(sqlc.arg(owed)::jsonb[]) AS owed, unnest(sqlc.arg(rules)::text[]) AS rule, unnest(sqlc.arg(hiddens)::boolean[]) AS hidden,
    unnest(sqlc.arg(classes)::text[]) AS class, unnest(sqlc.arg(codes)::text[]) AS code,
    unnest(sqlc.arg(attempts)::integer[]) AS attempts, unnest(sqlc.arg(cards)::bytea[]) AS card,
    unnest(sqlc.arg(card_attempts)::integer[]) AS card_attempts, unnest(sqlc.arg(first_failed)::timestamptz[]) AS first_failed,
    unnest(sqlc.arg(last_failed)::timestamptz[]) AS last_failed, unnest(sqlc.arg(zones)::text[]) AS zone,
    unnest(sqlc.arg(kinds)::text[]) AS kind, unnest(sqlc.arg(products)::text[]) AS products,
    unnest(sqlc.arg(prices)::text[]) AS prices, unnest(sqlc.arg(countries)::text[]) AS country,
    unnest(sqlc.arg(leavings)::boolean[]) AS leaving, unnest(sqlc.arg(resubscribeds)::boolean[]) AS resubscribed,
    unnest(sqlc.arg(ignoreds)::boolean[]) AS ignored) AS found
ON CONFLICT ON CONSTRAINT ghost_targets_one_per_subscription_currency_and_kind DO UPDATE SET
    stripe_invoice_id = excluded.stripe_invoice_id, invoices = excluded.invoices, amount = excluded.amount, rule = excluded.rule, hidden = excluded.hidden,
    email = CASE WHEN excluded.id = g.id THEN excluded.email ELSE g.email END,
    decline_class = excluded.decline_class, decline_code = excluded.decline_code, attempt_count = excluded.attempt_count,
    card = excluded.card, card_attempts = excluded.card_attempts,
    first_failed_at = excluded.first_failed_at, last_failed_at = excluded.last_failed_at, zone = excluded.zone,
    products = excluded.products, prices = excluded.prices, country = excluded.country, leaving = excluded.leaving,
    resubscribed = excluded.resubscribed, ignored = excluded.ignored,
    status = 'open', closed_reason = NULL, closed_at = NULL, updated_at = clock_timestamp()
WHERE g.closed_reason IS DISTINCT FROM 'no_access'
    AND (sqlc.arg(anyway)::boolean OR (g.stripe_invoice_id, g.amount, g.rule, g.hidden, g.decline_class, g.decline_code, g.attempt_count,
        g.card, g.card_attempts, g.first_failed_at, g.last_failed_at, g.zone, g.leaving, g.resubscribed, g.ignored, g.status)
        IS DISTINCT FROM (excluded.stripe_invoice_id, excluded.amount, excluded.rule, excluded.hidden, excluded.decline_class,
        excluded.decline_code, excluded.attempt_count, excluded.card, excluded.card_attempts, excluded.first_failed_at,
        excluded.last_failed_at, excluded.zone, excluded.leaving, excluded.resubscribed, excluded.ignored, 'open'));

-- name: GhostClose :execrows
UPDATE ghost_targets g SET status = 'closed', closed_reason = ended.reason, closed_at = clock_timestamp(), updated_at = clock_timestamp()
FROM (SELECT unnest(sqlc.arg(ids)::uuid[]) AS id, unnest(sqlc.arg(reasons)::text[]) AS reason) AS ended
WHERE g.merchant_id = sqlc.arg(merchant_id) AND g.id = ended.id AND (g.status = 'open' OR g.closed_reason = 'payment_under_way');

-- name: GhostTotals :many
-- What a merchant's open ghosts owe, of each kind.
SELECT kind, currency, sum(amount)::bigint AS owed, count(*) AS ghosts, count(*) FILTER (WHERE hidden) AS hidden,
    coalesce(sum(floor(extract(epoch FROM phantom_now() - first_failed_at) / 86400)), 0)::bigint AS days_given_away
FROM ghost_targets WHERE merchant_id = $1 AND status = 'open'
GROUP BY kind, currency ORDER BY kind, currency;

-- name: GhostSeen :exec
-- The merchant's app has let these customers in: their access is proven. What it has said itself
-- stays.
UPDATE ghost_targets SET access = 'proven', updated_at = clock_timestamp()
WHERE merchant_id = @merchant_id AND stripe_customer_id = ANY (@customers::text[]) AND status = 'open' AND access = 'presumed';
