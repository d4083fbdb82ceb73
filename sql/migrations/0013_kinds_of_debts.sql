-- What kind of debt a ghost is, and what the merchant's playbook chooses by: which products and
-- prices, where the customer is, whether they are about to leave, have subscribed anew, or are
-- marked to be left alone.
ALTER TABLE ghost_targets
    ADD COLUMN kind text NOT NULL DEFAULT 'owed',
    ADD COLUMN products text[] NOT NULL DEFAULT '{}', -- of the subscription: prod_...
    ADD COLUMN prices text[] NOT NULL DEFAULT '{}', -- price_...
    ADD COLUMN country text, -- of the last failed payment, ISO 3166-1
    ADD COLUMN leaving boolean NOT NULL DEFAULT false, -- the subscription ends with its period
    -- a newer one to the same product is alive
    ADD COLUMN resubscribed boolean NOT NULL DEFAULT false,
    ADD COLUMN ignored boolean NOT NULL DEFAULT false, -- metadata: phantom=ignore
    ADD CONSTRAINT ghost_targets_kind_known CHECK (kind IN ('owed', 'written_off', 'charged_back')),
    DROP CONSTRAINT ghost_targets_one_per_subscription_and_currency,
    ADD CONSTRAINT ghost_targets_one_per_subscription_currency_and_kind
        UNIQUE (merchant_id, stripe_customer_id, stripe_subscription_id, currency, kind);
CREATE INDEX ghost_targets_customer_idx ON ghost_targets (merchant_id, stripe_customer_id);

ALTER TABLE audit_subscriptions
    ADD COLUMN created_at timestamptz NOT NULL DEFAULT 'epoch',
    ADD COLUMN leaving boolean NOT NULL DEFAULT false,
    ADD COLUMN ignored boolean NOT NULL DEFAULT false,
    ADD COLUMN products text[] NOT NULL DEFAULT '{}',
    ADD COLUMN prices text[] NOT NULL DEFAULT '{}';

-- What an invoice bills: two that bill the same for the same time are one debt. lines is a hash of
-- the lines without their times; period is the whole of these.
ALTER TABLE audit_invoices
    ADD COLUMN lines bigint NOT NULL DEFAULT 0,
    ADD COLUMN period_from timestamptz,
    ADD COLUMN period_to timestamptz,
    ADD COLUMN separate boolean NOT NULL DEFAULT false; -- metadata: phantom=owed

-- In the shapes of newer API versions an invoice names its payment intents, and a charge no
-- invoice.
ALTER TABLE audit_intents
    ADD COLUMN intent text COLLATE "C";
ALTER TABLE audit_charges
    ADD COLUMN intent text COLLATE "C",
    ADD COLUMN country text;
ALTER TABLE audit_disputes
    ADD COLUMN lost bigint NOT NULL DEFAULT 0, -- minor units that are gone
    ADD COLUMN created_at timestamptz NOT NULL DEFAULT 'epoch';

-- A hunt of a ghost that somebody has named, and not one of all: its age does not matter.
ALTER TABLE hunts ADD COLUMN by_hand boolean NOT NULL DEFAULT false;
