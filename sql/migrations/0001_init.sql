-- PHANTOM's first schema. docs/adr/0001 presents it with its reasons.

-- A value that the vault sealed. ciphertext, iv and tag are lower-case hex; context names the place
-- that the value belongs to, 'table.column:key', and is authenticated with it.
CREATE TYPE sealed_token AS (ciphertext text, iv text, tag text, key_id text, context text);

-- True only for a value that has the shape the vault gives it and stands in the place it was sealed
-- for. Never NULL, so that a CHECK built on it lets no NULL field through. Every operator and
-- function is named with its schema: anyone who writes a row chooses the search_path, and could put
-- an operator of their own before PostgreSQL's. PL/pgSQL, because it keeps its plan for the
-- session, while a function in SQL is planned again for every INSERT.
CREATE FUNCTION is_sealed(value sealed_token, place text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $$
    BEGIN
        RETURN coalesce(
            (value.ciphertext OPERATOR(pg_catalog.||) value.iv OPERATOR(pg_catalog.||) value.tag OPERATOR(pg_catalog.||) value.key_id)
                OPERATOR(pg_catalog.~) '^[0-9a-f]+$'
            AND pg_catalog.length(value.ciphertext) OPERATOR(pg_catalog.>=) 2
            AND pg_catalog.length(value.ciphertext) OPERATOR(pg_catalog.%) 2 OPERATOR(pg_catalog.=) 0
            AND pg_catalog.length(value.iv) OPERATOR(pg_catalog.=) 32
            AND pg_catalog.length(value.tag) OPERATOR(pg_catalog.=) 32
            AND pg_catalog.length(value.key_id) OPERATOR(pg_catalog.=) 8
            AND value.context OPERATOR(pg_catalog.=) place,
            false);
    END $$;

-- PHANTOM's clock for everything that is planned in days: run_at, ages, quiet hours, purge. Leases,
-- OAuth states and signatures use clock_timestamp().
CREATE FUNCTION phantom_now() RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN now();

-- One row for each key that has sealed something here. A keyring that cannot open every row does
-- not belong to this database. Every sealed column has a generated column_key_id that refers to
-- this table: nothing is sealed under a key without a row, and the row stays as long as anything
-- is.
CREATE TABLE vault_sentinels (
    key_id text PRIMARY KEY,
    sentinel sealed_token NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT vault_sentinels_key_id_hex CHECK (key_id ~ '^[0-9a-f]{8}$'),
    CONSTRAINT vault_sentinels_sentinel_sealed
        CHECK (is_sealed(sentinel, 'vault_sentinels.sentinel:' || key_id) AND (sentinel).key_id = key_id)
);

CREATE TABLE merchants (
    id uuid PRIMARY KEY,
    stripe_user_id text NOT NULL,
    stripe_connect_id text GENERATED ALWAYS AS (stripe_user_id) STORED,
    access_token sealed_token,
    refresh_token sealed_token,
    access_token_key_id text GENERATED ALWAYS AS ((access_token).key_id) STORED,
    refresh_token_key_id text GENERATED ALWAYS AS ((refresh_token).key_id) STORED,
    encrypted_token text GENERATED ALWAYS AS ((access_token).ciphertext) STORED,
    iv text GENERATED ALWAYS AS ((access_token).iv) STORED,
    tag text GENERATED ALWAYS AS ((access_token).tag) STORED,
    encrypted_refresh_token text GENERATED ALWAYS AS ((refresh_token).ciphertext) STORED,
    refresh_iv text GENERATED ALWAYS AS ((refresh_token).iv) STORED,
    refresh_tag text GENERATED ALWAYS AS ((refresh_token).tag) STORED,
    scope text NOT NULL,
    livemode boolean NOT NULL,
    business_category text,
    country text,
    default_currency text,
    timezone text,
    connected_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    disconnected_at timestamptz,
    CONSTRAINT merchants_stripe_user_id_key UNIQUE (stripe_user_id),
    CONSTRAINT merchants_access_token_key_known FOREIGN KEY (access_token_key_id) REFERENCES vault_sentinels (key_id),
    CONSTRAINT merchants_refresh_token_key_known FOREIGN KEY (refresh_token_key_id) REFERENCES vault_sentinels (key_id),
    CONSTRAINT merchants_stripe_user_id_account CHECK (stripe_user_id ~ '^acct_[A-Za-z0-9]{1,64}$'),
    -- IS NOT DISTINCT FROM NULL, because a composite of NULL fields also "IS NULL".
    CONSTRAINT merchants_access_token_sealed CHECK (
        CASE WHEN access_token IS NOT DISTINCT FROM NULL THEN disconnected_at IS NOT NULL
        ELSE is_sealed(access_token, 'merchants.access_token:' || stripe_user_id) END),
    CONSTRAINT merchants_refresh_token_sealed CHECK (
        CASE WHEN refresh_token IS NOT DISTINCT FROM NULL THEN true
        ELSE is_sealed(refresh_token, 'merchants.refresh_token:' || stripe_user_id) END),
    CONSTRAINT merchants_scope_known CHECK (scope IN ('read_write', 'read_only')),
    CONSTRAINT merchants_business_category_known CHECK (business_category IN (
        'software', 'media', 'education', 'health', 'professional_services', 'retail', 'food', 'travel', 'finance',
        'nonprofit', 'other')),
    CONSTRAINT merchants_country_iso CHECK (country ~ '^[A-Z]{2}$'),
    CONSTRAINT merchants_default_currency_iso CHECK (default_currency ~ '^[a-z]{3}$'),
    CONSTRAINT merchants_timezone_name CHECK (timezone ~ '^[A-Za-z0-9_+/-]{1,64}$'),
    CONSTRAINT merchants_times_finite
        CHECK (isfinite(connected_at) AND isfinite(updated_at) AND isfinite(coalesce(disconnected_at, connected_at)))
);
-- An IV that repeats under one key would break GCM. These indexes also find the rows that an old
-- key sealed.
CREATE UNIQUE INDEX merchants_access_token_iv_key ON merchants (access_token_key_id, ((access_token).iv));
CREATE UNIQUE INDEX merchants_refresh_token_iv_key ON merchants (refresh_token_key_id, ((refresh_token).iv));

CREATE TABLE oauth_states (
    state_hash bytea PRIMARY KEY,
    browser_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL DEFAULT clock_timestamp() + interval '10 minutes',
    CONSTRAINT oauth_states_state_hash_sha256 CHECK (octet_length(state_hash) = 32),
    CONSTRAINT oauth_states_browser_hash_sha256 CHECK (octet_length(browser_hash) = 32),
    CONSTRAINT oauth_states_lifetime
        CHECK (expires_at > created_at AND expires_at <= created_at + interval '11 minutes')
);
CREATE INDEX oauth_states_expires_at_idx ON oauth_states (expires_at);

-- One row for each customer, subscription and currency that owes after a failed payment. Amounts
-- are in minor units.
CREATE TABLE ghost_targets (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    id uuid NOT NULL,
    stripe_customer_id text NOT NULL,
    stripe_subscription_id text NOT NULL,
    stripe_invoice_id text NOT NULL,
    email sealed_token,
    email_key_id text GENERATED ALWAYS AS ((email).key_id) STORED,
    amount bigint NOT NULL,
    currency text NOT NULL,
    access text NOT NULL DEFAULT 'presumed',
    decline_class text NOT NULL DEFAULT 'unknown',
    decline_code text,
    attempt_count integer NOT NULL DEFAULT 0,
    first_failed_at timestamptz,
    last_failed_at timestamptz,
    rule text NOT NULL,
    status text NOT NULL DEFAULT 'open',
    closed_reason text,
    discovered_at timestamptz NOT NULL DEFAULT phantom_now(),
    PRIMARY KEY (merchant_id, id),
    CONSTRAINT ghost_targets_one_per_subscription_and_currency
        UNIQUE (merchant_id, stripe_customer_id, stripe_subscription_id, currency),
    CONSTRAINT ghost_targets_email_key_known FOREIGN KEY (email_key_id) REFERENCES vault_sentinels (key_id),
    CONSTRAINT ghost_targets_rule_named CHECK (rule <> '' AND closed_reason <> ''),
    CONSTRAINT ghost_targets_stripe_ids_length CHECK (
        length(stripe_customer_id) BETWEEN 1 AND 255 AND length(stripe_subscription_id) BETWEEN 1 AND 255
        AND length(stripe_invoice_id) BETWEEN 1 AND 255),
    CONSTRAINT ghost_targets_email_sealed CHECK (
        CASE WHEN email IS NOT DISTINCT FROM NULL THEN true
        ELSE is_sealed(email, 'ghost_targets.email:' || id::text) END),
    CONSTRAINT ghost_targets_amount_positive CHECK (amount >= 0 AND (amount > 0 OR status = 'closed')),
    CONSTRAINT ghost_targets_currency_iso CHECK (currency ~ '^[a-z]{3}$'),
    CONSTRAINT ghost_targets_access_known CHECK (access IN ('presumed', 'proven')),
    CONSTRAINT ghost_targets_decline_class_known
        CHECK (decline_class IN ('never', 'customer', 'timed', 'low', 'soon', 'unknown')),
    CONSTRAINT ghost_targets_attempt_count_not_negative CHECK (attempt_count >= 0),
    CONSTRAINT ghost_targets_failed_in_order CHECK (first_failed_at <= last_failed_at),
    CONSTRAINT ghost_targets_status_known CHECK (status IN ('open', 'closed')),
    CONSTRAINT ghost_targets_closed_with_reason CHECK ((status = 'closed') = (closed_reason IS NOT NULL))
);
CREATE INDEX ghost_targets_discovered_at_idx ON ghost_targets (discovered_at);
CREATE UNIQUE INDEX ghost_targets_email_iv_key ON ghost_targets (email_key_id, ((email).iv));

-- Pooled counts of when charges succeed. No id of anybody, no amount, no exact time.
CREATE TABLE liquidity_oracle (
    business_category text NOT NULL,
    decline_class text NOT NULL,
    action text NOT NULL,
    day_of_week smallint NOT NULL,
    hour_of_day smallint NOT NULL,
    livemode boolean NOT NULL,
    attempts bigint NOT NULL DEFAULT 0,
    successes bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (business_category, decline_class, action, day_of_week, hour_of_day, livemode),
    CONSTRAINT liquidity_oracle_business_category_known CHECK (business_category IN (
        'software', 'media', 'education', 'health', 'professional_services', 'retail', 'food', 'travel', 'finance',
        'nonprofit', 'other')),
    CONSTRAINT liquidity_oracle_decline_class_known
        CHECK (decline_class IN ('never', 'customer', 'timed', 'low', 'soon', 'unknown')),
    CONSTRAINT liquidity_oracle_action_known CHECK (action IN ('charge', 'email', 'sms')),
    CONSTRAINT liquidity_oracle_day_of_week_range CHECK (day_of_week BETWEEN 0 AND 6),
    CONSTRAINT liquidity_oracle_hour_of_day_range CHECK (hour_of_day BETWEEN 0 AND 23),
    CONSTRAINT liquidity_oracle_successes_within_attempts CHECK (successes BETWEEN 0 AND attempts)
);

-- One row for each intended outside effect. Its id is its idempotency key, task_<id>, and params is
-- the frozen request.
CREATE TABLE scheduled_tasks (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    id uuid NOT NULL,
    kind text NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    run_at timestamptz NOT NULL DEFAULT phantom_now(),
    params jsonb NOT NULL DEFAULT '{}',
    sealed_params sealed_token,
    sealed_params_key_id text GENERATED ALWAYS AS ((sealed_params).key_id) STORED,
    attempts integer NOT NULL DEFAULT 0,
    lease_until timestamptz,
    fence bigint NOT NULL DEFAULT 0,
    first_sent_at timestamptz,
    outcome jsonb,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (merchant_id, id),
    -- The key at Stripe is the id alone, so it must not repeat under another merchant.
    CONSTRAINT scheduled_tasks_id_key UNIQUE (id),
    CONSTRAINT scheduled_tasks_sealed_params_key_known FOREIGN KEY (sealed_params_key_id) REFERENCES vault_sentinels (key_id),
    CONSTRAINT scheduled_tasks_kind_name CHECK (kind ~ '^[a-z][a-z_]{0,63}$'),
    CONSTRAINT scheduled_tasks_status_known CHECK (status IN (
        'pending', 'running', 'succeeded', 'failed', 'canceled', 'parked', 'needs_review')),
    CONSTRAINT scheduled_tasks_params_object CHECK (jsonb_typeof(params) = 'object'),
    CONSTRAINT scheduled_tasks_sealed_params_sealed CHECK (
        CASE WHEN sealed_params IS NOT DISTINCT FROM NULL THEN true
        ELSE is_sealed(sealed_params, 'scheduled_tasks.sealed_params:' || id::text) END),
    CONSTRAINT scheduled_tasks_attempts_not_negative CHECK (attempts >= 0 AND fence >= 0),
    CONSTRAINT scheduled_tasks_lease_while_running CHECK ((status = 'running') = (lease_until IS NOT NULL)),
    CONSTRAINT scheduled_tasks_finished_when_final
        CHECK ((status IN ('succeeded', 'failed', 'canceled')) = (finished_at IS NOT NULL))
);
CREATE UNIQUE INDEX scheduled_tasks_sealed_params_iv_key
    ON scheduled_tasks (sealed_params_key_id, ((sealed_params).iv));
