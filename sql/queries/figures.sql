-- What hunts have brought, of the mode (live or test) that the merchant works in. Read in one
-- snapshot, so that the figures fit together.

-- name: FiguresHunts :many
-- Hunts in groups, which are few. What is at risk is what the ghosts of active hunts owe now.
SELECT h.mode, h.currency, h.decline_class,
    count(*) FILTER (WHERE h.state = 'active') AS active,
    count(*) FILTER (WHERE h.state = 'recovered') AS recovered,
    count(*) FILTER (WHERE h.state = 'exhausted') AS exhausted,
    count(*) FILTER (WHERE h.state = 'stopped') AS stopped,
    count(*) FILTER (WHERE h.held_out) AS held_out,
    coalesce(sum(g.amount), 0)::bigint AS at_risk
FROM hunts h
JOIN merchants m ON m.id = h.merchant_id AND m.livemode = h.livemode
LEFT JOIN ghost_targets g ON g.merchant_id = h.merchant_id AND g.id = h.ghost_id AND h.state = 'active'
WHERE h.merchant_id = @merchant_id
GROUP BY h.mode, h.currency, h.decline_class
ORDER BY h.mode, h.currency, h.decline_class;

-- name: FiguresRecovered :many
-- Paid invoices in groups. The table holds each invoice once.
SELECT h.mode, r.currency, h.decline_class, r.cause, count(*) AS invoices, sum(r.amount)::bigint AS amount
FROM recoveries r
JOIN hunts h ON h.merchant_id = r.merchant_id AND h.id = r.hunt_id
JOIN merchants m ON m.id = h.merchant_id AND m.livemode = h.livemode
WHERE r.merchant_id = @merchant_id
GROUP BY h.mode, r.currency, h.decline_class, r.cause
ORDER BY h.mode, r.currency, h.decline_class, r.cause;

-- name: FiguresCosts :one
-- What has left, or may have: an unclear outcome is counted, since it may have to be paid for.
SELECT
    (SELECT count(*) FROM attempts a JOIN hunts h ON h.merchant_id = a.merchant_id AND h.id = a.hunt_id AND h.livemode = m.livemode
        WHERE a.merchant_id = m.id AND a.action = 'invoice_pay' AND a.sent_at IS NOT NULL
            AND coalesce(a.result, '') NOT IN ('not_sent', 'absent')) AS charges,
    (SELECT count(*) FROM messages x JOIN hunts h ON h.merchant_id = x.merchant_id AND h.id = x.hunt_id AND h.livemode = m.livemode
        WHERE x.merchant_id = m.id AND x.channel = 'email' AND x.sent_at IS NOT NULL AND x.state IN ('sending', 'sent', 'unclear')) AS emails,
    (SELECT count(*) FROM messages x JOIN hunts h ON h.merchant_id = x.merchant_id AND h.id = x.hunt_id AND h.livemode = m.livemode
        WHERE x.merchant_id = m.id AND x.channel = 'sms' AND x.sent_at IS NOT NULL AND x.state IN ('sending', 'sent', 'unclear')) AS sms
FROM merchants m WHERE m.id = @merchant_id;

-- name: FiguresArms :many
-- Customers by the arm of their first hunt that was to recover, no matter what was sent and however
-- it ended: intention to treat. What counts is when the money came, not when a hunt ended by it: a
-- hunt of a customer who is left alone may end days later. Recovered hunts end early and the others
-- do not, so who counts is decided by time alone, the same for both arms: the window is over, and
-- so is the day in which what was paid in it is read. What came after the window counts in neither
-- arm. Who began when nobody could be held out was never drawn for an arm.
SELECT f.held_out,
    count(*) FILTER (WHERE f.read_by <= phantom_now()) AS customers,
    count(*) FILTER (WHERE f.read_by <= phantom_now() AND f.paid_at <= f.window_ends) AS recovered,
    count(*) FILTER (WHERE f.read_by > phantom_now()) AS waiting
FROM (
    SELECT DISTINCT ON (h.customer) h.held_out, h.paid_at, (p.body ->> 'holdout_percent')::integer AS percent,
        h.began_at + (p.body ->> 'window_days')::integer * interval '24 hours' AS window_ends,
        h.began_at + ((p.body ->> 'window_days')::integer + 1) * interval '24 hours' AS read_by
    FROM hunts h
    JOIN merchants m ON m.id = h.merchant_id AND m.livemode = h.livemode
    JOIN playbooks p ON p.merchant_id = h.merchant_id AND p.version = h.playbook_version
    WHERE h.merchant_id = @merchant_id AND h.mode = 'recover'
    ORDER BY h.customer, h.began_at, h.id) AS f
WHERE f.percent BETWEEN 1 AND 99
GROUP BY f.held_out
ORDER BY f.held_out;
