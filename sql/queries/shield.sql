-- name: ShieldPolicyNewest :one
SELECT version, body, created_at FROM shield_policies WHERE merchant_id = $1 ORDER BY version DESC LIMIT 1;

-- name: ShieldPolicyCreate :one
-- Under the lock on the merchant's row.
INSERT INTO shield_policies (merchant_id, version, body)
SELECT @merchant_id, coalesce(max(version), 0) + 1, @body FROM shield_policies WHERE merchant_id = @merchant_id
RETURNING version, created_at;

-- name: ShieldPolicyModeSince :one
-- Since when the newest policies have all been of a mode; now if the newest is not.
SELECT coalesce((SELECT min(p.created_at) FROM shield_policies p
    WHERE p.merchant_id = sqlc.arg(merchant_id) AND p.version > coalesce((SELECT max(o.version) FROM shield_policies o
        WHERE o.merchant_id = sqlc.arg(merchant_id) AND o.body ->> 'mode' <> sqlc.arg(mode)::text), 0)), phantom_now())::timestamptz AS since,
    phantom_now()::timestamptz AS now;

-- name: ShieldContext :one
-- What every judgement of a merchant's needs. version is 0 where they have said nothing.
SELECT m.stripe_user_id AS account, coalesce(m.timezone, '')::text AS timezone,
    coalesce(p.version, 0)::integer AS version, coalesce(p.body, '{}')::jsonb AS body, phantom_now()::timestamptz AS now,
    EXISTS (SELECT 1 FROM shield_holds h WHERE h.merchant_id = m.id AND h.closed_at IS NULL)::boolean AS held
FROM merchants m
LEFT JOIN LATERAL (SELECT n.version, n.body FROM shield_policies n WHERE n.merchant_id = m.id ORDER BY n.version DESC LIMIT 1) AS p ON true
WHERE m.id = $1;

-- name: ShieldTell :many
-- What was read of subscriptions, unless somebody has read later. A row comes back to be judged
-- where something is new, or where time may change something. What had ended long before it became
-- known is not kept, and what Stripe has forgotten keeps its customer.
INSERT INTO shield_states AS s (merchant_id, subscription, customer, livemode, facts, ticket, told_at)
SELECT sqlc.arg(merchant_id), new.subscription, new.customer, m.livemode, new.facts, sqlc.arg(ticket), phantom_now()
FROM (SELECT unnest(sqlc.arg(subscriptions)::text[]) AS subscription, unnest(sqlc.arg(customers)::text[]) AS customer,
    unnest(sqlc.arg(facts)::jsonb[]) AS facts ORDER BY 1) AS new
JOIN merchants m ON m.id = sqlc.arg(merchant_id)
WHERE new.customer <> '' AND NOT coalesce((new.facts ->> 'ended_at')::timestamptz < phantom_now() - interval '30 days', false)
    OR EXISTS (SELECT 1 FROM shield_states o WHERE o.merchant_id = sqlc.arg(merchant_id) AND o.subscription = new.subscription AND NOT o.gone)
ON CONFLICT (merchant_id, subscription) DO UPDATE SET
    customer = coalesce(nullif(excluded.customer, ''), s.customer), facts = excluded.facts, ticket = excluded.ticket, told_at = excluded.told_at, gone = false
WHERE s.ticket <= excluded.ticket
    AND ((s.customer, s.facts) IS DISTINCT FROM (excluded.customer, excluded.facts) OR s.next_at IS NOT NULL OR s.gone OR s.held OR s.shown = '')
RETURNING *;

-- name: ShieldAnnounce :one
-- A payment was announced: until it is confirmed, nothing falls. It gives back nothing that an end
-- or a pause has taken.
UPDATE shield_states SET provisional_until = phantom_now() + make_interval(secs => sqlc.arg(seconds))
WHERE merchant_id = sqlc.arg(merchant_id) AND subscription = sqlc.arg(subscription) AND NOT gone AND in_debt AND NOT ended
    AND NOT facts @> '{"service": "suspended"}'
RETURNING *;

-- name: ShieldListDue :many
-- Those that time may change, but not those that somebody else is at.
SELECT * FROM shield_states
WHERE merchant_id = @merchant_id AND next_at <= phantom_now() AND NOT gone
ORDER BY next_at LIMIT @page FOR NO KEY UPDATE SKIP LOCKED;

-- name: ShieldNext :one
-- In how many seconds time may change something; -1: never.
SELECT coalesce(greatest(extract(epoch FROM min(next_at) - phantom_now()), 0), -1)::float8 AS seconds
FROM shield_states WHERE merchant_id = @merchant_id AND next_at IS NOT NULL AND NOT gone;

-- name: ShieldPage :many
-- All of a merchant's, page by page.
SELECT * FROM shield_states WHERE merchant_id = @merchant_id AND subscription > @after AND NOT gone
ORDER BY subscription LIMIT @page FOR NO KEY UPDATE;

-- name: ShieldListOfCustomer :many
SELECT * FROM shield_states WHERE merchant_id = @merchant_id AND customer = @customer AND NOT gone
ORDER BY subscription FOR NO KEY UPDATE;

-- name: ShieldListHeld :many
SELECT * FROM shield_states WHERE merchant_id = @merchant_id AND held AND NOT gone AND subscription > @after
ORDER BY subscription LIMIT @page FOR NO KEY UPDATE;

-- name: ShieldWrite :one
-- What was judged. What apps are told of gets the next revision, in this statement alone: so the
-- counter is locked for as short as can be. The zero time is none.
WITH raised AS (
    INSERT INTO shield_revisions AS r (merchant_id, revision) VALUES (sqlc.arg(merchant_id), CASE WHEN sqlc.arg(raises)::boolean THEN 1 ELSE 0 END)
    ON CONFLICT (merchant_id) DO UPDATE SET
        revision = r.revision + excluded.revision,
        changed_at = CASE WHEN excluded.revision > 0 THEN clock_timestamp() ELSE r.changed_at END
    RETURNING r.revision
), written AS (
    UPDATE shield_states s SET
        level = w.level, reason = w.reason, since = w.since, target = w.target, held = w.held, spared = w.spared, passed = w.passed,
        provisional_until = nullif(w.provisional_until, '0001-01-01 00:00:00Z'), lowered_at = nullif(w.lowered_at, '0001-01-01 00:00:00Z'),
        in_debt = w.in_debt, lowest = w.lowest, held_at = nullif(w.held_at, ''), debt_ended_at = nullif(w.debt_ended_at, '0001-01-01 00:00:00Z'),
        reached = w.reached, ahead = w.ahead, next_at = nullif(w.next_at, '0001-01-01 00:00:00Z'), policy_version = sqlc.arg(policy_version),
        told_at = CASE WHEN w.gone AND NOT s.gone THEN phantom_now() ELSE s.told_at END, gone = w.gone, shown = w.shown, revision = CASE WHEN w.visible THEN raised.revision ELSE s.revision END
    FROM (SELECT unnest(sqlc.arg(subscriptions)::text[]) AS subscription, unnest(sqlc.arg(levels)::text[]) AS level,
        unnest(sqlc.arg(reasons)::text[]) AS reason, unnest(sqlc.arg(sinces)::timestamptz[]) AS since,
        unnest(sqlc.arg(targets)::text[]) AS target, unnest(sqlc.arg(helds)::boolean[]) AS held,
        unnest(sqlc.arg(spareds)::boolean[]) AS spared, unnest(sqlc.arg(passeds)::boolean[]) AS passed, unnest(sqlc.arg(provisionals)::timestamptz[]) AS provisional_until,
        unnest(sqlc.arg(lowereds)::timestamptz[]) AS lowered_at, unnest(sqlc.arg(in_debts)::boolean[]) AS in_debt,
        unnest(sqlc.arg(lowests)::text[]) AS lowest, unnest(sqlc.arg(held_ats)::text[]) AS held_at,
        unnest(sqlc.arg(debt_endeds)::timestamptz[]) AS debt_ended_at, unnest(sqlc.arg(reacheds)::integer[]) AS reached,
        unnest(sqlc.arg(aheads)::jsonb[]) AS ahead, unnest(sqlc.arg(nexts)::timestamptz[]) AS next_at,
        unnest(sqlc.arg(gones)::boolean[]) AS gone, unnest(sqlc.arg(shown)::text[]) AS shown, unnest(sqlc.arg(visibles)::boolean[]) AS visible) AS w, raised
    WHERE s.merchant_id = sqlc.arg(merchant_id) AND s.subscription = w.subscription
    RETURNING 1
), recorded AS (
    INSERT INTO shield_transitions (merchant_id, id, at, subscription, customer, livemode, from_level, to_level, reason, enforced, lowered, monthly,
        currency, policy_version, revision, facts)
    SELECT s.merchant_id, t.id, phantom_now(), s.subscription, s.customer, s.livemode, t.from_level, t.to_level, t.reason,
        sqlc.arg(enforced), t.lowered, s.monthly, s.currency, sqlc.arg(policy_version), raised.revision,
        -- Amounts leave with the ghost, and these rows stay.
        CASE WHEN s.facts ? 'debts' THEN jsonb_set(s.facts, '{debts}', (SELECT jsonb_agg(d - 'amount') FROM jsonb_array_elements(s.facts -> 'debts') d))
            ELSE s.facts END
    FROM (SELECT unnest(sqlc.arg(transition_ids)::uuid[]) AS id, unnest(sqlc.arg(transition_subscriptions)::text[]) AS subscription,
        unnest(sqlc.arg(from_levels)::text[]) AS from_level, unnest(sqlc.arg(to_levels)::text[]) AS to_level,
        unnest(sqlc.arg(transition_reasons)::text[]) AS reason, unnest(sqlc.arg(transition_lowereds)::boolean[]) AS lowered) AS t
    JOIN shield_states s ON s.merchant_id = sqlc.arg(merchant_id) AND s.subscription = t.subscription
    CROSS JOIN raised
    RETURNING 1
)
SELECT raised.revision FROM raised;

-- name: ShieldReload :one
-- Who follows reads everything of the merchant's anew.
INSERT INTO shield_revisions AS r (merchant_id, revision, reload) VALUES (@merchant, 1, 1)
ON CONFLICT (merchant_id) DO UPDATE SET revision = r.revision + 1, reload = r.revision + 1, changed_at = clock_timestamp()
RETURNING r.revision;

-- name: ShieldRevisionGet :one
SELECT coalesce((SELECT r.revision FROM shield_revisions r WHERE r.merchant_id = $1), 0)::bigint AS revision;

-- name: ShieldBeginEnforcing :exec
-- What a dry run has led to is not what people meet on the first day: their debts lower them step
-- by step. An end, a pause and a person's word stay.
UPDATE shield_states SET level = 'full', reason = '', since = phantom_now(), target = 'full', lowered_at = NULL, lowest = 'full', held_at = NULL,
    held = false, spared = false, passed = false, ahead = '[]', next_at = phantom_now()
WHERE merchant_id = $1 AND level <> 'full' AND reason NOT IN ('ended', 'incomplete', 'paused', 'override');

-- name: ShieldDropAll :exec
-- Of the mode (live or test) in which the merchant does not work any more.
DELETE FROM shield_states WHERE merchant_id = $1;

-- name: ShieldLockCounts :one
-- Who lowers somebody counts alone.
INSERT INTO shield_revisions AS r (merchant_id) VALUES (@merchant)
ON CONFLICT (merchant_id) DO UPDATE SET revision = r.revision
RETURNING r.customers, r.revenue, (r.counted_at < clock_timestamp() - interval '1 hour')::boolean AS outdated;

-- name: ShieldCountAll :many
-- What a merchant's customers are, by the currency of what they bring in.
SELECT currency, count(DISTINCT customer) AS customers, sum(monthly)::bigint AS monthly FROM shield_states
WHERE merchant_id = $1 AND NOT gone AND NOT ended AND NOT facts @> '{"service": "incomplete"}'
GROUP BY currency ORDER BY currency;

-- name: ShieldSetCounts :exec
UPDATE shield_revisions SET customers = @customers, revenue = @revenue, counted_at = clock_timestamp() WHERE merchant_id = @merchant_id;

-- name: ShieldCountLowered :many
-- Which subscriptions the breaker has let through within 24 hours, since the last hold was
-- released, and what they bring in.
SELECT t.subscription, t.customer, t.currency, max(t.monthly)::bigint AS monthly FROM shield_transitions t
WHERE t.merchant_id = sqlc.arg(merchant_id) AND t.lowered AND t.enforced AND t.at > greatest(phantom_now() - interval '24 hours',
    coalesce((SELECT max(h.closed_at) FROM shield_holds h WHERE h.merchant_id = sqlc.arg(merchant_id) AND h.outcome = 'released'), 'epoch'))
GROUP BY t.subscription, t.customer, t.currency ORDER BY t.subscription, t.customer, t.currency;

-- name: ShieldHoldOpen :one
-- Opens the breaker, unless it is open.
INSERT INTO shield_holds AS h (merchant_id, id, customers, "of", revenue) VALUES (@merchant_id, @id, @customers, @of_customers, @revenue)
ON CONFLICT (merchant_id) WHERE closed_at IS NULL DO UPDATE SET customers = h.customers
RETURNING h.id;

-- name: ShieldHoldClose :execrows
UPDATE shield_holds SET closed_at = phantom_now(), outcome = @outcome WHERE merchant_id = @merchant_id AND id = @id AND closed_at IS NULL;

-- name: ShieldHoldList :many
SELECT h.id, h.opened_at, h.closed_at, h.outcome, h.customers, h."of" AS of_customers, h.revenue,
    CASE WHEN h.closed_at IS NULL THEN (SELECT count(*) FROM shield_states s WHERE s.merchant_id = h.merchant_id AND s.held) ELSE 0 END::bigint AS subscriptions
FROM shield_holds h
WHERE h.merchant_id = @merchant_id AND h.id < @before_id ORDER BY h.id DESC LIMIT @page;

-- name: ShieldDecisionCreate :exec
INSERT INTO shield_decisions (merchant_id, id, kind, customer, subscription, level, until)
VALUES (@merchant_id, @id, @kind, @customer, sqlc.narg(subscription), sqlc.narg(level), sqlc.narg(until));

-- name: ShieldDecisionEnd :one
UPDATE shield_decisions SET ended_at = phantom_now()
WHERE merchant_id = @merchant_id AND id = @id AND kind = @kind AND ended_at IS NULL
RETURNING customer;

-- name: ShieldDecisionList :many
-- Those that hold, the newest first.
SELECT id, customer, subscription, level, until, created_at FROM shield_decisions
WHERE merchant_id = @merchant_id AND kind = @kind AND id < @before_id AND ended_at IS NULL AND coalesce(until > phantom_now(), true)
ORDER BY id DESC LIMIT @page;

-- name: ShieldDecisionCountYear :one
-- A customer's promises within a year, those that were taken back too.
SELECT count(*) AS promises FROM shield_decisions
WHERE merchant_id = @merchant_id AND customer = @customer AND kind = 'promise' AND created_at > phantom_now() - interval '365 days';

-- name: ShieldDecisionsOf :many
-- What holds of these customers.
SELECT kind, customer, coalesce(subscription, '')::text AS subscription, coalesce(level, '')::text AS level,
    coalesce(until, '0001-01-01 00:00:00Z')::timestamptz AS until
FROM shield_decisions
WHERE merchant_id = @merchant_id AND customer = ANY (@customers::text[]) AND ended_at IS NULL AND coalesce(until > phantom_now(), true)
ORDER BY id;

-- name: ShieldCustomerOf :one
SELECT customer FROM shield_states WHERE merchant_id = @merchant_id AND subscription = @subscription AND NOT gone;

-- name: ShieldTransitionList :many
SELECT id, at, subscription, customer, from_level, to_level, reason, enforced, policy_version, revision, facts FROM shield_transitions
WHERE merchant_id = sqlc.arg(merchant_id) AND id < sqlc.arg(before_id) AND (customer = sqlc.narg(customer) OR sqlc.narg(customer)::text IS NULL)
ORDER BY id DESC LIMIT sqlc.arg(page);

-- name: ShieldHeldOut :many
-- Which of these subscriptions are left alone to compare with.
SELECT DISTINCT g.stripe_subscription_id AS subscription FROM ghost_targets g
JOIN hunts h ON h.merchant_id = g.merchant_id AND h.ghost_id = g.id
WHERE g.merchant_id = @merchant_id AND g.stripe_subscription_id = ANY (@subscriptions::text[]) AND h.state = 'active' AND h.held_out
ORDER BY 1;

-- name: ShieldPurgeAmounts :execrows
-- What the debts came to leaves with the ghosts. A debt whose amount is forgotten stays a debt.
UPDATE shield_states s SET facts = jsonb_set(s.facts, '{debts}', (
    SELECT jsonb_agg((d - 'amount') || '{"forgotten": true}') FROM jsonb_array_elements(s.facts -> 'debts') d))
WHERE s.merchant_id = @merchant_id AND s.subscription = ANY (@subscriptions::text[]) AND s.facts -> 'debts' IS NOT NULL;

-- name: ShieldListOver :many
-- Subscriptions that have ended 30 days ago.
SELECT * FROM shield_states
WHERE merchant_id = @merchant_id AND ended AND NOT gone AND (facts ->> 'ended_at')::timestamptz < phantom_now() - interval '30 days'
ORDER BY subscription LIMIT @page FOR NO KEY UPDATE SKIP LOCKED;

-- name: ShieldForget :execrows
-- Rows of which everybody who follows has heard that they are gone, and what is over.
WITH gone AS (
    DELETE FROM shield_states s WHERE s.merchant_id = sqlc.arg(merchant_id) AND s.gone AND s.told_at < phantom_now() - interval '2 days'
), over AS (
    DELETE FROM shield_decisions d WHERE d.merchant_id = sqlc.arg(merchant_id)
        AND coalesce(d.ended_at, d.until) < phantom_now() - interval '400 days'
)
DELETE FROM shield_transitions t WHERE t.merchant_id = sqlc.arg(merchant_id) AND t.id IN (
    SELECT o.id FROM shield_transitions o WHERE o.merchant_id = sqlc.arg(merchant_id) AND o.at <= audit_log_cutoff() ORDER BY o.id LIMIT 5000);

-- name: AttemptListGivenUp :many
-- Which of these invoices PHANTOM itself has marked as uncollectible.
SELECT object FROM attempts
WHERE merchant_id = @merchant_id AND object = ANY (@invoices::bytea[]) AND action = 'invoice_mark_uncollectible' AND result = 'done'
ORDER BY object;

-- name: ShieldHeld :one
SELECT EXISTS (SELECT 1 FROM shield_holds h WHERE h.merchant_id = $1 AND h.closed_at IS NULL)::boolean AS held;

-- name: ShieldSweepAt :one
-- When the merchant's levels are looked at next; the zero time where nobody will.
SELECT coalesce((SELECT t.run_at FROM scheduled_tasks t
    WHERE t.merchant_id = $1 AND t.kind = 'shield_sweep' AND t.unique_key = 'sweep' AND t.status = 'pending'), '0001-01-01 00:00:00Z')::timestamptz AS run_at;

-- name: ShieldPreviewPage :many
-- All subscriptions of the customers whom a policy may concern, page by page.
SELECT s.* FROM shield_states s
WHERE s.merchant_id = sqlc.arg(merchant_id) AND NOT s.gone
    AND (s.customer, s.subscription) > (sqlc.arg(after_customer)::text, sqlc.arg(after_subscription)::text)
    AND EXISTS (SELECT 1 FROM shield_states d WHERE d.merchant_id = s.merchant_id AND d.customer = s.customer AND NOT d.gone
        AND (d.facts ? 'debts' OR d.facts ? 'service'))
ORDER BY s.customer, s.subscription LIMIT sqlc.arg(page);

-- name: ShieldHistory :many
-- The debts that there were, page by page, with when they began and how they ended.
SELECT id, stripe_subscription_id, kind, currency, amount, first_failed_at, discovered_at, closed_at, closed_reason, products, prices
FROM ghost_targets WHERE merchant_id = @merchant_id AND id > @after AND kind <> 'charged_back' ORDER BY id LIMIT @page;

-- name: ShieldTouch :one
-- Something is new of a merchant that no row says: a key, a connection.
INSERT INTO shield_revisions AS r (merchant_id, revision) VALUES (@merchant, 1)
ON CONFLICT (merchant_id) DO UPDATE SET revision = r.revision + 1, changed_at = clock_timestamp()
RETURNING r.revision;

-- name: ShieldListSince :many
-- What has changed behind a revision, those that are gone too.
SELECT * FROM shield_states WHERE merchant_id = @merchant_id AND revision > @after ORDER BY revision, subscription LIMIT @page;

-- name: ShieldListRecent :many
-- Who has changed within 15 seconds: what a notification that was lost had to say.
SELECT merchant_id, revision, reload FROM shield_revisions WHERE changed_at > now() - interval '15 seconds' ORDER BY merchant_id;

-- name: ShieldListRevisions :many
SELECT merchant_id, revision, reload FROM shield_revisions ORDER BY merchant_id;

-- name: ShieldListTenants :many
-- What those who follow know of a merchant beside the rows; with the zero id, of all.
SELECT m.id, m.stripe_user_id AS account, m.livemode, (m.disconnected_at IS NOT NULL)::boolean AS disconnected,
    coalesce(p.version, 0)::integer AS version, coalesce(p.body, '{}')::jsonb AS body, coalesce(r.revision, 0)::bigint AS revision,
    coalesce(r.reload, 0)::bigint AS reload
FROM merchants m
LEFT JOIN shield_revisions r ON r.merchant_id = m.id
LEFT JOIN LATERAL (SELECT n.version, n.body FROM shield_policies n WHERE n.merchant_id = m.id ORDER BY n.version DESC LIMIT 1) AS p ON true
WHERE m.id = sqlc.arg(id)::uuid OR sqlc.arg(id)::uuid = '00000000-0000-0000-0000-000000000000'
ORDER BY m.id;

-- name: ShieldListKeys :many
-- The keys that open a merchant's verdicts; with the zero id, of all.
SELECT k.merchant_id, k.id, k.key_hash, coalesce(k.expires_at, '0001-01-01 00:00:00Z')::timestamptz AS expires_at FROM api_keys k
WHERE k.revoked_at IS NULL AND (k.merchant_id = sqlc.arg(merchant_id)::uuid OR sqlc.arg(merchant_id)::uuid = '00000000-0000-0000-0000-000000000000')
ORDER BY k.merchant_id, k.id;

-- name: ShieldKeyList :many
-- The one that signs first, then the next one, then those that did.
SELECT id, secret, public, state, created_at, retired_at FROM shield_keys
WHERE coalesce(retired_at > clock_timestamp() - interval '31 days', true)
ORDER BY CASE state WHEN 'current' THEN 0 WHEN 'next' THEN 1 ELSE 2 END, created_at DESC;

-- name: ShieldKeyLock :exec
LOCK TABLE shield_keys IN SHARE ROW EXCLUSIVE MODE;

-- name: ShieldKeyCreate :exec
-- Of two processes that make the first ones, one does.
INSERT INTO shield_keys (id, secret, public, state) VALUES (@id, @secret, @public, @state) ON CONFLICT (state) WHERE state <> 'retired' DO NOTHING;

-- name: ShieldKeyRetire :exec
UPDATE shield_keys SET state = 'retired', retired_at = clock_timestamp() WHERE state = 'current';

-- name: ShieldKeyPromote :exec
UPDATE shield_keys SET state = 'current' WHERE state = 'next';

-- name: ShieldKeyForget :exec
DELETE FROM shield_keys WHERE retired_at < clock_timestamp() - interval '31 days';

-- name: ShieldCountLevels :many
SELECT level, count(*) AS subscriptions, count(*) FILTER (WHERE held) AS held FROM shield_states
WHERE merchant_id = $1 AND NOT gone GROUP BY level ORDER BY level;

-- name: ShieldNoteStale :one
-- A server could not follow levels for so many seconds until now. There is no row where another one
-- has said so of a time that overlaps, and where nobody has a level.
UPDATE shield_revisions SET stale_until = clock_timestamp()
WHERE merchant_id = @merchant_id AND coalesce(stale_until, 'epoch') < clock_timestamp() - make_interval(secs => sqlc.arg(seconds))
RETURNING clock_timestamp()::timestamptz AS now;
