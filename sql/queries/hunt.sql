-- name: HuntCreateMany :many
-- Those that were added: a ghost that is hunted already, or open no more, adds nothing.
INSERT INTO hunts (merchant_id, id, ghost_id, customer, playbook_version, mode, held_out, by_hand, livemode, decline_class, currency, amount,
    invoices, owed)
SELECT g.merchant_id, new.id, g.id, new.customer, sqlc.arg(playbook_version), sqlc.arg(mode), new.held_out, sqlc.arg(by_hand), m.livemode,
    g.decline_class, g.currency, g.amount,
    ARRAY(SELECT DISTINCT i FROM unnest(ARRAY(SELECT x ->> 'id' FROM jsonb_array_elements(g.invoices) x) || g.stripe_invoice_id) AS i ORDER BY i),
    coalesce((SELECT jsonb_object_agg(x ->> 'id', x -> 'amount') FROM jsonb_array_elements(g.invoices) x), jsonb_build_object(g.stripe_invoice_id, g.amount))
FROM (SELECT unnest(sqlc.arg(ids)::uuid[]) AS id, unnest(sqlc.arg(ghosts)::uuid[]) AS ghost_id, unnest(sqlc.arg(customers)::bytea[]) AS customer,
    unnest(sqlc.arg(helds)::boolean[]) AS held_out) AS new
JOIN ghost_targets g ON g.merchant_id = sqlc.arg(merchant_id) AND g.id = new.ghost_id AND g.status = 'open'
JOIN merchants m ON m.id = g.merchant_id
ON CONFLICT (merchant_id, ghost_id) WHERE state = 'active' DO NOTHING
RETURNING id;

-- name: HuntShareGhosts :exec
SELECT 1 FROM ghost_targets WHERE merchant_id = sqlc.arg(merchant_id) AND id = ANY (sqlc.arg(ghosts)::uuid[]) ORDER BY id FOR SHARE;

-- name: HuntReplacedBefore :one
-- Whether a later hunt of the same ghost had begun by then.
SELECT EXISTS (SELECT 1 FROM hunts h WHERE h.merchant_id = sqlc.arg(merchant_id) AND h.ghost_id = sqlc.arg(ghost_id)
    AND h.began_at > sqlc.arg(began_at)::timestamptz AND h.began_at <= sqlc.arg(at)::timestamptz) AS replaced;

-- name: HuntNoteCreateMany :exec
INSERT INTO hunt_notes (merchant_id, hunt_id, id, note)
SELECT sqlc.arg(merchant_id), hunt_id, id, note FROM (SELECT unnest(sqlc.arg(hunts)::uuid[]) AS hunt_id, unnest(sqlc.arg(ids)::uuid[]) AS id,
    unnest(sqlc.arg(notes)::text[]) AS note) AS new;

-- name: HuntLock :one
-- Until the transaction ends: what plans or stops a hunt comes before or after what is about to
-- send for it.
SELECT * FROM hunts WHERE merchant_id = $1 AND id = $2 FOR NO KEY UPDATE;

-- name: HuntGet :one
SELECT * FROM hunts WHERE merchant_id = $1 AND id = $2;

-- name: HuntList :many
-- The newest first.
SELECT * FROM hunts
WHERE merchant_id = sqlc.arg(merchant_id) AND (sqlc.narg(before)::uuid IS NULL OR id < sqlc.narg(before)::uuid)
    AND (sqlc.narg(state)::text IS NULL OR state = sqlc.narg(state)::text)
ORDER BY id DESC LIMIT sqlc.arg(most);

-- name: HuntListOfGhost :many
-- As HuntList, of one ghost.
SELECT * FROM hunts
WHERE merchant_id = sqlc.arg(merchant_id) AND ghost_id = sqlc.arg(ghost_id)
    AND (sqlc.narg(before)::uuid IS NULL OR id < sqlc.narg(before)::uuid)
    AND (sqlc.narg(state)::text IS NULL OR state = sqlc.narg(state)::text)
ORDER BY id DESC LIMIT sqlc.arg(most);

-- name: HuntListActiveOf :many
-- The hunts of these ghosts that are under way.
SELECT * FROM hunts
WHERE merchant_id = sqlc.arg(merchant_id) AND ghost_id = ANY (sqlc.arg(ghosts)::uuid[]) AND state = 'active'
ORDER BY id FOR NO KEY UPDATE;

-- name: HuntActiveBeside :one
-- Whether another hunt of a ghost goes on that may act.
SELECT EXISTS (SELECT 1 FROM hunts h WHERE h.merchant_id = sqlc.arg(merchant_id) AND h.ghost_id = sqlc.arg(ghost_id) AND h.id <> sqlc.arg(id)
    AND h.state = 'active' AND h.mode = 'recover' AND NOT h.held_out) AS beside;

-- name: HuntListEndedOf :many
-- The last ended hunt of each of these ghosts that was not stopped by anybody.
SELECT DISTINCT ON (ghost_id) * FROM hunts
WHERE merchant_id = sqlc.arg(merchant_id) AND ghost_id = ANY (sqlc.arg(ghosts)::uuid[]) AND state = 'exhausted'
ORDER BY ghost_id, began_at DESC;

-- name: HuntListActiveOfPerson :many
-- The hunts under way of every customer whom a message of any hunt has named as this person, but
-- those that leave them alone anyway: who is held out stays comparable.
SELECT h.* FROM hunts h
WHERE h.merchant_id = sqlc.arg(merchant_id) AND h.state = 'active' AND h.mode = 'recover' AND NOT h.held_out AND h.customer IN (
    SELECT o.customer FROM messages m JOIN hunts o ON o.merchant_id = m.merchant_id AND o.id = m.hunt_id
    WHERE m.merchant_id = sqlc.arg(merchant_id) AND m.persons @> ARRAY[sqlc.arg(person)::bytea])
ORDER BY h.id FOR NO KEY UPDATE OF h;

-- name: HuntEnd :execrows
UPDATE hunts SET state = sqlc.arg(state), ended_reason = sqlc.arg(reason)::text, ended_at = phantom_now()
WHERE merchant_id = sqlc.arg(merchant_id) AND id = sqlc.arg(id) AND state = 'active';

-- name: HuntGiveUpInvoice :exec
-- No further charge of one of its invoices; of the hunt neither, until another one's is planned.
UPDATE hunts SET charges_over = sqlc.arg(why)::text, invoices_over = array_append(array_remove(invoices_over, sqlc.arg(invoice)::bytea), sqlc.arg(invoice)::bytea)
WHERE merchant_id = sqlc.arg(merchant_id) AND id = sqlc.arg(id);

-- name: HuntHoldCharges :exec
-- Why nothing is charged until something changes. Its charge waits.
UPDATE hunts SET charges_over = sqlc.arg(why)::text WHERE merchant_id = sqlc.arg(merchant_id) AND id = sqlc.arg(id) AND state = 'active';

-- name: HuntWake :execrows
-- News of what a hunt waits for: a charge that was held is looked at now.
UPDATE scheduled_tasks t SET run_at = phantom_now()
FROM attempts a
WHERE t.merchant_id = sqlc.arg(merchant_id) AND t.unique_key = sqlc.arg(unique_key)::text AND t.kind IN ('invoice_pay', 'invoice_hold')
    AND t.status = 'pending' AND t.first_sent_at IS NULL AND t.run_at > phantom_now()
    AND a.merchant_id = t.merchant_id AND a.task_id = t.id AND a.code = ANY (sqlc.arg(codes)::text[]);

-- name: HuntForgetHolds :execrows
-- The same for what has made place for another invoice meanwhile.
UPDATE attempts SET planned_for = phantom_now()
WHERE merchant_id = sqlc.arg(merchant_id) AND hunt_id = sqlc.arg(hunt_id) AND result = 'not_sent' AND planned_for > phantom_now()
    AND code = ANY (sqlc.arg(codes)::text[]);

-- name: HuntReopenInvoices :exec
-- Every reason that has ended their charges is judged again.
UPDATE hunts SET invoices_over = '{}' WHERE merchant_id = $1 AND id = $2;

-- name: HuntResumeCharges :exec
UPDATE hunts SET charges_over = NULL WHERE merchant_id = $1 AND id = $2 AND charges_over IS NOT NULL;

-- name: HuntCountCharge :exec
UPDATE hunts SET charges = charges + 1 WHERE merchant_id = $1 AND id = $2;

-- name: HuntSetPaused :exec
UPDATE hunts SET paused = @paused WHERE merchant_id = @merchant_id AND id = @id;

-- name: HuntAddInvoices :exec
UPDATE hunts SET invoices = ARRAY(SELECT DISTINCT i FROM unnest(invoices || sqlc.arg(invoices)::text[]) AS i ORDER BY i)
WHERE merchant_id = sqlc.arg(merchant_id) AND id = sqlc.arg(id) AND NOT invoices @> sqlc.arg(invoices)::text[];

-- name: HuntSetPaid :exec
-- Once.
UPDATE hunts SET paid_at = sqlc.arg(paid_at)::timestamptz WHERE merchant_id = sqlc.arg(merchant_id) AND id = sqlc.arg(id) AND paid_at IS NULL;

-- name: HuntGetWindow :one
-- When a hunt's window ends, whether the hunt has ended before or not, and PHANTOM's time.
SELECT (h.began_at + (p.body ->> 'window_days')::integer * interval '24 hours')::timestamptz AS ends, phantom_now()::timestamptz AS now
FROM hunts h JOIN playbooks p ON p.merchant_id = h.merchant_id AND p.version = h.playbook_version
WHERE h.merchant_id = sqlc.arg(merchant_id) AND h.id = sqlc.arg(id);

-- name: HuntDropAll :exec
-- A merchant works in the other mode now: what hunts were about is of another world. Their tasks
-- find that out by themselves.
UPDATE hunts SET invoices = '{}', owed = '{}', state = CASE WHEN state = 'active' THEN 'stopped' ELSE state END,
    ended_reason = CASE WHEN state = 'active' THEN 'the account was connected in the other mode (live or test)' ELSE ended_reason END,
    ended_at = CASE WHEN state = 'active' THEN phantom_now() ELSE ended_at END
WHERE merchant_id = $1 AND (state = 'active' OR invoices <> '{}');

-- name: HuntForgetInvoices :exec
-- For the purge of these ghosts.
UPDATE hunts SET invoices = '{}', owed = '{}' WHERE merchant_id = sqlc.arg(merchant_id) AND ghost_id = ANY (sqlc.arg(ghosts)::uuid[]) AND invoices <> '{}';

-- name: HuntNoteCreate :exec
INSERT INTO hunt_notes (merchant_id, hunt_id, id, task_id, note) VALUES (@merchant_id, @hunt_id, @id, sqlc.narg(task_id), @note);

-- name: HuntNoteList :many
SELECT * FROM hunt_notes WHERE merchant_id = $1 AND hunt_id = $2 ORDER BY id;

-- name: HuntPageTargets :many
-- The next ghosts behind one. is_target: open, and not hunted, or only watched where recover is
-- asked for.
SELECT sqlc.embed(g), (g.status = 'open' AND NOT EXISTS (
    SELECT 1 FROM hunts h WHERE h.merchant_id = g.merchant_id AND h.ghost_id = g.id AND h.state = 'active'
        AND (h.mode = 'recover' OR sqlc.arg(mode)::text = 'observe')))::boolean AS is_target
FROM ghost_targets g
WHERE g.merchant_id = sqlc.arg(merchant_id) AND g.id > sqlc.arg(after)
ORDER BY g.id LIMIT sqlc.arg(most);

-- name: HuntCountOpen :one
-- Open ghosts of every kind, as they are counted with each change.
SELECT (coalesce((SELECT sum(c.ghosts) FROM ghost_counts c
        WHERE c.merchant_id = sqlc.arg(merchant_id) AND c.part IN ('owed', 'written_off', 'charged_back')), 0)
    + coalesce((SELECT sum(c.ghosts) FROM ghost_changes c WHERE c.merchant_id = sqlc.arg(merchant_id)), 0))::bigint AS ghosts;

-- name: HuntStartEndLost :exec
-- One whose task has come to rest otherwise than by success, or is gone: nothing goes on with it.
UPDATE hunt_starts s SET state = 'failed', finished_at = clock_timestamp(), error = 'its task did not succeed'
WHERE s.merchant_id = $1 AND s.state = 'running' AND NOT s.auto AND NOT EXISTS (
    SELECT 1 FROM scheduled_tasks t
    WHERE t.merchant_id = s.merchant_id AND t.id = s.id AND t.status IN ('pending', 'running', 'parked'));

-- name: HuntStartCreate :one
-- None where one for all runs, or where there is this one.
INSERT INTO hunt_starts (merchant_id, id, auto, livemode, playbook_version, ghosts)
SELECT m.id, sqlc.arg(id), sqlc.arg(auto), m.livemode, sqlc.arg(playbook_version), sqlc.arg(ghosts) FROM merchants m WHERE m.id = sqlc.arg(merchant_id)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: HuntStartRunning :one
SELECT id FROM hunt_starts WHERE merchant_id = $1 AND state = 'running' AND NOT auto;

-- name: HuntStartRead :one
-- With how its task stands.
SELECT sqlc.embed(s), coalesce(t.status, '')::text AS task
FROM hunt_starts s LEFT JOIN scheduled_tasks t ON t.merchant_id = s.merchant_id AND t.id = s.id
WHERE s.merchant_id = sqlc.arg(merchant_id) AND s.id = sqlc.arg(id) AND NOT s.auto;

-- name: HuntStartLock :one
-- Until the transaction ends: two who take one task for theirs come one after the other.
SELECT sqlc.embed(s), m.livemode AS livemode_now, (m.disconnected_at IS NOT NULL)::boolean AS disconnected,
    (m.connected_at > s.created_at)::boolean AS connected_anew,
    EXISTS (SELECT 1 FROM halts x WHERE x.scope IN (m.id, '00000000-0000-0000-0000-000000000000')) AS halted
FROM hunt_starts s JOIN merchants m ON m.id = s.merchant_id
WHERE s.merchant_id = sqlc.arg(merchant_id) AND s.id = sqlc.arg(id) FOR NO KEY UPDATE OF s;

-- name: HuntStartAdvance :exec
UPDATE hunt_starts SET after = sqlc.arg(after), looked_at = looked_at + sqlc.arg(looked_at), hunts = hunts + sqlc.arg(hunts),
    held_out = held_out + sqlc.arg(held_out), skipped = skipped + sqlc.arg(skipped)
WHERE merchant_id = sqlc.arg(merchant_id) AND id = sqlc.arg(id);

-- name: HuntStartFinish :exec
UPDATE hunt_starts SET state = sqlc.arg(state), error = nullif(sqlc.arg(error)::text, ''), finished_at = clock_timestamp()
WHERE merchant_id = sqlc.arg(merchant_id) AND id = sqlc.arg(id) AND state = 'running';

-- name: HuntStartDropOld :exec
-- What ended over 90 days ago.
DELETE FROM hunt_starts WHERE merchant_id = sqlc.arg(merchant_id) AND finished_at <= sqlc.arg(cutoff)::timestamptz;

-- name: HuntListTried :many
-- Those of these ghosts whose debt has had a hunt that was to recover, unless that ended with the
-- ghost: by a payment, or for one of the reasons for which ghosts close. Of a purged hunt no
-- invoice is known: then all that had failed before it ended counts as its debt.
SELECT g.id FROM (SELECT unnest(sqlc.arg(ghosts)::uuid[]) AS id, unnest(sqlc.arg(customers)::bytea[]) AS customer) AS asked
JOIN ghost_targets g ON g.merchant_id = sqlc.arg(merchant_id) AND g.id = asked.id
JOIN merchants m ON m.id = g.merchant_id
WHERE EXISTS (
    SELECT 1 FROM hunts h
    WHERE h.merchant_id = g.merchant_id AND h.customer = asked.customer AND h.mode = 'recover' AND h.livemode = m.livemode
        AND CASE WHEN h.state = 'active' THEN h.ghost_id = g.id
            ELSE h.state <> 'recovered' AND h.ended_reason <> ALL (sqlc.arg(closings)::text[])
                AND CASE WHEN h.invoices = '{}' THEN coalesce(g.first_failed_at <= h.ended_at, true)
                    ELSE h.invoices && (ARRAY(SELECT x ->> 'id' FROM jsonb_array_elements(g.invoices) x) || g.stripe_invoice_id) END END)
ORDER BY g.id;

-- name: HuntLoad :one
-- A hunt with all that its planning depends on: its playbook and the newest one, PHANTOM's time,
-- and what is remembered of the customer. Without a row its ghost is gone.
SELECT sqlc.embed(h), sqlc.embed(g), sqlc.embed(m), p.body AS playbook,
    (SELECT n.body FROM playbooks n WHERE n.merchant_id = h.merchant_id ORDER BY n.version DESC LIMIT 1)::jsonb AS newest, phantom_now()::timestamptz AS now,
    gm.memory
FROM hunts h
JOIN ghost_targets g ON g.merchant_id = h.merchant_id AND g.id = h.ghost_id
JOIN merchants m ON m.id = h.merchant_id
JOIN playbooks p ON p.merchant_id = h.merchant_id AND p.version = h.playbook_version
LEFT JOIN ghost_memories gm ON gm.merchant_id = g.merchant_id AND gm.ghost_id = g.id
WHERE h.merchant_id = sqlc.arg(merchant_id) AND h.id = sqlc.arg(id);

-- name: HuntSetArm :exec
-- Who chooses for the hunt's customer, while the oracle is on: once for each hunt.
UPDATE hunts SET oracle_arm = sqlc.arg(arm)::text WHERE merchant_id = sqlc.arg(merchant_id) AND id = sqlc.arg(id) AND oracle_arm IS NULL;

-- name: HuntFind :one
-- Whose hunt one is. An operator has nothing but its id.
SELECT merchant_id FROM hunts WHERE id = $1 LIMIT 1;

-- name: HuntGhostGet :one
SELECT * FROM ghost_targets WHERE merchant_id = $1 AND id = $2;

-- name: HuntGhostList :many
SELECT * FROM ghost_targets WHERE merchant_id = sqlc.arg(merchant_id) AND id = ANY (sqlc.arg(ids)::uuid[]) ORDER BY id;

-- name: HuntHalted :one
-- Whether something halts a merchant's hunts, and PHANTOM's time.
SELECT EXISTS (SELECT 1 FROM halts x WHERE x.scope IN (m.id, '00000000-0000-0000-0000-000000000000')) AS halted,
    (m.disconnected_at IS NOT NULL)::boolean AS disconnected, phantom_now()::timestamptz AS now
FROM merchants m WHERE m.id = $1;

-- name: HaltCreate :execrows
-- The operator's and the merchant's stand beside each other.
INSERT INTO halts (scope, by) VALUES (@scope, @by) ON CONFLICT DO NOTHING;

-- name: HaltDelete :execrows
DELETE FROM halts WHERE scope = @scope AND by = @by;

-- name: HaltGetSince :one
-- Since when nothing is sent for a merchant, no matter who halted it. Without a row nothing is
-- halted.
SELECT halted_at FROM halts WHERE scope IN (sqlc.arg(merchant_id), '00000000-0000-0000-0000-000000000000')
ORDER BY halted_at LIMIT 1;

-- name: HuntMessageGetLast :one
-- The last message of a hunt: its step, and when it was sent.
SELECT step, state, sent_at FROM messages WHERE merchant_id = $1 AND hunt_id = $2 ORDER BY step DESC LIMIT 1;

-- name: HuntMessageCreate :exec
INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, planned_for)
VALUES (@merchant_id, @id, @hunt_id, @step, @channel, @template, @planned_for);

-- name: HuntMessageSkipPlanned :exec
UPDATE messages SET state = 'skipped', why = @why::text, code = @code::text WHERE merchant_id = @merchant_id AND hunt_id = @hunt_id AND state = 'planned';

-- name: HuntListPausedOf :many
-- Hunts of these ghosts whose final step was a pause that still holds.
SELECT id FROM hunts WHERE merchant_id = sqlc.arg(merchant_id) AND ghost_id = ANY (sqlc.arg(ghosts)::uuid[]) AND paused ORDER BY id;

-- name: HuntMessageDropCanceled :exec
-- Of those skipped for a reason: whose task was canceled before a worker took it.
DELETE FROM messages m WHERE m.merchant_id = sqlc.arg(merchant_id) AND m.hunt_id = sqlc.arg(hunt_id) AND m.state = 'skipped' AND m.code = sqlc.arg(code)::text
    AND EXISTS (SELECT 1 FROM scheduled_tasks t WHERE t.merchant_id = m.merchant_id AND t.id = m.id AND t.status = 'canceled');

-- name: HuntMessageBefore :one
-- The channel of the last message that was sent before a payment.
SELECT channel FROM messages
WHERE merchant_id = @merchant_id AND hunt_id = @hunt_id AND state = 'sent' AND sent_at <= sqlc.arg(paid_at)::timestamptz
ORDER BY sent_at DESC LIMIT 1;
