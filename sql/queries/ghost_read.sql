-- What the merchant API reads of ghosts and audits, and the one thing it changes.

-- name: GhostReadPage :many
-- Ids are UUIDv7, so rows that are added while somebody pages come after all that were there. It
-- looks at so many rows at most: most filters fill a page from few.
SELECT * FROM (
    SELECT * FROM ghost_targets WHERE merchant_id = @merchant_id AND id > @after
    ORDER BY id LIMIT sqlc.arg(look_at)::int) AS next
WHERE (sqlc.narg(status)::text IS NULL OR status = sqlc.narg(status))
    AND (sqlc.narg(currency)::text IS NULL OR currency = sqlc.narg(currency))
    AND (sqlc.narg(decline_class)::text IS NULL OR decline_class = sqlc.narg(decline_class))
    AND (sqlc.narg(kind)::text IS NULL OR kind = sqlc.narg(kind))
    AND (sqlc.narg(min_amount)::bigint IS NULL OR amount >= sqlc.narg(min_amount))
ORDER BY id
LIMIT @page_size;

-- name: GhostMoreBehind :one
-- Whether there are ghosts behind the so many that a page looks at.
SELECT EXISTS (
    SELECT 1 FROM ghost_targets WHERE merchant_id = @merchant_id AND id > @after ORDER BY id OFFSET sqlc.arg(look_at)::int LIMIT 1) AS more;

-- name: GhostFindPage :one
-- The ids of a page, however rare what matches is. Each kind, status, currency and decline class
-- that there is together has a place of its own in ghost_targets_filter_idx, in the order of ids,
-- and the next ones of all places are the next ones of all. min_amount is looked for among so many
-- entries at most: seen_to is the ghost up to which all are seen, where it is not the last.
WITH RECURSIVE money AS (
    SELECT k.kind, s.status, one.currency
    FROM unnest(sqlc.arg(kinds)::text[]) AS k (kind) CROSS JOIN unnest(sqlc.arg(statuses)::text[]) AS s (status)
    CROSS JOIN LATERAL (
        SELECT g.currency FROM ghost_targets g WHERE g.merchant_id = @merchant_id AND g.kind = k.kind AND g.status = s.status
        ORDER BY g.currency LIMIT 1) AS one
    UNION ALL
    SELECT money.kind, money.status, one.currency FROM money
    CROSS JOIN LATERAL (
        SELECT g.currency FROM ghost_targets g
        WHERE g.merchant_id = @merchant_id AND g.kind = money.kind AND g.status = money.status AND g.currency > money.currency
        ORDER BY g.currency LIMIT 1) AS one
), place AS MATERIALIZED (
    SELECT money.kind, money.status, money.currency, c.class
    FROM money CROSS JOIN unnest(sqlc.arg(classes)::text[]) AS c (class)
    WHERE sqlc.narg(currency)::text IS NULL OR money.currency = sqlc.narg(currency)
), share AS MATERIALIZED (
    SELECT greatest(sqlc.arg(look_at)::int / greatest(count(*), 1), sqlc.arg(page_size)::int)::int AS entries FROM place
), seen AS MATERIALIZED (
    SELECT one.id, one.amount, one.number FROM place
    CROSS JOIN LATERAL (
        SELECT g.id, g.amount, row_number() OVER (ORDER BY g.id) AS number FROM ghost_targets g
        WHERE g.merchant_id = @merchant_id AND g.kind = place.kind AND g.status = place.status AND g.currency = place.currency
            AND g.decline_class = place.class AND g.id > @after
        ORDER BY g.id LIMIT (SELECT entries FROM share)) AS one
), horizon AS MATERIALIZED (
    SELECT seen.id FROM seen WHERE seen.number = (SELECT entries FROM share) ORDER BY seen.id LIMIT 1
)
SELECT ARRAY(
        SELECT seen.id FROM seen
        WHERE (sqlc.narg(min_amount)::bigint IS NULL OR seen.amount >= sqlc.narg(min_amount))
            AND (NOT EXISTS (SELECT 1 FROM horizon) OR seen.id <= (SELECT id FROM horizon))
        ORDER BY seen.id LIMIT sqlc.arg(page_size)::int)::uuid[] AS ids,
    coalesce((SELECT id FROM horizon), '00000000-0000-0000-0000-000000000000')::uuid AS seen_to;

-- name: GhostReadMany :many
SELECT * FROM ghost_targets WHERE merchant_id = @merchant_id AND id = ANY (sqlc.arg(ids)::uuid[]) ORDER BY id;

-- name: GhostRead :one
SELECT * FROM ghost_targets WHERE merchant_id = @merchant_id AND id = @id;

-- name: GhostAccessLock :one
-- What the app has said before, until the transaction ends.
SELECT access, status, closed_reason FROM ghost_targets WHERE merchant_id = @merchant_id AND id = @id FOR NO KEY UPDATE;

-- name: GhostAccessNone :one
-- Closed for this reason it stays closed, no matter what an audit finds; so a ghost that was closed
-- for another one is marked too.
UPDATE ghost_targets SET
    access = 'presumed',
    status = 'closed',
    closed_reason = 'no_access',
    closed_at = coalesce(closed_at, phantom_now()),
    updated_at = clock_timestamp()
WHERE merchant_id = @merchant_id AND id = @id
RETURNING *;

-- name: GhostAccessProven :one
-- Takes back what GhostAccessNone said. Whether the ghost still owes, Stripe must be asked: it
-- stays closed until then.
UPDATE ghost_targets SET
    access = 'proven',
    closed_reason = CASE WHEN closed_reason = 'no_access' THEN 'access_proven' ELSE closed_reason END,
    updated_at = clock_timestamp()
WHERE merchant_id = @merchant_id AND id = @id
RETURNING *;

-- name: GhostReadTotals :many
-- What open ghosts come to, by kind and currency, and by decline class: what is counted, and what
-- has changed since.
SELECT part::text AS part, name::text AS name, sum(ghosts)::bigint AS ghosts, sum(hidden)::bigint AS hidden, sum(owed)::bigint AS owed
FROM (
    SELECT k.part, k.name, k.ghosts, k.hidden, k.owed FROM ghost_counts k
    WHERE k.merchant_id = @merchant_id AND k.part IN ('owed', 'written_off', 'charged_back', 'class')
    UNION ALL
    SELECT p.part, p.name, p.ghosts, p.hidden, p.owed
    FROM ghost_changes c CROSS JOIN LATERAL ghost_change_parts(c) AS p
    WHERE c.merchant_id = @merchant_id AND p.part NOT IN ('span', 'minute')) AS counted
GROUP BY part, name
HAVING sum(ghosts) <> 0
ORDER BY part, name;

-- name: GhostReadAges :one
-- How many open ghosts of kind owed are younger than so many whole days, of all, and the whole days
-- since their first failures, added up. Four hours of moments that do not hold this time of the day
-- are of one age. Of those that do, the ghosts whose day is not over yet are read themselves where
-- an age of the summary begins, and for the days a minute of each day; whole minutes are counted.
-- A moment that is still to come is of age 0. OFFSET 0 has each of these ranges read from the index
-- by itself: of a million ghosts the planner would else read all, once, and compare each with each
-- range. A range with both ends is guessed to be a small one.
WITH clock AS MATERIALIZED (
    SELECT phantom_now() AS now, moment_span(phantom_now()) AS span, moment_minute(phantom_now()) AS minute,
        to_timestamp(floor(date_part('epoch', phantom_now()) / 60) * 60 + 60) AS minute_ends
), counted AS MATERIALIZED (
    SELECT k.part, k.place, k.ghosts, k.failed FROM ghost_counts k WHERE k.merchant_id = @merchant_id AND k.part IN ('span', 'minute')
    UNION ALL
    SELECT p.part, p.place, p.ghosts, p.failed
    FROM ghost_changes c CROSS JOIN LATERAL ghost_change_parts(c) AS p
    WHERE c.merchant_id = @merchant_id AND p.part IN ('span', 'minute')
), spans AS MATERIALIZED ( -- back: how many spans ago
    SELECT clock.span - place AS back, ghosts, failed FROM counted, clock WHERE part = 'span'
), young AS (
    SELECT count(*) FILTER (WHERE d.days = 8) AS under8, count(*) FILTER (WHERE d.days = 31) AS under31,
        count(*) FILTER (WHERE d.days = 91) AS under91, count(*) FILTER (WHERE d.days = 366) AS under366
    FROM clock CROSS JOIN (VALUES (8), (31), (91), (366)) AS d (days)
    CROSS JOIN LATERAL (
        SELECT 1 FROM ghost_targets g
        WHERE g.merchant_id = @merchant_id
            AND owed_moment(g.status, g.kind, g.first_failed_at, g.discovered_at) > clock.now - make_interval(hours => 24 * d.days)
            AND owed_moment(g.status, g.kind, g.first_failed_at, g.discovered_at) < to_timestamp((clock.span - 6 * d.days + 1) * 14400.0)
        OFFSET 0) AS one
), minutes AS ( -- that are still to come of these four hours, on any day
    SELECT coalesce(sum(failed), 0) AS failed FROM counted, clock
    WHERE part = 'minute' AND place > clock.minute AND place < (clock.span % 6 + 1) * 240
), this_minute AS (
    SELECT count(*) AS failed
    FROM clock CROSS JOIN (SELECT DISTINCT back FROM spans WHERE back > 0 AND back % 6 = 0) AS s
    CROSS JOIN LATERAL (
        SELECT 1 FROM ghost_targets g
        WHERE g.merchant_id = @merchant_id AND g.first_failed_at IS NOT NULL
            AND owed_moment(g.status, g.kind, g.first_failed_at, g.discovered_at) > clock.now - make_interval(hours => 4 * s.back)
            AND owed_moment(g.status, g.kind, g.first_failed_at, g.discovered_at) < clock.minute_ends - make_interval(hours => 4 * s.back)
        OFFSET 0) AS one
), to_come AS ( -- and counted among the minutes
    SELECT count(*) AS failed FROM clock CROSS JOIN LATERAL (
        SELECT 1 FROM ghost_targets g
        WHERE g.merchant_id = @merchant_id AND g.first_failed_at IS NOT NULL
            AND owed_moment(g.status, g.kind, g.first_failed_at, g.discovered_at) > clock.now
            AND owed_moment(g.status, g.kind, g.first_failed_at, g.discovered_at) < clock.now + interval '1000 years'
            AND (moment_span(g.first_failed_at) - clock.span) % 6 = 0 AND moment_minute(g.first_failed_at) > clock.minute
        OFFSET 0) AS one
)
SELECT coalesce(sum(ghosts), 0)::bigint AS ghosts,
    (coalesce(sum(ghosts) FILTER (WHERE back / 6 < 8), 0) + (SELECT under8 FROM young))::bigint AS under8,
    (coalesce(sum(ghosts) FILTER (WHERE back / 6 < 31), 0) + (SELECT under31 FROM young))::bigint AS under31,
    (coalesce(sum(ghosts) FILTER (WHERE back / 6 < 91), 0) + (SELECT under91 FROM young))::bigint AS under91,
    (coalesce(sum(ghosts) FILTER (WHERE back / 6 < 366), 0) + (SELECT under366 FROM young))::bigint AS under366,
    (coalesce(sum(failed * greatest(back / 6, 0)), 0) - (SELECT failed FROM minutes) - (SELECT failed FROM this_minute)
        + (SELECT failed FROM to_come))::bigint AS days
FROM spans;

-- name: GhostFoldTryLock :one
-- Who counts for a merchant, until the transaction ends: two would wait for each other's rows.
SELECT pg_try_advisory_xact_lock(hashtextextended('fold ' || sqlc.arg(merchant_id)::uuid, 0)) AS locked;

-- name: GhostFold :one
-- Moves what has changed to what is counted. Only what it has deleted is added: nothing counts
-- twice.
WITH gone AS (
    DELETE FROM ghost_changes d WHERE d.merchant_id = @merchant_id AND d.id = ANY (ARRAY(
        SELECT c.id FROM ghost_changes c WHERE c.merchant_id = @merchant_id ORDER BY c.id LIMIT sqlc.arg(batch)::int))
    RETURNING d.*
), counted AS (
    INSERT INTO ghost_counts AS c (merchant_id, part, name, place, ghosts, hidden, failed, owed)
    SELECT @merchant_id, p.part, p.name, p.place, sum(p.ghosts), sum(p.hidden), sum(p.failed), sum(p.owed)
    FROM gone CROSS JOIN LATERAL ghost_change_parts(ROW(gone.*)::ghost_changes) AS p
    GROUP BY p.part, p.name, p.place
    HAVING (sum(p.ghosts), sum(p.hidden), sum(p.failed), sum(p.owed)) <> (0, 0, 0, 0)
    ORDER BY p.part, p.name, p.place
    ON CONFLICT (merchant_id, part, name, place) DO UPDATE SET ghosts = c.ghosts + excluded.ghosts, hidden = c.hidden + excluded.hidden,
        failed = c.failed + excluded.failed, owed = c.owed + excluded.owed
)
SELECT count(*) FROM gone;

-- name: GhostFoldMerchants :many
-- Who has changes, one probe for each.
WITH RECURSIVE hop AS (
    (SELECT merchant_id FROM ghost_changes ORDER BY merchant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT c.merchant_id FROM ghost_changes c WHERE c.merchant_id > hop.merchant_id ORDER BY c.merchant_id LIMIT 1)
    FROM hop WHERE hop.merchant_id IS NOT NULL
)
SELECT merchant_id::uuid AS merchant_id FROM hop WHERE merchant_id IS NOT NULL ORDER BY merchant_id;

-- name: GhostDropEmptyCounts :exec
DELETE FROM ghost_counts WHERE merchant_id = $1 AND (ghosts, hidden, failed, owed) = (0, 0, 0, 0);

-- name: AuditReadWasted :one
-- Of the latest audit that has counted them over the whole history, in the mode the merchant works
-- in.
SELECT (a.totals ->> 'wasted_attempts')::bigint AS wasted_attempts
FROM audits a JOIN merchants m ON m.id = a.merchant_id AND m.livemode = a.livemode
WHERE a.merchant_id = @merchant_id AND a.state = 'succeeded' AND a.since IS NULL AND a.totals ->> 'wasted_attempts' IS NOT NULL
ORDER BY a.id DESC
LIMIT 1;

-- name: AuditRead :one
SELECT a.id, a.state, a.totals, a.error,
    greatest(a.objects, w.objects)::bigint AS objects, w.windows, w.windows_done
FROM audits a,
    LATERAL (
        SELECT coalesce(sum(objects), 0)::bigint AS objects, count(*) AS windows, count(*) FILTER (WHERE state = 'done') AS windows_done
        FROM audit_windows WHERE merchant_id = a.merchant_id AND audit_id = a.id) w
WHERE a.merchant_id = @merchant_id AND a.id = @id;
