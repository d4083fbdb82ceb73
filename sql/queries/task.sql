-- name: TaskEnqueue :execrows
-- In the caller's transaction. A unique key that a live task holds already adds nothing.
INSERT INTO scheduled_tasks (merchant_id, id, kind, params, sealed_params, run_at, unique_key)
VALUES (@merchant_id, @id, @kind, @params, sqlc.narg(sealed_params)::sealed_token, coalesce(sqlc.narg(run_at), phantom_now()), sqlc.narg(unique_key))
ON CONFLICT (merchant_id, kind, unique_key)
    WHERE unique_key IS NOT NULL AND status IN ('pending', 'running', 'parked', 'needs_review')
    DO NOTHING;

-- name: TaskEnqueueMany :execrows
-- Many tasks of one kind, without a key, in one statement.
INSERT INTO scheduled_tasks (merchant_id, id, kind, params, run_at)
SELECT merchant_id, id, @kind, params, run_at
FROM (SELECT unnest(@merchant_ids::uuid[]) AS merchant_id, unnest(@ids::uuid[]) AS id, unnest(@params::jsonb[]) AS params,
    unnest(@run_ats::timestamptz[]) AS run_at) AS new;

-- name: TaskEnqueueKeyed :execrows
-- Many tasks of one merchant and kind in one statement, but those whose key a live task holds.
INSERT INTO scheduled_tasks (merchant_id, id, kind, params, run_at, unique_key)
SELECT sqlc.arg(merchant_id), id, sqlc.arg(kind), params, run_at, unique_key
FROM (SELECT unnest(sqlc.arg(ids)::uuid[]) AS id, unnest(sqlc.arg(params)::jsonb[]) AS params,
    unnest(sqlc.arg(run_ats)::timestamptz[]) AS run_at, unnest(sqlc.arg(unique_keys)::text[]) AS unique_key) AS new
ON CONFLICT (merchant_id, kind, unique_key)
    WHERE unique_key IS NOT NULL AND status IN ('pending', 'running', 'parked', 'needs_review')
    DO NOTHING;

-- name: TaskYield :exec
-- Before a task that goes first joins: one that runs and does not may wait long for its turn. It
-- gives up its key and ends by itself; those who have asked for it meanwhile are served by the new
-- one. What waits is locked, so that it does not begin before it is joined.
UPDATE scheduled_tasks SET
    unique_key = CASE WHEN status = 'running' AND NOT first THEN NULL ELSE unique_key END,
    again = CASE WHEN status = 'running' AND NOT first THEN 0 ELSE again END
WHERE merchant_id = @merchant_id AND kind = @kind AND unique_key = sqlc.arg(unique_key)::text
    AND status IN ('pending', 'running', 'parked', 'needs_review');

-- name: TaskJoin :exec
-- Adds a task, or joins the live one that holds the key: one that waits is due soon, one that runs
-- is to run once more.
INSERT INTO scheduled_tasks AS t (merchant_id, id, kind, params, unique_key, first, run_at)
VALUES (@merchant_id, @id, @kind, @params, sqlc.arg(unique_key)::text, @first, phantom_now() + make_interval(secs => sqlc.arg(wait)))
ON CONFLICT (merchant_id, kind, unique_key)
    WHERE unique_key IS NOT NULL AND status IN ('pending', 'running', 'parked', 'needs_review')
    DO UPDATE SET
        first = t.first OR excluded.first,
        again = CASE WHEN t.status = 'running' THEN t.fence ELSE t.again END,
        status = CASE WHEN t.status = 'running' THEN t.status ELSE 'pending' END,
        run_at = CASE WHEN t.status <> 'running' THEN least(t.run_at, excluded.run_at)
            WHEN t.again = t.fence THEN least(t.run_at, phantom_now() + make_interval(secs => sqlc.arg(pause)))
            ELSE phantom_now() + make_interval(secs => sqlc.arg(pause)) END, -- once it has ended
        attempts = CASE WHEN t.status IN ('parked', 'needs_review') THEN 0 ELSE t.attempts END;

-- name: TaskKeyRuns :one
-- Whether the task that holds a key runs.
SELECT EXISTS (SELECT 1 FROM scheduled_tasks
    WHERE merchant_id = @merchant_id AND kind = @kind AND unique_key = sqlc.arg(unique_key)::text AND status = 'running') AS runs;

-- name: TaskDueMerchants :many
-- Merchants with something to claim, but audits. sample > 0 takes the oldest due tasks first: where
-- these are all, their merchants are all, at the price of the tasks alone. Where they are a crowd,
-- and where sample is 0, an index is read from merchant to merchant, one probe for each, behind a
-- given one and for so many hops at most: a merchant with a million tasks is one hop. place is the
-- hop, 0 of the sample; of the last hop the row is there even where nothing is due.
WITH RECURSIVE oldest AS MATERIALIZED (
    SELECT t.merchant_id FROM scheduled_tasks t
    WHERE t.status = 'pending' AND t.run_at <= phantom_now() AND t.kind <> 'audit'
    ORDER BY t.run_at LIMIT sqlc.arg(sample)::int
), hop AS (
    (SELECT t.merchant_id, t.run_at, 1 AS place FROM scheduled_tasks t
     WHERE (SELECT count(*) FROM oldest) >= sqlc.arg(sample)::int
         AND t.status = 'pending' AND t.merchant_id > sqlc.arg(after) AND t.kind <> 'audit'
         -- Constants where it is planned, so that the index of the lane is used.
         AND (NOT sqlc.arg(first)::bool OR t.first)
         AND (NOT sqlc.arg(urgent)::bool OR t.kind IN ('webhook', 'refresh'))
     ORDER BY t.merchant_id, t.run_at LIMIT 1)
    UNION ALL
    SELECT next.merchant_id, next.run_at, hop.place + 1 FROM hop
    CROSS JOIN LATERAL (
        SELECT t.merchant_id, t.run_at FROM scheduled_tasks t
        WHERE t.status = 'pending' AND t.merchant_id > hop.merchant_id AND t.kind <> 'audit'
            AND (NOT sqlc.arg(first)::bool OR t.first)
            AND (NOT sqlc.arg(urgent)::bool OR t.kind IN ('webhook', 'refresh'))
        ORDER BY t.merchant_id, t.run_at LIMIT 1) AS next
    WHERE hop.place < sqlc.arg(hops)::int
)
SELECT hop.merchant_id, hop.place, hop.run_at <= phantom_now() AS due FROM hop
WHERE hop.run_at <= phantom_now() OR hop.place = sqlc.arg(hops)::int
UNION ALL
SELECT DISTINCT oldest.merchant_id, 0, true FROM oldest
ORDER BY place, merchant_id;

-- name: TaskClaim :many
-- Due tasks of these merchants, each one's oldest, in turns: the first of each, in the order of the
-- merchants, before the second of any.
UPDATE scheduled_tasks t SET
    status = 'running', attempts = t.attempts + 1, fence = t.fence + 1,
    lease_until = clock_timestamp() + make_interval(secs => sqlc.arg(lease_seconds))
-- by place, so that no index is searched again: the lock keeps them there
WHERE t.ctid = ANY (ARRAY(
    SELECT due.place FROM (
        SELECT d.place, m.position, row_number() OVER (PARTITION BY m.position ORDER BY d.run_at) AS turn
        FROM unnest(sqlc.arg(merchants)::uuid[]) WITH ORDINALITY AS m (id, position)
        CROSS JOIN LATERAL (
            SELECT o.ctid AS place, o.run_at FROM scheduled_tasks o
            WHERE o.status = 'pending' AND o.merchant_id = m.id AND o.run_at <= phantom_now() AND o.kind <> 'audit'
                AND (NOT sqlc.arg(first)::bool OR o.first)
                AND (NOT sqlc.arg(urgent)::bool OR o.kind IN ('webhook', 'refresh'))
            ORDER BY o.run_at LIMIT sqlc.arg(share) FOR UPDATE SKIP LOCKED) AS d) AS due
    ORDER BY due.turn, due.position LIMIT sqlc.arg(batch)))
RETURNING t.merchant_id, t.id, t.kind, t.params, t.sealed_params, t.attempts, t.fence, t.first_sent_at, t.run_at, t.first;

-- name: TaskClaimLong :many
-- Due audits, oldest first: a merchant has one at most. They take minutes.
UPDATE scheduled_tasks t SET
    status = 'running', attempts = t.attempts + 1, fence = t.fence + 1,
    lease_until = clock_timestamp() + make_interval(secs => sqlc.arg(lease_seconds))
WHERE t.ctid = ANY (ARRAY( -- as in TaskClaim
    SELECT d.ctid FROM scheduled_tasks d
    WHERE d.status = 'pending' AND d.kind = 'audit' AND d.run_at <= phantom_now()
    ORDER BY d.run_at LIMIT sqlc.arg(batch) FOR UPDATE SKIP LOCKED))
RETURNING t.merchant_id, t.id, t.kind, t.params, t.sealed_params, t.attempts, t.fence, t.first_sent_at, t.run_at, t.first;

-- name: TaskClaimOne :one
-- One task and no other, if it is due.
UPDATE scheduled_tasks SET
    status = 'running', attempts = attempts + 1, fence = fence + 1,
    lease_until = clock_timestamp() + make_interval(secs => sqlc.arg(lease_seconds))
WHERE merchant_id = sqlc.arg(merchant_id) AND id = sqlc.arg(id) AND status = 'pending' AND run_at <= phantom_now()
RETURNING merchant_id, id, kind, params, sealed_params, attempts, fence, first_sent_at, run_at, first;

-- name: TaskProgress :one
-- How a task stands, and how many seconds are left: of a pending one until it is due, of a running
-- one until its lease ends.
SELECT status, coalesce(last_error, '')::text AS last_error, coalesce(extract(epoch FROM CASE status
    WHEN 'pending' THEN run_at - phantom_now()
    WHEN 'running' THEN lease_until - clock_timestamp() END), 0)::float8 AS seconds
FROM scheduled_tasks WHERE merchant_id = $1 AND id = $2;

-- name: TaskHeartbeat :many
-- Extends the leases that are still the caller's and says which these are. It waits for nobody
-- while it holds rows: a transaction that ends one of the tasks may be about to join another. Whose
-- row is locked goes without this heartbeat, and is the caller's as long as its fence says so. This
-- and the two that settle name rows by id and not by place, because a heartbeat moves them.
WITH held AS (
    SELECT unnest(sqlc.arg(merchant_ids)::uuid[]) AS merchant_id, unnest(sqlc.arg(ids)::uuid[]) AS id,
        unnest(sqlc.arg(fences)::bigint[]) AS fence
), free AS (
    SELECT t.merchant_id, t.id FROM scheduled_tasks t JOIN held ON t.merchant_id = held.merchant_id AND t.id = held.id AND t.fence = held.fence
    -- planned as few rows, and so never as a scan of the whole table
    WHERE t.id = ANY (ARRAY(SELECT unnest(sqlc.arg(ids)::uuid[])))
        -- it runs; by its status it would be looked for among all that run
        AND t.lease_until IS NOT NULL
    FOR NO KEY UPDATE OF t SKIP LOCKED
), extended AS (
    UPDATE scheduled_tasks t SET lease_until = clock_timestamp() + make_interval(secs => sqlc.arg(lease_seconds))
    FROM free WHERE t.id = ANY (ARRAY(SELECT unnest(sqlc.arg(ids)::uuid[]))) AND t.merchant_id = free.merchant_id AND t.id = free.id
)
SELECT t.id FROM scheduled_tasks t JOIN held ON held.merchant_id = t.merchant_id AND held.id = t.id AND held.fence = t.fence
WHERE t.id = ANY (ARRAY(SELECT unnest(sqlc.arg(ids)::uuid[]))) AND t.lease_until IS NOT NULL
ORDER BY t.id;

-- name: TaskSettleDone :one
-- Most tries succeed and have nothing to say. As TaskSettle, for those. again: how many were asked
-- for once more and wait anew.
WITH settled AS (
    UPDATE scheduled_tasks t SET
        status = CASE WHEN t.again = t.fence THEN 'pending' ELSE 'succeeded' END,
        attempts = CASE WHEN t.again = t.fence THEN 0 ELSE t.attempts END,
        lease_until = NULL,
        finished_at = CASE WHEN t.again = t.fence THEN NULL ELSE clock_timestamp() END
    FROM (SELECT unnest(sqlc.arg(merchant_ids)::uuid[]) AS merchant_id, unnest(sqlc.arg(ids)::uuid[]) AS id,
        unnest(sqlc.arg(fences)::bigint[]) AS fence ORDER BY 2) AS done
    WHERE t.id = ANY (ARRAY(SELECT unnest(sqlc.arg(ids)::uuid[]))) AND t.lease_until IS NOT NULL
        AND t.merchant_id = done.merchant_id AND t.id = done.id AND t.fence = done.fence
    RETURNING t.status
)
SELECT count(*) AS settled, count(*) FILTER (WHERE status = 'pending') AS again FROM settled;

-- name: TaskSettle :execrows
-- Writes down how tries ended, for those whose fence is still the caller's: who was too slow
-- changes no row. A delay counts from now; with jitter it is drawn evenly from nothing to the whole
-- of it. Uncounted tries (snoozes) give their attempt back. What was asked for once more while it
-- ran waits anew, however it ended, but for what is parked: run_at is the time that was asked for.
UPDATE scheduled_tasks t SET
    status = CASE WHEN t.again = t.fence AND ended.status <> 'parked' THEN 'pending' ELSE ended.status END,
    run_at = CASE WHEN t.again = t.fence THEN t.run_at
        WHEN ended.status = 'pending'
        THEN phantom_now() + make_interval(secs => ended.delay * CASE WHEN ended.jitter THEN random() ELSE 1 END)
        ELSE t.run_at END,
    attempts = CASE WHEN t.again = t.fence AND ended.status <> 'pending' THEN 0
        ELSE greatest(t.attempts - CASE WHEN ended.counted THEN 0 ELSE 1 END, 0) END,
    lease_until = NULL,
    finished_at = CASE WHEN t.again <> t.fence AND ended.status IN ('succeeded', 'failed', 'canceled') THEN clock_timestamp() END,
    last_error = coalesce(nullif(ended.error, ''), t.last_error)
FROM (SELECT unnest(sqlc.arg(merchant_ids)::uuid[]) AS merchant_id, unnest(sqlc.arg(ids)::uuid[]) AS id,
    unnest(sqlc.arg(fences)::bigint[]) AS fence, unnest(sqlc.arg(statuses)::text[]) AS status,
    unnest(sqlc.arg(delays)::float8[]) AS delay, unnest(sqlc.arg(jitters)::boolean[]) AS jitter,
    unnest(sqlc.arg(counted)::boolean[]) AS counted, unnest(sqlc.arg(errors)::text[]) AS error ORDER BY 2) AS ended
WHERE t.id = ANY (ARRAY(SELECT unnest(sqlc.arg(ids)::uuid[]))) AND t.lease_until IS NOT NULL
    AND t.merchant_id = ended.merchant_id AND t.id = ended.id AND t.fence = ended.fence;

-- name: TaskRescue :execrows
-- Tasks whose worker died: their lease has ended. Those that have used up their tries are for a
-- person to look at. One of them may be what killed the worker: from the second time on they are
-- spread apart, so that it does not take the same ones along each time.
UPDATE scheduled_tasks t SET
    status = CASE WHEN t.attempts >= sqlc.arg(max_attempts)::int THEN 'needs_review' ELSE 'pending' END,
    run_at = CASE WHEN t.attempts < 2 THEN t.run_at ELSE phantom_now() + make_interval(secs => random() * t.attempts) END,
    lease_until = NULL,
    last_error = 'the worker died or lost the database while the task ran'
FROM (
    SELECT merchant_id, id FROM scheduled_tasks
    WHERE status = 'running' AND lease_until < clock_timestamp()
    ORDER BY lease_until LIMIT 1000 FOR UPDATE SKIP LOCKED) AS dead
WHERE t.merchant_id = dead.merchant_id AND t.id = dead.id;

-- name: TaskRescueOne :execrows
-- As TaskRescue, for one task.
UPDATE scheduled_tasks SET
    status = CASE WHEN attempts >= sqlc.arg(max_attempts)::int THEN 'needs_review' ELSE 'pending' END,
    run_at = CASE WHEN attempts < 2 THEN run_at ELSE phantom_now() + make_interval(secs => random() * attempts) END,
    lease_until = NULL,
    last_error = 'the worker died or lost the database while the task ran'
WHERE merchant_id = sqlc.arg(merchant_id) AND id = sqlc.arg(id) AND status = 'running' AND lease_until < clock_timestamp();

-- name: TaskSecondsToNext :one
-- How long until the next pending task is due, at most a day. long: audits too.
SELECT coalesce(extract(epoch FROM least(min(run_at) - phantom_now(), interval '1 day')), 86400)::float8 AS seconds
FROM scheduled_tasks WHERE status = 'pending' AND (sqlc.arg(long)::bool OR kind <> 'audit');

-- name: TaskSecondsToNextFirst :one
-- As TaskSecondsToNext, of what goes first and falls due within a minute.
SELECT coalesce(extract(epoch FROM min(run_at) - phantom_now()), 60)::float8 AS seconds
FROM scheduled_tasks
WHERE status = 'pending' AND first AND run_at > phantom_now() AND run_at <= phantom_now() + interval '1 minute';

-- name: TaskSecondsToNextUrgent :one
-- Of the urgent kinds, within five seconds: these are few rows beside all that is planned for
-- later.
SELECT coalesce(extract(epoch FROM min(run_at) - phantom_now()), 5)::float8 AS seconds
FROM scheduled_tasks
WHERE status = 'pending' AND kind IN ('webhook', 'refresh') AND run_at > phantom_now() AND run_at <= phantom_now() + interval '5 seconds';

-- name: TaskGet :one
SELECT * FROM scheduled_tasks WHERE merchant_id = $1 AND id = $2;

-- name: TaskCancel :execrows
-- One whose request may be out, pending or parked, finds out by itself what that did, or ends in
-- review: until then nobody may begin anew beside it.
UPDATE scheduled_tasks SET status = 'canceled', finished_at = clock_timestamp()
WHERE merchant_id = $1 AND id = $2 AND (status = 'needs_review' OR status IN ('pending', 'parked') AND first_sent_at IS NULL);

-- name: TaskRetry :execrows
-- After a person has looked at it: all tries anew, at once.
UPDATE scheduled_tasks SET status = 'pending', attempts = 0, run_at = phantom_now()
WHERE merchant_id = $1 AND id = $2 AND status = 'needs_review';

-- name: TaskPark :execrows
-- Sets a merchant's pending tasks aside, until they connect again: those that are due first, and
-- not all at once, because 100,000 take seconds. What is left, or being claimed now, is parked by
-- its own handler. The purge waits for nobody, and the probe ends by itself.
UPDATE scheduled_tasks t SET status = 'parked' FROM (
    SELECT d.merchant_id, d.id FROM scheduled_tasks d
    WHERE d.merchant_id = sqlc.arg(merchant_id) AND d.status = 'pending' AND d.kind NOT IN ('purge', 'probe')
    ORDER BY d.run_at LIMIT sqlc.arg(most) FOR UPDATE SKIP LOCKED) AS due
WHERE t.merchant_id = due.merchant_id AND t.id = due.id;

-- name: TaskParkHeld :one
-- Parks a running task by its holder's hand, unless the merchant has connected since connected_at;
-- then there is no row. The lock on their row puts this before or after a reconnection: one of the
-- two sees the other, and no task stays parked under a merchant who is back.
UPDATE scheduled_tasks t SET status = 'parked', lease_until = NULL, last_error = sqlc.arg(error)::text
FROM (SELECT m.id, m.connected_at, m.disconnected_at FROM merchants m WHERE m.id = sqlc.arg(merchant_id) FOR SHARE) AS merchant
WHERE t.merchant_id = merchant.id AND t.id = sqlc.arg(id) AND t.fence = sqlc.arg(fence) AND t.status = 'running'
    AND merchant.connected_at = sqlc.arg(connected_at)::timestamptz
RETURNING (merchant.disconnected_at IS NULL)::boolean AS connected;

-- name: TaskUnpark :execrows
-- If the merchant is connected. In no order, which would sort them all. To be repeated until it
-- changes fewer than most.
UPDATE scheduled_tasks t SET status = 'pending' FROM (
    SELECT d.merchant_id, d.id FROM scheduled_tasks d
    WHERE d.merchant_id = sqlc.arg(merchant_id) AND d.status = 'parked'
        AND EXISTS (SELECT 1 FROM merchants m WHERE m.id = d.merchant_id AND m.disconnected_at IS NULL)
    LIMIT sqlc.arg(most) FOR UPDATE SKIP LOCKED) AS parked
WHERE t.merchant_id = parked.merchant_id AND t.id = parked.id;

-- name: TaskDropFinished :execrows
-- In batches, the oldest first, so that no lock lasts.
DELETE FROM scheduled_tasks t USING (
    SELECT merchant_id, id FROM scheduled_tasks
    WHERE status IN ('succeeded', 'failed', 'canceled') AND finished_at < clock_timestamp() - make_interval(secs => sqlc.arg(keep_seconds))
        -- earlier than finished_at, and indexed
        AND run_at < phantom_now() - make_interval(secs => sqlc.arg(keep_seconds))
    ORDER BY run_at LIMIT 1000 FOR UPDATE SKIP LOCKED) AS old
WHERE t.merchant_id = old.merchant_id AND t.id = old.id;

-- name: TaskProgressed :exec
-- A try that has got somewhere is no failure: the tries count from here.
UPDATE scheduled_tasks SET attempts = 0 WHERE merchant_id = @merchant_id AND id = @id AND fence = @fence AND status = 'running';

-- name: TaskMarkSent :one
-- By its holder's hand, before the request leaves: from then on its key may be known outside.
-- Returns when that was first so. A key that was first sent 20 hours ago or earlier is not sent
-- again.
UPDATE scheduled_tasks SET first_sent_at = coalesce(first_sent_at, clock_timestamp())
WHERE merchant_id = @merchant_id AND id = @id AND fence = @fence AND status = 'running'
    AND (first_sent_at IS NULL OR first_sent_at > clock_timestamp() - interval '20 hours')
RETURNING first_sent_at;

-- name: TaskFinish :execrows
-- By its holder's hand, together with what it has brought about. What it was sent with is
-- forgotten: it will not be sent again.
UPDATE scheduled_tasks SET status = sqlc.arg(status), outcome = sqlc.narg(outcome), last_error = coalesce(nullif(sqlc.arg(error)::text, ''), last_error),
    lease_until = NULL, finished_at = CASE WHEN sqlc.arg(status)::text IN ('succeeded', 'failed', 'canceled') THEN clock_timestamp() END,
    sealed_params = CASE WHEN sqlc.arg(status)::text IN ('succeeded', 'failed', 'canceled') THEN NULL ELSE sealed_params END
WHERE merchant_id = sqlc.arg(merchant_id) AND id = sqlc.arg(id) AND fence = sqlc.arg(fence) AND status = 'running';

-- name: TaskCancelKeys :execrows
-- The pending tasks that hold one of these unique keys and have not been sent.
UPDATE scheduled_tasks SET status = 'canceled', finished_at = clock_timestamp(), last_error = sqlc.arg(why)::text
WHERE merchant_id = sqlc.arg(merchant_id) AND unique_key = ANY (sqlc.arg(unique_keys)::text[]) AND status IN ('pending', 'parked')
    AND first_sent_at IS NULL;

-- name: TaskListAll :many
-- For the operator: of all merchants, or of one, the newest first. It reads nothing sealed.
SELECT t.id, m.stripe_user_id AS account, t.kind, t.status, t.run_at, t.attempts, t.first_sent_at, t.created_at, t.finished_at, t.outcome,
    t.last_error
FROM scheduled_tasks t JOIN merchants m ON m.id = t.merchant_id
WHERE (sqlc.narg(account)::text IS NULL OR m.stripe_user_id = sqlc.narg(account))
    AND (sqlc.narg(status)::text IS NULL OR t.status = sqlc.narg(status))
    AND (sqlc.narg(kind)::text IS NULL OR t.kind = sqlc.narg(kind))
ORDER BY t.id DESC
LIMIT sqlc.arg(most);

-- name: TaskShow :one
-- For the operator. too_old: its key was first sent so long ago that Stripe may have forgotten it.
SELECT t.merchant_id, t.id, m.stripe_user_id AS account, t.kind, t.status, t.run_at, t.attempts, t.first_sent_at, t.created_at,
    t.finished_at, t.outcome, t.last_error, t.params, t.lease_until,
    (t.sealed_params_key_id IS NOT NULL)::boolean AS sealed,
    coalesce(t.first_sent_at < clock_timestamp() - interval '20 hours', false)::boolean AS too_old,
    coalesce(x.state, '')::text AS message
FROM scheduled_tasks t JOIN merchants m ON m.id = t.merchant_id
LEFT JOIN messages x ON x.merchant_id = t.merchant_id AND x.id = t.id
WHERE t.id = $1;

-- name: TaskRetryYoung :execrows
-- As TaskRetry, unless the key was first sent so long ago that Stripe may have forgotten it.
UPDATE scheduled_tasks SET status = 'pending', attempts = 0, run_at = phantom_now()
WHERE merchant_id = $1 AND id = $2 AND status = 'needs_review'
    AND coalesce(first_sent_at > clock_timestamp() - interval '20 hours', true);

-- name: TaskReadPage :many
-- For the merchant: their own, the newest first. Ids are UUIDv7, so rows that are added while
-- somebody pages come before all that they have still to see.
SELECT id, kind, status, run_at, attempts, first_sent_at, finished_at, outcome, last_error FROM scheduled_tasks
WHERE merchant_id = sqlc.arg(merchant_id) AND id < sqlc.arg(before)
    AND (sqlc.narg(status)::text IS NULL OR status = sqlc.narg(status))
    AND (sqlc.narg(kind)::text IS NULL OR kind = sqlc.narg(kind))
ORDER BY id DESC
LIMIT sqlc.arg(page_size);

-- name: TaskCountLive :many
-- How many tasks of each kind have not ended, by status.
SELECT status, kind, count(*) AS tasks FROM scheduled_tasks
WHERE status IN ('pending', 'running', 'parked', 'needs_review')
GROUP BY status, kind
ORDER BY status, kind;

-- name: TaskLag :one
-- For how many seconds the oldest due task has waited.
SELECT greatest(coalesce(extract(epoch FROM phantom_now() - min(run_at)), 0), 0)::float8 AS seconds
FROM scheduled_tasks WHERE status = 'pending';

-- name: TaskCancelOutdated :execrows
-- The pending charge that holds this key, has not been sent, and is of an invoice or amount that is
-- not among these.
UPDATE scheduled_tasks SET status = 'canceled', finished_at = clock_timestamp(), last_error = 'what is owed has changed since'
WHERE merchant_id = sqlc.arg(merchant_id) AND unique_key = sqlc.arg(unique_key)::text AND kind IN ('invoice_pay', 'invoice_hold')
    AND status IN ('pending', 'parked') AND first_sent_at IS NULL
    AND NOT EXISTS (
        SELECT 1 FROM (SELECT unnest(sqlc.arg(invoices)::text[]) AS invoice, unnest(sqlc.arg(amounts)::bigint[]) AS amount) AS owed
        WHERE params ->> 'object' = owed.invoice AND (kind = 'invoice_hold' OR (params ->> 'amount')::bigint = owed.amount));

-- name: TaskWakeMessages :execrows
-- Those of a channel that wait for a person because its key was refused: it has been set anew.
UPDATE scheduled_tasks SET status = 'pending', attempts = 0, run_at = phantom_now()
WHERE merchant_id = sqlc.arg(merchant_id) AND kind = sqlc.arg(kind)::text AND status = 'needs_review' AND first_sent_at IS NULL;

-- name: TaskGetParams :one
-- Without what is sealed, for commands that have no key.
SELECT params FROM scheduled_tasks WHERE merchant_id = $1 AND id = $2;
