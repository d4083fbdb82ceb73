---- tern: disable-tx ----
-- What GET /api/summary adds up is counted by the database itself, in the transaction of each
-- change, and filters of GET /api/ghosts have an index: docs/adr/0010. Each statement stands for
-- itself, so that none holds a lock while another one reads a large table, and may be run again.

-- What open ghosts come to. part is a kind of debts, whose names are currencies; 'class', whose
-- names are decline classes; 'span', four hours of the ghosts' moments, place being their number
-- since 1970; or 'minute', place being a minute of the UTC day. The last three are of kind owed. A
-- ghost's moment is its first failure, or else its discovery.
CREATE TABLE IF NOT EXISTS ghost_counts (
    merchant_id uuid NOT NULL,
    part text NOT NULL,
    name text COLLATE "C" NOT NULL DEFAULT '',
    place integer NOT NULL DEFAULT 0,
    ghosts bigint NOT NULL,
    hidden bigint NOT NULL,
    failed bigint NOT NULL, -- that have had a failure
    owed bigint NOT NULL,   -- minor units
    PRIMARY KEY (merchant_id, part, name, place)
);

-- What has changed and is not in ghost_counts yet: added, never updated, so that writers do not
-- wait for each other. The truth is the sum of both. came and went are moments, of kind owed.
CREATE TABLE IF NOT EXISTS ghost_changes (
    merchant_id uuid NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL,
    currency text NOT NULL,
    decline_class text NOT NULL,
    failed boolean NOT NULL,
    ghosts bigint NOT NULL,
    hidden bigint NOT NULL,
    owed bigint NOT NULL,
    came timestamptz[],
    went timestamptz[],
    PRIMARY KEY (merchant_id, id)
);

CREATE OR REPLACE FUNCTION moment_span(moment timestamptz) RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE
    RETURN floor(date_part('epoch', moment) / 14400)::integer;
CREATE OR REPLACE FUNCTION moment_minute(moment timestamptz) RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (floor(date_part('epoch', moment) / 60)::bigint % 1440 + 1440) % 1440;

-- The moment of an open ghost of kind owed, NULL for any other. Queries ask for it by this alone,
-- so that the planner has one index to choose.
CREATE OR REPLACE FUNCTION owed_moment(status text, kind text, first_failed_at timestamptz, discovered_at timestamptz)
    RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN status = 'open' AND kind = 'owed' THEN coalesce(first_failed_at, discovered_at) END;

CREATE OR REPLACE FUNCTION ghosts_came() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ghost_changes (merchant_id, kind, currency, decline_class, failed, ghosts, hidden, owed, came)
    SELECT merchant_id, kind, currency, decline_class, first_failed_at IS NOT NULL,
        count(*), count(*) FILTER (WHERE hidden), sum(amount)::bigint,
        array_agg(coalesce(first_failed_at, discovered_at)) FILTER (WHERE kind = 'owed')
    FROM after WHERE status = 'open'
    GROUP BY merchant_id, kind, currency, decline_class, first_failed_at IS NOT NULL;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION ghosts_went() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ghost_changes (merchant_id, kind, currency, decline_class, failed, ghosts, hidden, owed, went)
    SELECT merchant_id, kind, currency, decline_class, first_failed_at IS NOT NULL,
        -count(*), -count(*) FILTER (WHERE hidden), -sum(amount)::bigint,
        array_agg(coalesce(first_failed_at, discovered_at)) FILTER (WHERE kind = 'owed')
    FROM before WHERE status = 'open'
    GROUP BY merchant_id, kind, currency, decline_class, first_failed_at IS NOT NULL;
    RETURN NULL;
END $$;

-- What is counted alike before and after cancels out, and is not written.
CREATE OR REPLACE FUNCTION ghosts_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ghost_changes (merchant_id, kind, currency, decline_class, failed, ghosts, hidden, owed, came, went)
    SELECT merchant_id, kind, currency, decline_class, failed,
        sum(n), coalesce(sum(n) FILTER (WHERE hidden), 0), sum(n * amount)::bigint,
        array_agg(moment) FILTER (WHERE kind = 'owed' AND n > 0), array_agg(moment) FILTER (WHERE kind = 'owed' AND n < 0)
    FROM (
        SELECT merchant_id, id, kind, currency, decline_class, hidden, amount, first_failed_at IS NOT NULL AS failed,
            coalesce(first_failed_at, discovered_at) AS moment, sum(n) AS n
        FROM (SELECT b.*, -1 AS n FROM before b UNION ALL SELECT a.*, 1 FROM after a) AS both_sides
        WHERE status = 'open'
        GROUP BY merchant_id, id, kind, currency, decline_class, hidden, amount, first_failed_at IS NOT NULL,
            coalesce(first_failed_at, discovered_at)
        HAVING sum(n) <> 0) AS change
    GROUP BY merchant_id, kind, currency, decline_class, failed;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION ghosts_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE ghost_counts, ghost_changes;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER ghosts_came AFTER INSERT ON ghost_targets REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION ghosts_came();
CREATE OR REPLACE TRIGGER ghosts_went AFTER DELETE ON ghost_targets REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION ghosts_went();
CREATE OR REPLACE TRIGGER ghosts_changed AFTER UPDATE ON ghost_targets REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION ghosts_changed();
CREATE OR REPLACE TRIGGER ghosts_emptied AFTER TRUNCATE ON ghost_targets
    FOR EACH STATEMENT EXECUTE FUNCTION ghosts_emptied();

-- What the ghosts of one moment come to, and what is counted of them at that moment. The difference
-- between the two stays the same while others write and fold, so that it can be added without a
-- lock.
CREATE OR REPLACE VIEW ghost_counts_computed AS
    SELECT merchant_id, kind AS part, currency COLLATE "C" AS name, 0 AS place, count(*) AS ghosts,
        count(*) FILTER (WHERE hidden) AS hidden, count(first_failed_at) AS failed, sum(amount)::bigint AS owed
    FROM ghost_targets WHERE status = 'open' GROUP BY merchant_id, kind, currency
    UNION ALL
    SELECT merchant_id, 'class', decline_class, 0, count(*), count(*) FILTER (WHERE hidden), count(first_failed_at), sum(amount)::bigint
    FROM ghost_targets WHERE status = 'open' AND kind = 'owed' GROUP BY merchant_id, decline_class
    UNION ALL
    SELECT merchant_id, 'span', '', moment_span(coalesce(first_failed_at, discovered_at)), count(*), 0, count(first_failed_at), 0
    FROM ghost_targets WHERE status = 'open' AND kind = 'owed' GROUP BY merchant_id, 4
    UNION ALL
    SELECT merchant_id, 'minute', '', moment_minute(first_failed_at), count(*), 0, count(*), 0
    FROM ghost_targets WHERE status = 'open' AND kind = 'owed' AND first_failed_at IS NOT NULL GROUP BY merchant_id, 4;

-- What a row of ghost_changes adds to rows of ghost_counts.
CREATE OR REPLACE FUNCTION ghost_change_parts(change ghost_changes)
    RETURNS TABLE (part text, name text, place integer, ghosts bigint, hidden bigint, failed bigint, owed bigint)
    LANGUAGE sql STABLE ROWS 10 AS $$
    SELECT (change).kind, (change).currency, 0, (change).ghosts, (change).hidden,
        CASE WHEN (change).failed THEN (change).ghosts ELSE 0 END, (change).owed
    UNION ALL
    SELECT 'class', (change).decline_class, 0, (change).ghosts, (change).hidden,
        CASE WHEN (change).failed THEN (change).ghosts ELSE 0 END, (change).owed
    WHERE (change).kind = 'owed'
    UNION ALL
    SELECT at.part, '', CASE at.part WHEN 'span' THEN moment_span(m.moment) ELSE moment_minute(m.moment) END,
        sum(m.n), 0, CASE WHEN (change).failed THEN sum(m.n) ELSE 0 END, 0
    FROM (SELECT unnest((change).came), 1 UNION ALL SELECT unnest((change).went), -1) AS m (moment, n)
    CROSS JOIN (VALUES ('span'), ('minute')) AS at (part)
    WHERE (change).kind = 'owed' AND (at.part = 'span' OR (change).failed)
    GROUP BY 1, 3
$$;

-- The rows of before. Where all is counted already, this adds nothing.
INSERT INTO ghost_counts AS c (merchant_id, part, name, place, ghosts, hidden, failed, owed)
SELECT merchant_id, part, name, place, sum(ghosts), sum(hidden), sum(failed), sum(owed) FROM (
    SELECT merchant_id, part, name, place, ghosts, hidden, failed, owed FROM ghost_counts_computed
    UNION ALL
    SELECT merchant_id, part, name, place, -ghosts, -hidden, -failed, -owed FROM ghost_counts
    UNION ALL
    SELECT c.merchant_id, p.part, p.name, p.place, -p.ghosts, -p.hidden, -p.failed, -p.owed
    FROM ghost_changes c CROSS JOIN LATERAL ghost_change_parts(c) AS p) AS missing
GROUP BY merchant_id, part, name, place
HAVING (sum(ghosts), sum(hidden), sum(failed), sum(owed)) <> (0, 0, 0, 0)
ON CONFLICT (merchant_id, part, name, place) DO UPDATE SET ghosts = c.ghosts + excluded.ghosts, hidden = c.hidden + excluded.hidden,
    failed = c.failed + excluded.failed, owed = c.owed + excluded.owed;

-- POST /api/hunts for all ghosts, and what a playbook in mode recover with auto begins: how far it
-- has come. Its id is its task's.
CREATE TABLE IF NOT EXISTS hunt_starts (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    id uuid NOT NULL,
    auto boolean NOT NULL,
    livemode boolean NOT NULL,
    playbook_version integer NOT NULL,     -- it was asked for with; 0: auto, the newest
    state text NOT NULL DEFAULT 'running',
    ghosts bigint NOT NULL,                -- open when it was asked for
    looked_at bigint NOT NULL DEFAULT 0,   -- open ones
    hunts bigint NOT NULL DEFAULT 0,
    held_out bigint NOT NULL DEFAULT 0,
    skipped bigint NOT NULL DEFAULT 0,
    after uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000', -- the last ghost seen
    error text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (merchant_id, id),
    CONSTRAINT hunt_starts_state_known CHECK (state IN ('running', 'succeeded', 'stopped', 'failed')),
    CONSTRAINT hunt_starts_finished_when_final CHECK ((state = 'running') = (finished_at IS NULL)),
    CONSTRAINT hunt_starts_error_when_in_vain CHECK ((state IN ('stopped', 'failed')) = (error IS NOT NULL))
);
CREATE UNIQUE INDEX IF NOT EXISTS hunt_starts_one_running_idx ON hunt_starts (merchant_id) WHERE state = 'running' AND NOT auto;

-- Nobody waits for these two, however long they take and wait: no lock_timeout. One that was broken
-- off is not valid, and begins anew.
SET lock_timeout = 0;
DROP INDEX CONCURRENTLY IF EXISTS ghost_targets_filter_idx;
CREATE INDEX CONCURRENTLY ghost_targets_filter_idx ON ghost_targets (merchant_id, kind, status, currency, decline_class, id) INCLUDE (amount);
DROP INDEX CONCURRENTLY IF EXISTS ghost_targets_moment_idx;
CREATE INDEX CONCURRENTLY ghost_targets_moment_idx ON ghost_targets (merchant_id, owed_moment(status, kind, first_failed_at, discovered_at))
    WHERE owed_moment(status, kind, first_failed_at, discovered_at) IS NOT NULL;
