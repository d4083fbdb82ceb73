-- What the purge asks of the tables. docs/adr/0009 says how it looks for copies.

-- Events that name a purged object, and a merchant's old ones, are found without a look at all
-- others.
CREATE INDEX webhook_events_object_idx ON webhook_events (merchant_id, object_id);
CREATE INDEX webhook_events_merchant_received_at_idx ON webhook_events (merchant_id, received_at);
DROP INDEX webhook_events_received_at_idx;

-- A deleted row lies in its page until vacuum comes: by default a fifth of a table may be dead
-- rows. Here it comes early.
ALTER TABLE ghost_targets SET (autovacuum_vacuum_scale_factor = 0.01);
ALTER TABLE webhook_events SET (autovacuum_vacuum_scale_factor = 0.01);
