-- name: WebhookMerchantGet :one
-- Whose event it is, without their tokens, and whether the event has come before.
SELECT m.id, m.livemode, (m.disconnected_at IS NOT NULL)::boolean AS disconnected,
    EXISTS (SELECT 1 FROM webhook_events e WHERE e.merchant_id = m.id AND e.id = sqlc.arg(event_id)) AS seen
FROM merchants m WHERE m.stripe_user_id = sqlc.arg(account);

-- name: WebhookEventCreate :execrows
-- Of any number of deliveries at once, one adds the row.
INSERT INTO webhook_events (merchant_id, id, type, account, object_id, created_at)
VALUES (@merchant_id, @id, @type, @account, @object_id, @created_at)
ON CONFLICT (merchant_id, id) DO NOTHING;
