-- A hunt may be about several invoices: charges end for one of them at a time. They are keyed hashes, as in attempts.object.
ALTER TABLE hunts ADD COLUMN invoices_over bytea[] NOT NULL DEFAULT '{}';
