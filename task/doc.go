// Package task is the durable queue over scheduled_tasks, on which everything runs that must
// survive a crash.
//
// # Promise
//
// A task that was enqueued in a transaction that committed runs at least once and is settled
// exactly once: who holds a task has its fence, a number that grows with every claim, and writes
// with an old fence change nothing. An effect outside the database is made safe to repeat by the
// task's id, which is its idempotency key.
//
// # How it works
//
// Any number of processes claim due rows in batches (FOR UPDATE SKIP LOCKED). A claim is a lease
// that the holder extends by heartbeats; when a process dies, its leases end and any other process
// takes the tasks over. NOTIFY wakes idle processes within milliseconds, and a timer set to the
// next run_at wakes them for tasks planned ahead; polling is rare and only a safety net. Time is
// the database's alone.
//
// docs/task-states.md draws the states.
package task
