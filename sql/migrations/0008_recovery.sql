-- Stage 3: hunts, what they send to Stripe and to customers, and what that brought. What
-- identifies somebody is sealed, or a keyed hash under the merchant's salt, or goes with the ghost
-- when that is purged.

-- What the merchant wants. A hunt keeps the version that it began with.
CREATE TABLE playbooks (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    version integer NOT NULL,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, version),
    CONSTRAINT playbooks_version_positive CHECK (version > 0),
    CONSTRAINT playbooks_body_object CHECK (jsonb_typeof(body) = 'object')
);

-- A row halts every send: of one merchant, or, with the nil uuid, of all.
CREATE TABLE halts (
    scope uuid PRIMARY KEY,
    halted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The recovery of one ghost. customer is a keyed hash; class, currency and amount are those of the
-- ghost when it began. mode 'observe' plans and touches nothing; a held-out customer is left to
-- what would have happened anyway.
CREATE TABLE hunts (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    id uuid NOT NULL,
    ghost_id uuid NOT NULL,
    customer bytea NOT NULL,
    playbook_version integer NOT NULL,
    mode text NOT NULL,
    held_out boolean NOT NULL,
    state text NOT NULL DEFAULT 'active',
    ended_reason text,
    livemode boolean NOT NULL,
    decline_class text NOT NULL,
    currency text NOT NULL,
    amount bigint NOT NULL,
    invoices text[] NOT NULL DEFAULT '{}',   -- that it is about; emptied by the purge
    charges integer NOT NULL DEFAULT 0,      -- sent
    messages integer NOT NULL DEFAULT 0,     -- sent
    charges_over text,                       -- why no further charge is planned
    paused boolean NOT NULL DEFAULT false,   -- its final step was a pause, which a payment lifts
    began_at timestamptz NOT NULL DEFAULT phantom_now(),
    ended_at timestamptz,
    PRIMARY KEY (merchant_id, id),
    FOREIGN KEY (merchant_id, playbook_version) REFERENCES playbooks (merchant_id, version),
    CONSTRAINT hunts_customer_sha256 CHECK (octet_length(customer) = 32),
    CONSTRAINT hunts_mode_known CHECK (mode IN ('observe', 'recover')),
    CONSTRAINT hunts_state_known CHECK (state IN ('active', 'recovered', 'exhausted', 'stopped')),
    CONSTRAINT hunts_ended_when_final CHECK ((state = 'active') = (ended_at IS NULL)),
    CONSTRAINT hunts_reason_when_final CHECK ((state = 'active') = (ended_reason IS NULL)),
    CONSTRAINT hunts_counts_not_negative CHECK (amount >= 0 AND charges >= 0 AND messages >= 0)
);
CREATE UNIQUE INDEX hunts_one_active_idx ON hunts (merchant_id, ghost_id) WHERE state = 'active';
CREATE INDEX hunts_customer_idx ON hunts (merchant_id, customer);

-- The invoices of a ghost, the oldest first: [{"id", "amount"}], amounts in minor units.
ALTER TABLE ghost_targets ADD COLUMN invoices jsonb NOT NULL DEFAULT '[]';

-- A hunt's history in plain words, without a name or an address.
CREATE TABLE hunt_notes (
    merchant_id uuid NOT NULL,
    hunt_id uuid NOT NULL,
    id uuid NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT phantom_now(),
    task_id uuid,
    note text NOT NULL,
    PRIMARY KEY (merchant_id, hunt_id, id),
    FOREIGN KEY (merchant_id, hunt_id) REFERENCES hunts (merchant_id, id)
);

-- Every mutation of an object at Stripe that was planned, counted by object and action. Never
-- archived: a number is given once, and card networks count. object and customer are keyed hashes.
-- sent_at is by phantom_now(): caps and budgets count by it.
CREATE TABLE attempts (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    object bytea NOT NULL,
    action text NOT NULL,
    number integer NOT NULL,
    task_id uuid NOT NULL,
    hunt_id uuid NOT NULL,
    customer bytea NOT NULL,
    currency text NOT NULL,
    amount bigint NOT NULL,
    reason text NOT NULL,                   -- why this moment
    probability double precision NOT NULL,  -- of this moment being chosen
    planned_for timestamptz NOT NULL,
    sent_at timestamptz,
    result text,
    decline_class text,
    decline_code text,
    PRIMARY KEY (merchant_id, object, action, number),
    CONSTRAINT attempts_task_key UNIQUE (merchant_id, task_id),
    CONSTRAINT attempts_object_sha256 CHECK (octet_length(object) = 32 AND octet_length(customer) = 32),
    CONSTRAINT attempts_number_positive CHECK (number > 0),
    CONSTRAINT attempts_probability_range CHECK (probability > 0 AND probability <= 1),
    CONSTRAINT attempts_result_known CHECK (result IN ('done', 'paid', 'processing', 'declined', 'refused', 'not_sent', 'absent'))
);
CREATE INDEX attempts_hunt_idx ON attempts (merchant_id, hunt_id);
CREATE INDEX attempts_customer_idx ON attempts (merchant_id, customer, sent_at) WHERE action = 'invoice_pay';
CREATE INDEX attempts_sent_idx ON attempts (merchant_id, sent_at) WHERE action = 'invoice_pay';

-- Each paid invoice of a hunt, once. cause says what came before it: our charge, our message, or
-- nothing of ours.
CREATE TABLE recoveries (
    merchant_id uuid NOT NULL,
    invoice bytea NOT NULL,
    hunt_id uuid NOT NULL,
    currency text NOT NULL,
    amount bigint NOT NULL,
    cause text NOT NULL,
    recovered_at timestamptz NOT NULL,
    PRIMARY KEY (merchant_id, invoice),
    FOREIGN KEY (merchant_id, hunt_id) REFERENCES hunts (merchant_id, id),
    CONSTRAINT recoveries_cause_known CHECK (cause IN ('charge', 'email', 'sms', 'anyway')),
    CONSTRAINT recoveries_amount_positive CHECK (amount > 0)
);
CREATE INDEX recoveries_hunt_idx ON recoveries (merchant_id, hunt_id);

-- The merchant's own accounts with Resend and Twilio. account is Twilio's account_sid.
CREATE TABLE channels (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    provider text NOT NULL,
    account text NOT NULL DEFAULT '',
    sender text NOT NULL,
    secret sealed_token NOT NULL,
    secret_key_id text GENERATED ALWAYS AS ((secret).key_id) STORED,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, provider),
    CONSTRAINT channels_provider_known CHECK (provider IN ('resend', 'twilio')),
    CONSTRAINT channels_secret_key_known FOREIGN KEY (secret_key_id) REFERENCES vault_sentinels (key_id),
    CONSTRAINT channels_secret_sealed CHECK (is_sealed(secret, 'channels.secret:' || merchant_id::text || '/' || provider))
);
CREATE UNIQUE INDEX channels_secret_iv_key ON channels (secret_key_id, ((secret).iv));

-- The merchant's own wording, where they do not take ours. html is '' for an SMS.
CREATE TABLE templates (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    channel text NOT NULL,
    name text NOT NULL,
    subject text NOT NULL,
    html text NOT NULL,
    body text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, channel, name),
    CONSTRAINT templates_channel_known CHECK (channel IN ('email', 'sms'))
);

-- Every message that was planned; its id is its task's. person is a keyed hash of the address. A
-- frequency cap counts by persons: that hash, the customer's, and of an SMS the email's too, so
-- that it holds over all hunts of one person, over both channels and over a purge. sent_at comes
-- before the first send.
CREATE TABLE messages (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    id uuid NOT NULL,
    hunt_id uuid NOT NULL,
    step integer NOT NULL,
    channel text NOT NULL,
    template text NOT NULL,
    person bytea,           -- once the address is known
    persons bytea[] NOT NULL DEFAULT '{}',
    state text NOT NULL DEFAULT 'planned',
    why text,
    planned_for timestamptz NOT NULL,
    sent_at timestamptz,
    PRIMARY KEY (merchant_id, id),
    CONSTRAINT messages_one_per_step UNIQUE (merchant_id, hunt_id, step),
    CONSTRAINT messages_channel_known CHECK (channel IN ('email', 'sms')),
    CONSTRAINT messages_person_sha256 CHECK (octet_length(person) = 32),
    CONSTRAINT messages_person_counted CHECK (person IS NOT DISTINCT FROM NULL OR person = ANY (persons)),
    CONSTRAINT messages_state_known CHECK (state IN ('planned', 'sending', 'sent', 'skipped', 'failed', 'unclear'))
);
CREATE INDEX messages_persons_idx ON messages USING gin (persons) WHERE sent_at IS NOT NULL;

-- Test messages to a merchant himself, to count those of a day.
CREATE TABLE test_messages (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    id uuid NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, id)
);

-- Who must not be written to any more. Outlives the purge.
CREATE TABLE suppressions (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    channel text NOT NULL,
    person bytea NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, channel, person),
    CONSTRAINT suppressions_channel_known CHECK (channel IN ('email', 'sms')),
    CONSTRAINT suppressions_person_sha256 CHECK (octet_length(person) = 32)
);
