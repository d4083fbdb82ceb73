-- name: ChannelPut :one
-- The row stays locked until the transaction ends.
INSERT INTO channels (merchant_id, provider, account, sender, secret) VALUES (@merchant_id, @provider, @account, @sender, @secret)
ON CONFLICT (merchant_id, provider) DO UPDATE SET
    account = excluded.account, sender = excluded.sender, secret = excluded.secret, updated_at = clock_timestamp()
RETURNING updated_at;

-- name: ChannelGet :one
SELECT account, sender, secret FROM channels WHERE merchant_id = $1 AND provider = $2;

-- name: ChannelList :many
-- Without what is sealed.
SELECT provider, account, sender, updated_at FROM channels WHERE merchant_id = $1 ORDER BY provider;

-- name: ChannelLock :one
-- Without what is sealed, until the transaction ends.
SELECT account, sender FROM channels WHERE merchant_id = $1 AND provider = $2 FOR NO KEY UPDATE;

-- name: ChannelDelete :execrows
DELETE FROM channels WHERE merchant_id = $1 AND provider = $2;

-- name: ChannelTake :execrows
-- One more test message, if a day may hold it. Under the lock on the merchant's row.
INSERT INTO test_messages (merchant_id, id)
SELECT sqlc.arg(merchant_id), sqlc.arg(id)
WHERE (SELECT count(*) FROM test_messages t
    WHERE t.merchant_id = sqlc.arg(merchant_id) AND t.sent_at > clock_timestamp() - interval '24 hours') < sqlc.arg(most)::int;

-- name: ChannelForgetTests :exec
DELETE FROM test_messages WHERE merchant_id = $1 AND sent_at < clock_timestamp() - interval '24 hours';

-- name: CredentialTake :one
-- One more try of a provider's credentials, if an hour may hold it: then wait is 0, and else in how
-- many seconds there is room again. Under the lock on the merchant's row.
WITH forgotten AS (
    DELETE FROM credential_tries d
    WHERE d.merchant_id = sqlc.arg(merchant_id) AND d.tried_at <= clock_timestamp() - interval '1 hour'
), recent AS (
    SELECT count(*) AS tries, min(t.tried_at) AS oldest FROM credential_tries t
    WHERE t.merchant_id = sqlc.arg(merchant_id) AND t.tried_at > clock_timestamp() - interval '1 hour'
), taken AS (
    INSERT INTO credential_tries (merchant_id, id)
    SELECT sqlc.arg(merchant_id), sqlc.arg(id) FROM recent WHERE recent.tries < sqlc.arg(most)::int
    RETURNING id
)
SELECT CASE WHEN EXISTS (SELECT 1 FROM taken) THEN 0
    ELSE greatest(extract(epoch FROM recent.oldest + interval '1 hour' - clock_timestamp()), 1) END::float8 AS wait
FROM recent;

-- name: CredentialForgive :exec
-- Of a try that has told nothing: the credentials were right, or the provider has not answered.
DELETE FROM credential_tries WHERE merchant_id = $1 AND id = $2;

-- name: TemplatePut :one
INSERT INTO templates (merchant_id, channel, name, subject, html, body) VALUES (@merchant_id, @channel, @name, @subject, @html, @body)
ON CONFLICT (merchant_id, channel, name) DO UPDATE SET
    subject = excluded.subject, html = excluded.html, body = excluded.body, updated_at = clock_timestamp()
RETURNING updated_at;

-- name: TemplateGet :one
SELECT * FROM templates WHERE merchant_id = $1 AND channel = $2 AND name = $3;

-- name: TemplateList :many
SELECT * FROM templates WHERE merchant_id = $1 ORDER BY channel, name;

-- name: TemplateCount :one
-- Of the other names.
SELECT count(*) FROM templates WHERE merchant_id = @merchant_id AND (channel, name) <> (@channel::text, @name::text);

-- name: TemplateIsUsed :one
-- By a hunt under way that writes: its version of the playbook may be an older one.
SELECT EXISTS (SELECT 1 FROM hunts h JOIN playbooks p ON p.merchant_id = h.merchant_id AND p.version = h.playbook_version
    WHERE h.merchant_id = sqlc.arg(merchant_id) AND h.state = 'active' AND h.mode = 'recover' AND NOT h.held_out
        AND (p.body @> jsonb_build_object('steps', jsonb_build_array(jsonb_build_object('channel', sqlc.arg(channel)::text, 'template', sqlc.arg(name)::text)))
            OR p.body @> jsonb_build_object('segments', jsonb_build_array(jsonb_build_object('set', jsonb_build_object('steps',
                jsonb_build_array(jsonb_build_object('channel', sqlc.arg(channel)::text, 'template', sqlc.arg(name)::text)))))))) AS used;

-- name: TemplateDelete :execrows
DELETE FROM templates WHERE merchant_id = $1 AND channel = $2 AND name = $3;
