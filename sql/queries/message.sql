-- name: MessageLoad :one
-- A message with what is known of who it is for.
SELECT m.hunt_id, m.step, m.channel, m.template, m.state, h.ghost_id, h.customer, ghost.zone, merchant.timezone,
    phantom_now()::timestamptz AS now, clock_timestamp()::timestamptz AS clock
FROM messages m
JOIN hunts h ON h.merchant_id = m.merchant_id AND h.id = m.hunt_id
JOIN merchants merchant ON merchant.id = m.merchant_id
LEFT JOIN ghost_targets ghost ON ghost.merchant_id = h.merchant_id AND ghost.id = h.ghost_id
WHERE m.merchant_id = $1 AND m.id = $2;

-- name: MessageGetGhost :one
-- While it is open. access_ends: when its customer loses access if nothing is paid, as the policy
-- of access says that is enforced; the zero time where that is not known.
SELECT g.stripe_customer_id, g.stripe_invoice_id, g.email, g.decline_class,
    coalesce((SELECT min((n ->> 'at')::timestamptz) FROM shield_states s CROSS JOIN LATERAL jsonb_array_elements(s.ahead) n
        WHERE s.merchant_id = g.merchant_id AND s.subscription = g.stripe_subscription_id AND NOT s.gone AND NOT s.held
            AND s.level IN ('full', 'notice', 'grace') AND n ->> 'level' = 'blocked'
            AND 'enforce' = (SELECT p.body ->> 'mode' FROM shield_policies p WHERE p.merchant_id = g.merchant_id ORDER BY p.version DESC LIMIT 1)
    ), '0001-01-01 00:00:00Z')::timestamptz AS access_ends
FROM ghost_targets g
WHERE g.merchant_id = $1 AND g.id = $2 AND g.status = 'open';

-- name: MessageLockPersons :exec
-- Two do not count one person's messages at the same time. In the order of the keys, so that
-- no two wait for each other.
SELECT pg_advisory_xact_lock(key) FROM (SELECT unnest(sqlc.arg(keys)::bigint[]) AS key ORDER BY 1) AS keys;

-- name: MessageShareHunt :exec
-- A stop in another transaction has come before, and is seen, or waits until this one ends.
SELECT 1 FROM hunts WHERE merchant_id = $1 AND id = $2 FOR SHARE;

-- name: MessageLockHunt :exec
-- Before the task's row and the message's, as the one who stops a hunt locks them.
SELECT 1 FROM hunts WHERE merchant_id = $1 AND id = $2 FOR NO KEY UPDATE;

-- name: MessageGuard :one
-- What decides about a message of a hunt: the hunt with its playbook and the newest one, its ghost,
-- what halts it, and, once the person is known, whether they have said stop.
SELECT sqlc.embed(h), p.body AS playbook,
    (SELECT n.body FROM playbooks n WHERE n.merchant_id = h.merchant_id ORDER BY n.version DESC LIMIT 1)::jsonb AS newest,
    EXISTS (SELECT 1 FROM halts x WHERE x.scope IN (h.merchant_id, '00000000-0000-0000-0000-000000000000')) AS halted,
    EXISTS (SELECT 1 FROM suppressions s
        WHERE s.merchant_id = h.merchant_id AND s.channel = sqlc.arg(channel) AND (s.person = sqlc.narg(person)::bytea
            -- or at another address or number, at which they were written to
            OR s.person IN (SELECT e.person FROM messages e JOIN hunts of ON of.merchant_id = e.merchant_id AND of.id = e.hunt_id
                WHERE of.merchant_id = h.merchant_id AND of.customer = h.customer AND e.channel = sqlc.arg(channel)))) AS suppressed,
    (m.disconnected_at IS NOT NULL)::boolean AS disconnected,
    coalesce((SELECT g.status FROM ghost_targets g WHERE g.merchant_id = h.merchant_id AND g.id = h.ghost_id), '')::text AS ghost,
    coalesce((SELECT t.run_at FROM scheduled_tasks t
        WHERE t.merchant_id = h.merchant_id AND t.kind = 'invoice_pay' AND t.unique_key = sqlc.arg(charge_key)::text AND t.status = 'pending'
            AND m.scope <> 'read_only'
    ), '0001-01-01 00:00:00Z')::timestamptz AS next_charge,
    phantom_now()::timestamptz AS now
FROM hunts h
JOIN merchants m ON m.id = h.merchant_id
JOIN playbooks p ON p.merchant_id = h.merchant_id AND p.version = h.playbook_version
WHERE h.merchant_id = sqlc.arg(merchant_id) AND h.id = sqlc.arg(hunt_id);

-- name: MessageListSent :many
-- What was sent to a person within the longest cap, newest first.
SELECT channel, sent_at FROM messages
WHERE merchant_id = sqlc.arg(merchant_id) AND persons && sqlc.arg(persons)::bytea[]
    AND sent_at IS NOT NULL AND sent_at > phantom_now() - interval '30 days'
ORDER BY sent_at DESC;

-- name: MessageFreeze :execrows
UPDATE messages SET state = 'sending', person = @person, persons = @persons, sent_at = phantom_now()
WHERE merchant_id = @merchant_id AND id = @id AND state = 'planned';

-- name: MessageSealTask :execrows
-- By its holder's hand: the request, byte for byte, as it will leave.
UPDATE scheduled_tasks SET sealed_params = sqlc.arg(sealed_params)::sealed_token
WHERE merchant_id = @merchant_id AND id = @id AND fence = @fence AND status = 'running';

-- name: MessageThaw :execrows
-- The request was certainly not taken: nothing was sent, and the message is planned as before.
UPDATE messages SET state = 'planned', person = NULL, persons = '{}', sent_at = NULL
WHERE merchant_id = @merchant_id AND id = @id AND state = 'sending';

-- name: MessageThawTask :execrows
UPDATE scheduled_tasks SET sealed_params = NULL, first_sent_at = NULL
WHERE merchant_id = @merchant_id AND id = @id AND fence = @fence AND status = 'running';

-- name: MessageDefer :exec
UPDATE messages SET planned_for = @planned_for WHERE merchant_id = @merchant_id AND id = @id AND state = 'planned';

-- name: MessageEnd :execrows
UPDATE messages SET state = @state, why = nullif(@why::text, ''), code = nullif(@code::text, '')
WHERE merchant_id = @merchant_id AND id = @id AND state IN ('planned', 'sending');

-- name: MessageCloseTask :exec
-- Before the task ends: its text is needed no more, and one that is left to a person must not hold
-- up the hunt's next message.
UPDATE scheduled_tasks SET sealed_params = NULL, unique_key = NULL
WHERE merchant_id = @merchant_id AND id = @id AND fence = @fence AND status = 'running';

-- name: MessageCancel :one
-- Of a task that a person has canceled: the letter is forgotten, and the message ends. Whether it
-- was sent is unclear where a request may have left. Without a row there was nothing left to end.
WITH closed AS (
    UPDATE scheduled_tasks t SET sealed_params = NULL, unique_key = NULL
    WHERE t.merchant_id = sqlc.arg(merchant_id) AND t.id = sqlc.arg(id) AND t.status = 'canceled' AND t.kind IN ('email', 'sms')
    RETURNING t.merchant_id, t.id, t.first_sent_at
)
UPDATE messages m SET state = CASE WHEN closed.first_sent_at IS NULL THEN 'skipped' ELSE 'unclear' END, why = sqlc.arg(why)::text
FROM closed WHERE m.merchant_id = closed.merchant_id AND m.id = closed.id AND m.state IN ('planned', 'sending')
RETURNING m.hunt_id, m.channel, m.template, m.state;

-- name: MessageCountSent :exec
UPDATE hunts SET messages = messages + 1 WHERE merchant_id = $1 AND id = $2;

-- name: MessageNamePerson :exec
-- Of a message that is not sent because of who it is for: what is known of them counts when the
-- next one is thought of.
UPDATE messages SET person = @person, persons = @persons WHERE merchant_id = @merchant_id AND id = @id AND state = 'planned';

-- name: MessageCountChannels :one
-- On how many of these channels a customer could still be written to, and on how many they have
-- said stop. Their address is that of their ghost, empty for none; their number that of the newest
-- message of any of their hunts, none where that one found none, and unknown before.
SELECT count(*) FILTER (WHERE NOT known.stopped AND NOT known.nobody) AS open, count(*) FILTER (WHERE known.stopped) AS stopped
FROM unnest(sqlc.arg(channels)::text[]) AS step (channel)
CROSS JOIN LATERAL (
    SELECT 1 AS rank, EXISTS (SELECT 1 FROM suppressions s
            WHERE s.merchant_id = sqlc.arg(merchant_id) AND s.channel = 'email' AND (s.person = sqlc.arg(email)::bytea
                -- or at another address, at which they were written to
                OR s.person IN (SELECT m.person FROM messages m JOIN hunts h ON h.merchant_id = m.merchant_id AND h.id = m.hunt_id
                    WHERE h.merchant_id = sqlc.arg(merchant_id) AND h.customer = sqlc.arg(customer) AND m.channel = 'email'))) AS stopped,
        octet_length(sqlc.arg(email)::bytea) = 0 AS nobody
    WHERE step.channel = 'email'
    UNION ALL
    (SELECT 1, EXISTS (SELECT 1 FROM suppressions s
            WHERE s.merchant_id = m.merchant_id AND s.channel = 'sms' AND s.person = m.person), octet_length(m.person) IS NULL
    FROM messages m JOIN hunts h ON h.merchant_id = m.merchant_id AND h.id = m.hunt_id
    WHERE step.channel = 'sms' AND h.merchant_id = sqlc.arg(merchant_id) AND h.customer = sqlc.arg(customer) AND m.channel = 'sms'
        AND (octet_length(m.person) = 32 OR m.code = ANY (sqlc.arg(unreachable)::text[])
            -- of a server of before codes
            OR m.code IS NULL AND m.why = ANY (sqlc.arg(sentences)::text[]))
    ORDER BY m.id DESC LIMIT 1)
    UNION ALL
    SELECT 2, false, false -- where nothing is known
    ORDER BY rank LIMIT 1) AS known;

-- name: SuppressionAdd :execrows
INSERT INTO suppressions (merchant_id, channel, person, reason) VALUES (@merchant_id, @channel, @person, @reason)
ON CONFLICT (merchant_id, channel, person) DO NOTHING;

-- name: SuppressionLift :execrows
DELETE FROM suppressions WHERE merchant_id = $1 AND channel = $2 AND person = $3;

-- name: SuppressionExists :one
-- Whether anybody at all has told a merchant to stop.
SELECT EXISTS (SELECT 1 FROM suppressions WHERE merchant_id = $1) AS some;

-- name: SuppressionHolds :one
SELECT EXISTS (SELECT 1 FROM suppressions WHERE merchant_id = $1 AND channel = $2 AND person = $3) AS holds;
