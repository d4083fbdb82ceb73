-- The ledger of attempts on cards: every charge that failed, PHANTOM's and everybody else's, once
-- by its id, no matter who saw it first (an audit, a look before a charge, a webhook's reading).
-- Rows are added and never changed. The budgets of a card are a sum over it. A success counts
-- against nothing and is not here. charge and card are keyed hashes; at is by Stripe's clock;
-- reached is false where Stripe itself has blocked the attempt, so that it never came to the card's
-- network.
CREATE TABLE card_attempts (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    charge bytea NOT NULL,
    card bytea NOT NULL,
    at timestamptz NOT NULL,
    reached boolean NOT NULL,
    PRIMARY KEY (merchant_id, charge),
    CONSTRAINT card_attempts_sha256 CHECK (octet_length(charge) = 32 AND octet_length(card) = 32)
);
CREATE INDEX card_attempts_card_idx ON card_attempts (merchant_id, card, at) WHERE reached;

-- charge: the keyed hash of the charge that an attempt has made, once it is known. clear_until: no
-- charge at Stripe from before this moment is this attempt's; it begins with the attempt itself, by
-- phantom_now(). code: why it was put off or not sent (package gate). marked: its request marks
-- the object in Stripe's metadata, which those of before this migration do not.
ALTER TABLE attempts
    ADD COLUMN charge bytea,
    ADD COLUMN clear_until timestamptz,
    ADD COLUMN code text,
    ADD COLUMN marked boolean NOT NULL DEFAULT false;
ALTER TABLE attempts ALTER COLUMN marked SET DEFAULT true;
UPDATE attempts a SET clear_until = coalesce((SELECT t.created_at FROM scheduled_tasks t WHERE t.merchant_id = a.merchant_id AND t.id = a.task_id),
    -- too early costs a few more questions, too late would cost a charge
    a.planned_for - interval '60 days');
ALTER TABLE attempts
    ALTER COLUMN clear_until SET DEFAULT phantom_now(),
    ALTER COLUMN clear_until SET NOT NULL,
    ADD CONSTRAINT attempts_charge_sha256 CHECK (octet_length(charge) = 32);
