-- What phantom doctor asks. Nothing sealed is read.

-- name: DoctorServer :one
SELECT current_setting('server_version')::text AS version, current_setting('server_version_num')::integer AS number,
    clock_timestamp()::timestamptz AS now,
    (current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer)::integer AS connections;

-- name: DoctorTransactions :many
-- Who has had a transaction open for so many seconds, oldest first, and how many wait for a lock of
-- theirs. Of other roles only who may read all statistics sees the age. A prepared transaction has
-- no process. horizon: how many transactions have begun since the first one whose traces it keeps
-- from being cleared away, 0 where it keeps nothing. The last ones are of standbys, which tell
-- horizons and no times.
SELECT coalesce(a.pid, 0)::integer AS pid, ''::text AS prepared, coalesce(nullif(a.application_name, ''), a.usename, '')::text AS name, coalesce(a.state, '')::text AS state,
    extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS age,
    (SELECT count(*) FROM pg_catalog.pg_stat_activity w
        WHERE w.wait_event_type = 'Lock' AND a.pid = ANY (pg_catalog.pg_blocking_pids(w.pid))) AS waiting,
    coalesce(greatest(age(a.backend_xid), age(a.backend_xmin)), 0)::bigint AS horizon
FROM pg_catalog.pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_catalog.pg_backend_pid() AND a.backend_type = 'client backend'
    AND a.xact_start < clock_timestamp() - make_interval(secs => sqlc.arg(seconds))
UNION ALL
SELECT 0, p.gid, p.owner::text, 'prepared', extract(epoch FROM clock_timestamp() - p.prepared)::float8, 0, age(p.transaction)::bigint
FROM pg_catalog.pg_prepared_xacts p WHERE p.database = current_database() AND p.prepared < clock_timestamp() - make_interval(secs => sqlc.arg(seconds))
UNION ALL
SELECT 0, '', r.slot_name::text, 'replication slot', 0, 0, age(r.xmin)::bigint
FROM pg_catalog.pg_replication_slots r WHERE age(r.xmin) > sqlc.arg(transactions)::integer
UNION ALL
SELECT w.pid, '', w.application_name, 'standby', 0, 0, age(w.backend_xmin)::bigint
FROM pg_catalog.pg_stat_activity w WHERE w.backend_type = 'walsender' AND age(w.backend_xmin) > sqlc.arg(transactions)::integer
ORDER BY age DESC LIMIT 100;

-- name: DatabaseReadOnly :one
-- Whether the database takes no writes: a standby, or one that was made so.
SELECT (current_setting('transaction_read_only') = 'on')::boolean;

-- name: DoctorMerchants :one
-- other_mode: connected in the mode that the platform's key is not of. silent: seconds since the
-- last event; negative if none came.
SELECT count(*) FILTER (WHERE disconnected_at IS NULL) AS connected,
    count(*) FILTER (WHERE disconnected_at IS NOT NULL) AS disconnected,
    count(*) FILTER (WHERE disconnected_at IS NULL AND livemode <> sqlc.arg(livemode)) AS other_mode,
    coalesce((SELECT extract(epoch FROM clock_timestamp() - max(received_at)) FROM webhook_events), -1)::float8 AS silent
FROM merchants;

-- name: DoctorTasks :one
-- due: waiting though their time has come; lag: the oldest one's, in seconds. expired: their
-- worker's lease has ended; overdue: for how many seconds, at most. workers: processes that listen
-- for tasks.
SELECT
    (SELECT count(*) FROM scheduled_tasks WHERE status = 'pending' AND run_at <= phantom_now()) AS due,
    coalesce((SELECT extract(epoch FROM phantom_now() - min(run_at)) FROM scheduled_tasks WHERE status = 'pending'), 0)::float8 AS lag,
    (SELECT count(*) FROM scheduled_tasks WHERE status = 'needs_review') AS needs_review,
    (SELECT count(*) FROM scheduled_tasks WHERE status = 'parked') AS parked,
    (SELECT count(*) FROM scheduled_tasks WHERE status = 'running') AS running,
    (SELECT count(*) FROM scheduled_tasks WHERE status = 'running' AND lease_until < clock_timestamp()) AS expired,
    coalesce((SELECT extract(epoch FROM clock_timestamp() - min(lease_until)) FROM scheduled_tasks WHERE status = 'running'), 0)::float8 AS overdue,
    (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN phantom_task') AS workers;

-- name: DoctorParked :many
-- Whose tasks are parked, and since when: the connected ones' first, of whom a probe tells. sent:
-- whose request may be out. accounts: of how many merchants all are.
SELECT m.stripe_user_id AS account, (m.disconnected_at IS NULL)::boolean AS connected, parked.tasks, parked.sent,
    coalesce(m.disconnected_at, (SELECT min(p.created_at) FROM scheduled_tasks p
        WHERE p.merchant_id = m.id AND p.kind = 'probe' AND p.status IN ('pending', 'running'))) AS since,
    count(*) OVER () AS accounts
FROM (SELECT t.merchant_id, count(*) AS tasks, count(t.first_sent_at) AS sent FROM scheduled_tasks t WHERE t.status = 'parked'
    GROUP BY t.merchant_id) AS parked
JOIN merchants m ON m.id = parked.merchant_id
ORDER BY m.disconnected_at IS NOT NULL, parked.tasks DESC, account LIMIT sqlc.arg(most);

-- name: DoctorDisputes :many
-- Statuses of disputes that PHANTOM does not know, which the newest audit of some merchant has met.
SELECT DISTINCT status::text AS status FROM (
    SELECT DISTINCT ON (a.merchant_id) a.totals FROM audits a JOIN merchants m ON m.id = a.merchant_id AND m.disconnected_at IS NULL
    WHERE a.state <> 'running' ORDER BY a.merchant_id, a.ticket DESC) AS newest,
    jsonb_array_elements_text(newest.totals -> 'unknown_disputes') AS status
ORDER BY 1;

-- name: DoctorHolds :many
-- Where the breaker of access is open.
SELECT m.stripe_user_id AS account, h.opened_at,
    (SELECT count(*) FROM shield_states s WHERE s.merchant_id = h.merchant_id AND s.held) AS held
FROM shield_holds h JOIN merchants m ON m.id = h.merchant_id
WHERE h.closed_at IS NULL ORDER BY h.opened_at, m.id;

-- name: DoctorMessages :many
-- What became of the messages of the last day, and why.
SELECT state, coalesce(why, '')::text AS why, count(*) AS messages FROM messages
WHERE planned_for BETWEEN phantom_now() - interval '1 day' AND phantom_now() AND state IN ('sent', 'skipped', 'failed', 'unclear')
GROUP BY 1, 2 ORDER BY 3 DESC, 2 LIMIT 100;
