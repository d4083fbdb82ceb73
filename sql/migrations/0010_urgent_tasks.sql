-- What a webhook asks for does not wait behind a backlog of charges: these few are found without looking at the others.
CREATE INDEX scheduled_tasks_urgent_idx ON scheduled_tasks (run_at) WHERE status = 'pending' AND kind IN ('webhook', 'refresh');
