-- A hunt may be about several invoices: charges end for one of them at a time. They are keyed
-- hashes, as in attempts.object. What it brings is counted against what remained of each when it
-- began ({"in_1": minor units}, emptied by the purge as invoices is), and paid_at is when the last
-- of that was paid, in any state of the hunt.
ALTER TABLE hunts
    ADD COLUMN invoices_over bytea[] NOT NULL DEFAULT '{}',
    ADD COLUMN owed jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN paid_at timestamptz,
    ADD CONSTRAINT hunts_owed_object CHECK (jsonb_typeof(owed) = 'object');

-- A person may give up a charge of which nobody knows what became: it counts as one that was sent.
ALTER TABLE attempts
    DROP CONSTRAINT attempts_result_known,
    ADD CONSTRAINT attempts_result_known CHECK (result IN ('done', 'paid', 'processing', 'declined', 'refused', 'not_sent', 'absent', 'unknown'));

-- What a webhook asks for does not wait behind a backlog of charges: these few are found without
-- looking at the others.
CREATE INDEX scheduled_tasks_urgent_idx ON scheduled_tasks (run_at) WHERE status = 'pending' AND kind IN ('webhook', 'refresh');

-- The customer's time zone (an IANA name), by the country of the card's or the bill's holder. Null
-- is the merchant's: no charge told.
ALTER TABLE ghost_targets ADD COLUMN zone text;
ALTER TABLE audit_charges ADD COLUMN zone text;
