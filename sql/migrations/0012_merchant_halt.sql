-- Whose halt one is: the operator's (phantom stop) or the merchant's own (POST /api/halt). Either
-- halts, and each is lifted by the one who set it.
ALTER TABLE halts
    ADD COLUMN by text NOT NULL DEFAULT 'operator',
    ADD CONSTRAINT halts_by_known CHECK (by IN ('operator', 'merchant')),
    ADD CONSTRAINT halts_merchant_names_one
        CHECK (by = 'operator' OR scope <> '00000000-0000-0000-0000-000000000000'),
    DROP CONSTRAINT halts_pkey,
    ADD PRIMARY KEY (scope, by);
