-- A person may give up a charge of which nobody knows what became: it counts as one that was sent.
ALTER TABLE attempts
    DROP CONSTRAINT attempts_result_known,
    ADD CONSTRAINT attempts_result_known CHECK (result IN ('done', 'paid', 'processing', 'declined', 'refused', 'not_sent', 'absent', 'unknown'));
