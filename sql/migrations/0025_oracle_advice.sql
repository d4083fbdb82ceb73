-- What hunts ask the oracle, what came of it, and whether it may choose: docs/oracle.md.

-- A customer's charges of thirteen months, sealed: for this customer alone. It goes with its ghost.
CREATE TABLE ghost_memories (
    merchant_id uuid NOT NULL,
    ghost_id uuid NOT NULL,
    memory sealed_token NOT NULL,
    memory_key_id text GENERATED ALWAYS AS ((memory).key_id) STORED,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, ghost_id),
    CONSTRAINT ghost_memories_ghost FOREIGN KEY (merchant_id, ghost_id) REFERENCES ghost_targets (merchant_id, id) ON DELETE CASCADE,
    CONSTRAINT ghost_memories_memory_key_known FOREIGN KEY (memory_key_id) REFERENCES vault_sentinels (key_id),
    CONSTRAINT ghost_memories_memory_sealed CHECK (is_sealed(memory, 'ghost_memories.memory:' || ghost_id))
);
CREATE UNIQUE INDEX ghost_memories_memory_iv_key ON ghost_memories (memory_key_id, ((memory).iv));

-- What the oracle has said about a planned charge, no matter who has chosen its moment.
CREATE TABLE oracle_advice (
    merchant_id uuid NOT NULL,
    task_id uuid NOT NULL,
    livemode boolean NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT phantom_now(),
    model bigint NOT NULL,              -- its version; 0: what is known before any charge
    arm text,                           -- NULL: the oracle was not on
    class text NOT NULL,                -- of the last failure
    planned_for timestamptz NOT NULL,   -- the moment that was planned
    p double precision NOT NULL,        -- chance of success then, as are low and high
    low double precision NOT NULL,
    high double precision NOT NULL,
    confidence text NOT NULL,
    -- where a charge at that moment counts; '' once it has, or after 90 days
    cell text COLLATE "C" NOT NULL,
    chosen_for timestamptz,             -- the oracle's moment; NULL: charge no more
    chosen_p double precision NOT NULL,
    propensity double precision NOT NULL,
    reason text NOT NULL,               -- of the oracle's moment; '' once it is 90 days old
    heuristic_for timestamptz NOT NULL, -- what the fixed rules would have chosen
    paid boolean,                       -- NULL: not known, or at another moment
    settled_at timestamptz,
    PRIMARY KEY (merchant_id, task_id),
    CONSTRAINT oracle_advice_attempt FOREIGN KEY (merchant_id, task_id) REFERENCES attempts (merchant_id, task_id) ON DELETE CASCADE,
    CONSTRAINT oracle_advice_arm_known CHECK (arm IN ('oracle', 'heuristic')),
    CONSTRAINT oracle_advice_chances CHECK (p BETWEEN 0 AND 1 AND low BETWEEN 0 AND 1 AND high BETWEEN 0 AND 1 AND chosen_p BETWEEN 0 AND 1),
    CONSTRAINT oracle_advice_propensity_range CHECK (propensity > 0 AND propensity <= 1),
    CONSTRAINT oracle_advice_settled_when CHECK ((paid IS NULL) = (settled_at IS NULL))
);
CREATE INDEX oracle_advice_settled_idx ON oracle_advice (livemode, settled_at) WHERE paid IS NOT NULL;
CREATE INDEX oracle_advice_reason_idx ON oracle_advice (livemode, asked_at) WHERE reason <> '';
CREATE INDEX oracle_advice_merchant_idx ON oracle_advice (merchant_id, settled_at) WHERE paid IS NOT NULL;

-- Who chooses for a hunt's customer, since the oracle was asked about it while it was on.
ALTER TABLE hunts
    ADD COLUMN oracle_arm text,
    ADD CONSTRAINT hunts_oracle_arm_known CHECK (oracle_arm IN ('oracle', 'heuristic'));
CREATE INDEX hunts_oracle_arm_idx ON hunts (livemode, began_at) WHERE oracle_arm IS NOT NULL;

-- Whether the oracle may choose, in each mode. None: it never has.
CREATE TABLE oracle_states (
    livemode boolean PRIMARY KEY,
    state text NOT NULL,
    since timestamptz NOT NULL,
    why text NOT NULL,
    looks integer NOT NULL,             -- at the comparison of its arms, since then
    fortnights integer NOT NULL,        -- of these that were compared, since then
    compared_at timestamptz NOT NULL,   -- the last of them
    falls integer NOT NULL,             -- fallbacks, since it was last on for half a year
    checked_at timestamptz NOT NULL,
    -- settled in the last 28 days, which the next three are about
    charges integer NOT NULL,
    log_loss double precision NOT NULL,
    base_log_loss double precision NOT NULL,
    calibration_error double precision NOT NULL,
    CONSTRAINT oracle_states_state_known CHECK (state IN ('shadow', 'on', 'fallback'))
);
