-- Who may keep access, and how much of it: docs/adr/0022 and 0023.

-- What a merchant wants of access. mode is the body's: it says since when it holds.
CREATE TABLE shield_policies (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    version integer NOT NULL,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT phantom_now(),
    PRIMARY KEY (merchant_id, version),
    CONSTRAINT shield_policies_version_positive CHECK (version > 0),
    CONSTRAINT shield_policies_body_object CHECK (jsonb_typeof(body) = 'object')
);

-- One counter for each merchant, raised in the transaction that changes what apps are told. So it
-- is dense, and in the order of commits. Who follows reads everything anew from reload on.
CREATE TABLE shield_revisions (
    merchant_id uuid PRIMARY KEY REFERENCES merchants (id),
    revision bigint NOT NULL DEFAULT 0,
    reload bigint NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- who there is to be lowered, as it was counted last: for the breaker
    customers bigint NOT NULL DEFAULT 0,
    revenue jsonb NOT NULL DEFAULT '{}', -- a month's, in minor units by currency
    counted_at timestamptz NOT NULL DEFAULT 'epoch'
);
CREATE INDEX shield_revisions_changed_idx ON shield_revisions (changed_at);

-- Every subscription with its level. facts are what Stripe said when it was read last, without
-- anything that names a person but the ids. They and the level outlive the ghost's purge, which
-- takes the amounts. A row that is gone waits for those who follow to hear of it.
CREATE TABLE shield_states (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    subscription text COLLATE "C" NOT NULL,
    customer text COLLATE "C" NOT NULL,
    livemode boolean NOT NULL,
    facts jsonb NOT NULL,
    ticket bigint NOT NULL,              -- of the reading, as ghost_refreshes has it
    told_at timestamptz NOT NULL,
    gone boolean NOT NULL DEFAULT false,
    shown text COLLATE "C" NOT NULL DEFAULT '', -- customer and product as apps were told them
    level text NOT NULL DEFAULT 'full',
    reason text NOT NULL DEFAULT '',
    since timestamptz NOT NULL DEFAULT phantom_now(),
    target text NOT NULL DEFAULT 'full', -- where the policy leads
    held boolean NOT NULL DEFAULT false, -- by the breaker
    spared boolean NOT NULL DEFAULT false, -- a person has said that this debt lowers nothing more
    passed boolean NOT NULL DEFAULT false, -- a person has said that it goes where the policy leads
    provisional_until timestamptz,       -- a payment was announced: full until then at least
    lowered_at timestamptz,              -- by a debt
    in_debt boolean NOT NULL DEFAULT false,
    lowest text NOT NULL DEFAULT 'full', -- to which this debt has lowered it
    held_at text,                        -- the level when a dispute or a write-off began to hold it
    debt_ended_at timestamptz,
    reached integer NOT NULL DEFAULT 0,  -- days of the ladder that the last debt had come to
    ahead jsonb NOT NULL DEFAULT '[]',   -- levels to which time alone leads
    next_at timestamptz,                 -- when time alone may change something
    policy_version integer NOT NULL DEFAULT 0,
    revision bigint NOT NULL DEFAULT 0,
    ended boolean NOT NULL GENERATED ALWAYS AS (coalesce(facts ->> 'service' = 'ended', false)) STORED,
    monthly bigint NOT NULL GENERATED ALWAYS AS (coalesce((facts ->> 'monthly')::bigint, 0)) STORED,
    currency text NOT NULL GENERATED ALWAYS AS (coalesce(facts ->> 'currency', '')) STORED,
    PRIMARY KEY (merchant_id, subscription),
    CONSTRAINT shield_states_levels_known CHECK (
        level IN ('full', 'notice', 'grace', 'limited', 'blocked') AND target IN ('full', 'notice', 'grace', 'limited', 'blocked')
        AND lowest IN ('full', 'notice', 'grace', 'limited', 'blocked')
        AND coalesce(held_at, 'full') IN ('full', 'notice', 'grace', 'limited', 'blocked'))
);
CREATE INDEX shield_states_customer_idx ON shield_states (merchant_id, customer);
CREATE INDEX shield_states_revision_idx ON shield_states (merchant_id, revision);
CREATE INDEX shield_states_next_idx ON shield_states (merchant_id, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX shield_states_held_idx ON shield_states (merchant_id, subscription) WHERE held;
-- Most rows change once a week at most, some often: keep room for that on each page.
ALTER TABLE shield_states SET (fillfactor = 90);

-- Each change of a level, for good: why, by which policy, and by which facts. They hold no id of
-- Stripe's but the two that say whose level it is.
CREATE TABLE shield_transitions (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    subscription text COLLATE "C" NOT NULL,
    customer text COLLATE "C" NOT NULL,
    livemode boolean NOT NULL,
    from_level text NOT NULL,
    to_level text NOT NULL,
    reason text NOT NULL,
    enforced boolean NOT NULL,
    -- took access, by no person's word, from somebody who had it: what the breaker counts
    lowered boolean NOT NULL,
    monthly bigint NOT NULL,
    currency text NOT NULL,
    policy_version integer NOT NULL,
    revision bigint NOT NULL,
    facts jsonb NOT NULL,
    PRIMARY KEY (merchant_id, id),
    CONSTRAINT shield_transitions_levels_known CHECK (
        from_level IN ('full', 'notice', 'grace', 'limited', 'blocked') AND to_level IN ('full', 'notice', 'grace', 'limited', 'blocked'))
);
CREATE INDEX shield_transitions_customer_idx ON shield_transitions (merchant_id, customer, id);
CREATE INDEX shield_transitions_lowered_idx ON shield_transitions (merchant_id, at) WHERE lowered;

CREATE FUNCTION shield_transitions_only_grow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.at <= audit_log_cutoff() THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'shield_transitions only grows: % of what is younger than 400 days is refused', TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER shield_transitions_only_grow BEFORE UPDATE OR DELETE ON shield_transitions
    FOR EACH ROW EXECUTE FUNCTION shield_transitions_only_grow();
CREATE TRIGGER shield_transitions_are_not_emptied BEFORE TRUNCATE ON shield_transitions
    FOR EACH STATEMENT EXECUTE FUNCTION shield_transitions_only_grow();

-- What people have decided about a customer, or about one of their subscriptions.
CREATE TABLE shield_decisions (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    id uuid NOT NULL,
    kind text NOT NULL,
    customer text COLLATE "C" NOT NULL,
    subscription text COLLATE "C", -- null: all of the customer's
    level text,                    -- of an override
    until timestamptz,             -- null: until it is taken back
    created_at timestamptz NOT NULL DEFAULT phantom_now(),
    ended_at timestamptz,          -- taken back
    PRIMARY KEY (merchant_id, id),
    CONSTRAINT shield_decisions_kind_known CHECK (kind IN ('override', 'promise', 'exemption')),
    CONSTRAINT shield_decisions_level_of_overrides CHECK (CASE WHEN kind = 'override'
        THEN coalesce(level IN ('full', 'notice', 'grace', 'limited', 'blocked'), false) ELSE level IS NULL END),
    CONSTRAINT shield_decisions_promise_ends CHECK (kind <> 'promise' OR until IS NOT NULL)
);
CREATE INDEX shield_decisions_customer_idx ON shield_decisions (merchant_id, customer, kind, id);

-- The breaker, when it is open: nobody is lowered to limited or blocked until a person says so.
CREATE TABLE shield_holds (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    id uuid NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT phantom_now(),
    closed_at timestamptz,
    outcome text,
    customers bigint NOT NULL, -- who would have been lowered within 24 hours
    of bigint NOT NULL,        -- all of them
    revenue jsonb NOT NULL,    -- a month's, of those who would have been lowered
    PRIMARY KEY (merchant_id, id),
    CONSTRAINT shield_holds_outcome_known CHECK (outcome IN ('released', 'discarded')),
    CONSTRAINT shield_holds_outcome_when_closed CHECK ((closed_at IS NULL) = (outcome IS NULL))
);
CREATE UNIQUE INDEX shield_holds_one_open_idx ON shield_holds (merchant_id) WHERE closed_at IS NULL;

-- What signs verdicts: Ed25519, one pair that signs, one that will, and those that did.
CREATE TABLE shield_keys (
    id text COLLATE "C" PRIMARY KEY,
    secret sealed_token NOT NULL,
    secret_key_id text GENERATED ALWAYS AS ((secret).key_id) STORED,
    public bytea NOT NULL,
    state text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    retired_at timestamptz,
    CONSTRAINT shield_keys_secret_key_known FOREIGN KEY (secret_key_id) REFERENCES vault_sentinels (key_id),
    CONSTRAINT shield_keys_secret_sealed CHECK (is_sealed(secret, 'shield_keys.secret:' || id)),
    CONSTRAINT shield_keys_public_ed25519 CHECK (octet_length(public) = 32),
    CONSTRAINT shield_keys_state_known CHECK (state IN ('next', 'current', 'retired')),
    CONSTRAINT shield_keys_retired_when CHECK ((state = 'retired') = (retired_at IS NOT NULL))
);
CREATE UNIQUE INDEX shield_keys_secret_iv_key ON shield_keys (secret_key_id, ((secret).iv));
CREATE UNIQUE INDEX shield_keys_one_of_each_idx ON shield_keys (state) WHERE state <> 'retired';

-- A key that reads verdicts and nothing else.
ALTER TABLE api_keys
    DROP CONSTRAINT api_keys_scope_known,
    ADD CONSTRAINT api_keys_scope_known CHECK (scope IN ('read', 'write', 'shield'));

-- What the shield asks of a subscription beside what audits have read already.
ALTER TABLE audit_subscriptions
    ADD COLUMN ended_at timestamptz,
    ADD COLUMN pause text NOT NULL DEFAULT '',        -- how collection is paused; '': it is not
    ADD COLUMN paused_by_us boolean NOT NULL DEFAULT false,
    ADD COLUMN monthly bigint NOT NULL DEFAULT 0,     -- what it brings in, in minor units
    ADD COLUMN currency text NOT NULL DEFAULT '';
