-- Each payment and each refresh asks for the hunts of some ghosts, of which a merchant may have a
-- million.
CREATE INDEX hunts_ghost_idx ON hunts (merchant_id, ghost_id);
