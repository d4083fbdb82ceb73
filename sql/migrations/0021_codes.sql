---- tern: disable-tx ----
-- Codes where sentences stood that the program decided by. The sentences are made where somebody
-- reads them. Each statement stands for itself and may be run again. A server of the version before
-- goes on writing sentences until it ends, and the next one understands them. Until then it shows
-- the codes of rules as they are.

ALTER TABLE messages ADD COLUMN IF NOT EXISTS code text; -- why it was skipped (package gate)

-- In batches, in the order in which others lock these rows.
DO $$
DECLARE
    last_merchant uuid := '00000000-0000-0000-0000-000000000000';
    last_id uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
    LOOP
        WITH batch AS MATERIALIZED (
            SELECT merchant_id, id FROM messages
            WHERE (merchant_id, id) > (last_merchant, last_id) AND code IS NULL AND why IN (
                'the customer has asked not to be written to',
                'the customer has no usable email address',
                'the customer''s stored email address does not open',
                'the customer has no phone number',
                'the customer''s phone number is no mobile number of a country that is written to',
                'a payment is under way')
            ORDER BY merchant_id, id LIMIT 10000 FOR NO KEY UPDATE
        ), done AS (
            UPDATE messages t SET code = CASE t.why
                WHEN 'the customer has asked not to be written to'
                    THEN 'stopped'
                WHEN 'the customer has no usable email address'
                    THEN 'no_email'
                WHEN 'the customer''s stored email address does not open'
                    THEN 'sealed_email'
                WHEN 'the customer has no phone number'
                    THEN 'no_phone'
                WHEN 'the customer''s phone number is no mobile number of a country that is written to'
                    THEN 'no_mobile'
                WHEN 'a payment is under way'
                    THEN 'under_way' END
            FROM batch b WHERE t.merchant_id = b.merchant_id AND t.id = b.id
            RETURNING t.merchant_id, t.id
        )
        SELECT merchant_id, id INTO last_merchant, last_id FROM done ORDER BY merchant_id DESC, id DESC LIMIT 1;
        EXIT WHEN NOT FOUND;
        COMMIT;
    END LOOP;
END $$;

DO $$
DECLARE
    last_merchant uuid := '00000000-0000-0000-0000-000000000000';
    last_id uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
    LOOP
        WITH batch AS MATERIALIZED (
            SELECT merchant_id, id FROM ghost_targets
            WHERE (merchant_id, id) > (last_merchant, last_id) AND rule IN (
                'A payment for this subscription failed, the invoice is still open, and the subscription goes on.',
                'The latest invoice is paid, so the subscription looks healthy, but an older one never was.',
                'The invoice was sent to the customer and is more than 7 days past its due date. No card is charged for it.',
                'The customer is on a trial while an earlier invoice is unpaid.',
                'The subscription has ended or is suspended, but your app says that the customer still has access.',
                'The payment failed and the invoice was marked uncollectible, but the subscription goes on.',
                'The invoice was paid, and a dispute has taken the money back.')
            ORDER BY merchant_id, id LIMIT 10000 FOR NO KEY UPDATE
        ), done AS (
            UPDATE ghost_targets t SET rule = CASE t.rule
                WHEN 'A payment for this subscription failed, the invoice is still open, and the subscription goes on.'
                    THEN 'payment_failed'
                WHEN 'The latest invoice is paid, so the subscription looks healthy, but an older one never was.'
                    THEN 'older_unpaid'
                WHEN 'The invoice was sent to the customer and is more than 7 days past its due date. No card is charged for it.'
                    THEN 'sent_overdue'
                WHEN 'The customer is on a trial while an earlier invoice is unpaid.'
                    THEN 'unpaid_before_trial'
                WHEN 'The subscription has ended or is suspended, but your app says that the customer still has access.'
                    THEN 'access_proven'
                WHEN 'The payment failed and the invoice was marked uncollectible, but the subscription goes on.'
                    THEN 'marked_uncollectible'
                WHEN 'The invoice was paid, and a dispute has taken the money back.'
                    THEN 'dispute_lost' END
            FROM batch b WHERE t.merchant_id = b.merchant_id AND t.id = b.id
            RETURNING t.merchant_id, t.id
        )
        SELECT merchant_id, id INTO last_merchant, last_id FROM done ORDER BY merchant_id DESC, id DESC LIMIT 1;
        EXIT WHEN NOT FOUND;
        COMMIT;
    END LOOP;
END $$;
