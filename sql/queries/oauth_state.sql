-- name: OAuthStateCreate :execrows
-- Sweeps what has expired on the way, so that the table stays as small as ten minutes of clicks.
-- Where it is full nothing is added: states that others have begun with stay until they expire.
-- Not by clock_timestamp(), which no index can be searched by.
WITH expired AS (
    DELETE FROM oauth_states WHERE state_hash IN (
        -- Two sweeps at once must not wait for each other.
        SELECT state_hash FROM oauth_states WHERE expires_at < statement_timestamp() ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED)
)
INSERT INTO oauth_states (state_hash, browser_hash)
SELECT sqlc.arg(state_hash)::bytea, sqlc.arg(browser_hash)::bytea
WHERE (SELECT count(*) FROM (SELECT 1 FROM oauth_states WHERE expires_at >= statement_timestamp() LIMIT sqlc.arg(most)::int) AS live)
    < sqlc.arg(most)::int;

-- name: OAuthStateConsume :one
-- Deleting is what makes a state single-use: of two callbacks at once, one finds the row. It is
-- gone also when another browser shows it or it has expired, and the caller learns which.
DELETE FROM oauth_states WHERE state_hash = @state_hash
RETURNING browser_hash, (expires_at <= clock_timestamp())::boolean AS expired;
