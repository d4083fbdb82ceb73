-- What people and keys have changed, one row for each change: docs/adr/0018. Rows are added, and
-- never changed. merchant_id is null where a command is about all merchants.
CREATE TABLE audit_log (
    id uuid PRIMARY KEY, -- UUIDv7: the order of the list
    merchant_id uuid REFERENCES merchants (id),
    at timestamptz NOT NULL DEFAULT phantom_now(),
    by text NOT NULL,
    key_id uuid,  -- of api_keys
    command text, -- the operator's, such as 'stop'
    action text NOT NULL,
    object text,  -- what was changed, where the action alone does not say it
    before jsonb,
    after jsonb,
    CONSTRAINT audit_log_by_known CHECK (by IN ('key', 'operator', 'merchant', 'stripe')),
    CONSTRAINT audit_log_key_given CHECK ((by = 'key') = (key_id IS NOT NULL)),
    CONSTRAINT audit_log_command_given CHECK ((by = 'operator') = (command IS NOT NULL)),
    CONSTRAINT audit_log_of_all_by_operator CHECK (merchant_id IS NOT NULL OR by = 'operator'),
    CONSTRAINT audit_log_small CHECK (coalesce(octet_length(before::text), 0) + coalesce(octet_length(after::text), 0) <= 65536)
);
CREATE INDEX audit_log_merchant_idx ON audit_log (merchant_id, id);
CREATE INDEX audit_log_key_idx ON audit_log (key_id, id) WHERE key_id IS NOT NULL;
CREATE INDEX audit_log_at_idx ON audit_log (at);

-- What is as old as this is purged; what is younger, nobody deletes.
CREATE FUNCTION audit_log_cutoff() RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN phantom_now() - interval '9600 hours';

CREATE FUNCTION audit_log_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.at <= audit_log_cutoff() THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'audit_log only grows: % of what is younger than 400 days is refused', TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER audit_log_only_grows BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION audit_log_only_grows();
CREATE TRIGGER audit_log_is_not_emptied BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_only_grows();

-- What a key may do, for how long, and what people call it. Keys of before have no name, and may
-- do all.
ALTER TABLE api_keys
    ADD COLUMN name text,
    ADD COLUMN scope text NOT NULL DEFAULT 'write',
    ADD COLUMN expires_at timestamptz,
    ADD CONSTRAINT api_keys_scope_known CHECK (scope IN ('read', 'write')),
    ADD CONSTRAINT api_keys_name_short CHECK (char_length(name) BETWEEN 1 AND 64);
