-- Stage 2: the audit of a merchant's history, the ghosts it finds, and what keeps the list true
-- afterwards.

-- The salt of every keyed hash that outlives a purge. One per merchant, made once, never changed.
ALTER TABLE merchants
    ADD COLUMN hash_salt sealed_token,
    ADD COLUMN hash_salt_key_id text GENERATED ALWAYS AS ((hash_salt).key_id) STORED,
    ADD CONSTRAINT merchants_hash_salt_key_known FOREIGN KEY (hash_salt_key_id) REFERENCES vault_sentinels (key_id),
    ADD CONSTRAINT merchants_hash_salt_sealed CHECK (
        CASE WHEN hash_salt IS NOT DISTINCT FROM NULL THEN true
        ELSE is_sealed(hash_salt, 'merchants.hash_salt:' || stripe_user_id) END);
CREATE UNIQUE INDEX merchants_hash_salt_iv_key ON merchants (hash_salt_key_id, ((hash_salt).iv));

-- Keys of the merchant API. The key itself is shown once and never stored.
CREATE TABLE api_keys (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    id uuid NOT NULL,
    key_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_used_at timestamptz,
    revoked_at timestamptz,
    PRIMARY KEY (merchant_id, id),
    CONSTRAINT api_keys_key_hash_key UNIQUE (key_hash),
    CONSTRAINT api_keys_key_hash_sha256 CHECK (octet_length(key_hash) = 32)
);

-- One walk over an account's history. Its id is also its task's. Totals are what it found, by
-- currency.
CREATE TABLE audits (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    id uuid NOT NULL,
    state text NOT NULL DEFAULT 'running',
    since timestamptz,
    until timestamptz NOT NULL DEFAULT date_trunc('second', clock_timestamp()),
    ticket bigint NOT NULL,
    livemode boolean NOT NULL,
    objects bigint NOT NULL DEFAULT 0,
    totals jsonb NOT NULL DEFAULT '{}',
    error text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (merchant_id, id),
    CONSTRAINT audits_state_known CHECK (state IN ('running', 'succeeded', 'failed')),
    CONSTRAINT audits_finished_when_final CHECK ((state = 'running') = (finished_at IS NULL)),
    CONSTRAINT audits_error_when_failed CHECK ((state = 'failed') = (error IS NOT NULL))
);
CREATE UNIQUE INDEX audits_one_running_idx ON audits (merchant_id) WHERE state = 'running';

-- A span of created times of one list: from_at <= created < to_at, read newest first. cursor is the
-- last object that is stored; the span behind it is still to be read. A reader with idle neighbours
-- gives the older half of its span away as a new row.
CREATE TABLE audit_windows (
    merchant_id uuid NOT NULL,
    audit_id uuid NOT NULL,
    id uuid NOT NULL,
    list text NOT NULL,
    from_at timestamptz NOT NULL,
    to_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'open',
    cursor text,
    objects bigint NOT NULL DEFAULT 0,
    error text,
    PRIMARY KEY (merchant_id, audit_id, id),
    FOREIGN KEY (merchant_id, audit_id) REFERENCES audits (merchant_id, id),
    CONSTRAINT audit_windows_list_known CHECK (list IN ('subscriptions', 'invoices', 'charges', 'disputes', 'open_invoices')),
    CONSTRAINT audit_windows_span CHECK (from_at < to_at),
    CONSTRAINT audit_windows_state_known CHECK (state IN ('open', 'done', 'failed')),
    CONSTRAINT audit_windows_error_when_failed CHECK ((state = 'failed') = (error IS NOT NULL))
);

-- What an audit has read and not yet judged: facts in their narrowest form, deleted when it ends.
-- Written by COPY, read by one ordered scan; the index is for finding an audit's rows and deleting
-- them.
CREATE TABLE audit_subscriptions (
    merchant_id uuid NOT NULL,
    audit_id uuid NOT NULL,
    id text COLLATE "C" NOT NULL,
    customer text NOT NULL,
    status text NOT NULL,
    paused boolean NOT NULL
);
CREATE INDEX audit_subscriptions_audit_idx ON audit_subscriptions (merchant_id, audit_id);

CREATE TABLE audit_invoices (
    merchant_id uuid NOT NULL,
    audit_id uuid NOT NULL,
    subscription text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    status text NOT NULL,
    created_at timestamptz NOT NULL,
    send_invoice boolean NOT NULL,
    currency text NOT NULL,
    amount_remaining bigint NOT NULL,
    attempt_count integer NOT NULL,
    due_at timestamptz,
    paid_out_of_band boolean NOT NULL,
    email sealed_token, -- of unpaid ones alone
    email_key_id text GENERATED ALWAYS AS ((email).key_id) STORED,
    CONSTRAINT audit_invoices_email_key_known FOREIGN KEY (email_key_id) REFERENCES vault_sentinels (key_id),
    CONSTRAINT audit_invoices_email_sealed CHECK (
        CASE WHEN email IS NOT DISTINCT FROM NULL THEN true ELSE is_sealed(email, 'audit_invoices.email:' || id) END)
);
CREATE INDEX audit_invoices_audit_idx ON audit_invoices (merchant_id, audit_id);
CREATE UNIQUE INDEX audit_invoices_email_iv_key ON audit_invoices (email_key_id, ((email).iv)) WHERE email_key_id IS NOT NULL;

-- The payment intent of each invoice that is open: a payment under way is no debt yet.
CREATE TABLE audit_intents (
    merchant_id uuid NOT NULL,
    audit_id uuid NOT NULL,
    invoice text COLLATE "C" NOT NULL,
    status text NOT NULL
);
CREATE INDEX audit_intents_audit_idx ON audit_intents (merchant_id, audit_id);

-- sequence joins the attempts of one debt: the invoice, or else the payment intent. card is a keyed
-- hash of its fingerprint. day_of_week and hour_of_day are the customer's.
CREATE TABLE audit_charges (
    merchant_id uuid NOT NULL,
    audit_id uuid NOT NULL,
    sequence text COLLATE "C" NOT NULL,
    disputed text COLLATE "C", -- the charge's id, where there is a dispute
    created_at timestamptz NOT NULL,
    outcome text NOT NULL,     -- 'succeeded', 'failed', 'pending' or 'blocked'
    refunded boolean NOT NULL,
    decline_class text,
    decline_code text,
    brand text,
    card bytea,
    day_of_week smallint NOT NULL,
    hour_of_day smallint NOT NULL
);
CREATE INDEX audit_charges_audit_idx ON audit_charges (merchant_id, audit_id);

CREATE TABLE audit_disputes (
    merchant_id uuid NOT NULL,
    audit_id uuid NOT NULL,
    charge text COLLATE "C" NOT NULL,
    is_open boolean NOT NULL
);
CREATE INDEX audit_disputes_audit_idx ON audit_disputes (merchant_id, audit_id);

-- hidden: the latest invoice is paid, so the subscription looks healthy. card_attempts: attempts on
-- the last card within the last 30 days, which the card networks limit. card is a keyed hash.
ALTER TABLE ghost_targets
    ADD COLUMN hidden boolean NOT NULL DEFAULT false,
    ADD COLUMN card bytea,
    ADD COLUMN card_attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN closed_at timestamptz,
    ADD CONSTRAINT ghost_targets_card_attempts_not_negative CHECK (card_attempts >= 0),
    ADD CONSTRAINT ghost_targets_closed_at_when_closed CHECK ((status = 'closed') = (closed_at IS NOT NULL));
CREATE INDEX ghost_targets_subscription_idx ON ghost_targets (merchant_id, stripe_subscription_id);

-- Who reads Stripe's state takes a ticket first and writes what they read only if nobody with a
-- later ticket has written: so the order of events does not matter. The subscription is a keyed
-- hash.
CREATE SEQUENCE ghost_tickets;
CREATE TABLE ghost_refreshes (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    subscription bytea NOT NULL,
    ticket bigint NOT NULL,
    refreshed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, subscription)
);

-- Events of webhooks, so that each has one effect. Never their payload.
CREATE TABLE webhook_events (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    id text NOT NULL,
    type text NOT NULL,
    account text NOT NULL,
    object_id text NOT NULL,
    created_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, id)
);
CREATE INDEX webhook_events_received_at_idx ON webhook_events (received_at);

-- What a purge leaves: under the merchant's salt, how many attempts a customer, an invoice or a
-- card has had.
CREATE TABLE attempt_budgets (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    subject text NOT NULL,
    hash bytea NOT NULL,
    attempts integer NOT NULL,
    last_failed_at timestamptz,
    PRIMARY KEY (merchant_id, subject, hash),
    CONSTRAINT attempt_budgets_subject_known CHECK (subject IN ('customer', 'invoice', 'card')),
    CONSTRAINT attempt_budgets_hash_sha256 CHECK (octet_length(hash) = 32),
    CONSTRAINT attempt_budgets_attempts_not_negative CHECK (attempts >= 0)
);

-- One pace of requests per account, shared by all processes: next_at is when the next request may
-- start. slowed_to and slowed_at say when Stripe last answered 429 and to how many requests a
-- second the pace fell then.
CREATE TABLE stripe_rates (
    merchant_id uuid PRIMARY KEY REFERENCES merchants (id),
    next_at timestamptz NOT NULL,
    slowed_to double precision NOT NULL DEFAULT 'infinity',
    slowed_at timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT stripe_rates_slowed_to_positive CHECK (slowed_to > 0)
);

-- The pace in use now: after a slow-down it doubles every ten seconds, up to most.
CREATE FUNCTION stripe_pace(slowed_to double precision, slowed_at timestamptz, most double precision) RETURNS double precision
    LANGUAGE sql VOLATILE
    RETURN CASE WHEN slowed_at < clock_timestamp() - interval '2 minutes' THEN most
        ELSE least(most, slowed_to * power(2, extract(epoch FROM clock_timestamp() - slowed_at) / 10)) END;

-- 'none': the first attempt of a payment has no failure before it. merchants: how many a cell's
-- counts come from.
ALTER TABLE liquidity_oracle
    ADD COLUMN merchants integer NOT NULL DEFAULT 0,
    DROP CONSTRAINT liquidity_oracle_decline_class_known,
    ADD CONSTRAINT liquidity_oracle_decline_class_known
        CHECK (decline_class IN ('never', 'customer', 'timed', 'low', 'soon', 'unknown', 'none'));

-- Which whole UTC days of a merchant are counted, and privately what they gave to each cell.
CREATE TABLE oracle_days (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    livemode boolean NOT NULL,
    day date NOT NULL,
    PRIMARY KEY (merchant_id, livemode, day)
);
CREATE TABLE oracle_contributions (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    business_category text NOT NULL,
    decline_class text NOT NULL,
    action text NOT NULL,
    day_of_week smallint NOT NULL,
    hour_of_day smallint NOT NULL,
    livemode boolean NOT NULL,
    attempts bigint NOT NULL,
    successes bigint NOT NULL,
    PRIMARY KEY (merchant_id, business_category, decline_class, action, day_of_week, hour_of_day, livemode),
    CONSTRAINT oracle_contributions_successes_within_attempts CHECK (successes BETWEEN 0 AND attempts)
);
