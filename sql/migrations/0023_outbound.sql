-- Where a merchant's app is told what has happened, by Standard Webhooks: docs/adr/0024.
CREATE TABLE event_endpoints (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    id uuid NOT NULL,
    url text NOT NULL,
    types text[] NOT NULL DEFAULT '{}', -- of events; none: all
    secret sealed_token NOT NULL,
    secret_key_id text GENERATED ALWAYS AS ((secret).key_id) STORED,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    disabled_at timestamptz,
    disabled_why text,
    PRIMARY KEY (merchant_id, id),
    CONSTRAINT event_endpoints_secret_key_known FOREIGN KEY (secret_key_id) REFERENCES vault_sentinels (key_id),
    CONSTRAINT event_endpoints_secret_sealed CHECK (is_sealed(secret, 'event_endpoints.secret:' || id::text)),
    CONSTRAINT event_endpoints_disabled_why CHECK ((disabled_at IS NULL) = (disabled_why IS NULL))
);
CREATE UNIQUE INDEX event_endpoints_secret_iv_key ON event_endpoints (secret_key_id, ((secret).iv));

-- One event to one endpoint. Its id is its task's, and stands in webhook-id. The body holds
-- Stripe's ids, and goes when it has arrived or been given up.
CREATE TABLE event_deliveries (
    merchant_id uuid NOT NULL,
    id uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    type text NOT NULL,
    body jsonb,
    state text NOT NULL DEFAULT 'pending',
    attempts integer NOT NULL DEFAULT 0,
    status integer, -- of the last answer
    why text,       -- it did not arrive
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (merchant_id, id),
    FOREIGN KEY (merchant_id, endpoint_id) REFERENCES event_endpoints (merchant_id, id) ON DELETE CASCADE,
    CONSTRAINT event_deliveries_state_known CHECK (state IN ('pending', 'delivered', 'failed')),
    CONSTRAINT event_deliveries_finished_when_final CHECK ((state = 'pending') = (finished_at IS NULL)),
    CONSTRAINT event_deliveries_body_while_pending CHECK ((state = 'pending') = (body IS NOT NULL))
);
CREATE INDEX event_deliveries_endpoint_idx ON event_deliveries (merchant_id, endpoint_id, id);
