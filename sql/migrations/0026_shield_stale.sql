-- Until when a merchant was told that levels could not be followed: of servers that lost the
-- database together, one tells.
ALTER TABLE shield_revisions ADD COLUMN stale_until timestamptz;
