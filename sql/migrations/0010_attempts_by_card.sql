-- The keyed hash of the card that a charge was sent with, as in ghost_targets: the networks' limits
-- are the card's, no matter who pays with it.
ALTER TABLE attempts ADD COLUMN card bytea;
CREATE INDEX attempts_card_idx ON attempts (merchant_id, card, sent_at) WHERE action = 'invoice_pay' AND card IS NOT NULL;
