package db

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The bounds of every transaction go with its BEGIN, in one message: so they hold behind a pooler
// too, which would refuse or mix up what belongs to a session. A process that is lost amid a
// transaction leaves its locks with the server, and its connection for as long as TCP keeps it: two
// hours by default. Who waits for such a lock waits a little longer than the server does.
//
// No statement is compiled (jit). Where the planner takes one for dear that costs 0.3 to 2 s, and
// it saves nothing of what is asked here.
const bounds = "; SET LOCAL idle_in_transaction_session_timeout = '20s'; SET LOCAL lock_timeout = '25s'; SET LOCAL jit = off"

// watch has the server notice the end of a host while it reads rows from there (COPY), when a
// transaction does not count as idle.
const watch = "SET LOCAL tcp_keepalives_idle = 10; SET LOCAL tcp_keepalives_interval = 5; SET LOCAL tcp_keepalives_count = 3"

// InTx runs work in a transaction, which is committed unless work fails. Between two of its
// statements it may be idle for 20 s at most, and wait for a lock for 25 s: it fails then, as when
// the database is lost.
func InTx(ctx context.Context, pool *pgxpool.Pool, work func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{BeginQuery: "BEGIN" + bounds}, work)
}

// InCopyTx is InTx for work that copies rows to the server.
func InCopyTx(ctx context.Context, pool *pgxpool.Pool, work func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{BeginQuery: "BEGIN" + bounds + "; " + watch}, work)
}

// InSnapshot is InTx for work that reads, all of it as of one moment.
func InSnapshot(ctx context.Context, pool *pgxpool.Pool, work func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{BeginQuery: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" + bounds}, work)
}
