-- A merchant may be connected by a key of their own account's, without a Connect platform. Their
-- endpoint at Stripe then is their own too, and signs with a secret of its own.
ALTER TABLE merchants ADD COLUMN own_key boolean NOT NULL DEFAULT false;
ALTER TABLE merchants ADD COLUMN webhook_secret sealed_token;
ALTER TABLE merchants ADD COLUMN webhook_secret_key_id text GENERATED ALWAYS AS ((webhook_secret).key_id) STORED;
ALTER TABLE merchants ADD CONSTRAINT merchants_webhook_secret_key_known FOREIGN KEY (webhook_secret_key_id) REFERENCES vault_sentinels (key_id);
ALTER TABLE merchants ADD CONSTRAINT merchants_webhook_secret_sealed CHECK (
    CASE WHEN webhook_secret IS NOT DISTINCT FROM NULL THEN true
    ELSE own_key AND is_sealed(webhook_secret, 'merchants.webhook_secret:' || stripe_user_id) END);
CREATE UNIQUE INDEX merchants_webhook_secret_iv_key ON merchants (webhook_secret_key_id, ((webhook_secret).iv));
