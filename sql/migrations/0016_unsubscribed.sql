-- Who unsubscribes is looked for among all messages of theirs, sent or not: without the predicate
-- of the index before.
DROP INDEX messages_persons_idx;
-- a list of new entries would be read whole each time
CREATE INDEX messages_persons_idx ON messages USING gin (persons) WITH (fastupdate = off);
