-- When a merchant has had credentials of a provider's tried that were refused, or are being tried:
-- nobody is to find out through PHANTOM which stolen ones work. A row is forgotten with the next
-- try once it is an hour old.
CREATE TABLE credential_tries (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    id uuid NOT NULL,
    tried_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, id)
);

-- Old versions of playbooks go once no hunt refers to them, and their foreign key looks for that.
CREATE INDEX hunts_playbook_idx ON hunts (merchant_id, playbook_version);
