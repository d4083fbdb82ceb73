package db

import (
	"context"
	"fmt"
	"time"

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
	return inTx(ctx, pool, "BEGIN"+bounds, work)
}

// InCopyTx is InTx for work that copies rows to the server.
func InCopyTx(ctx context.Context, pool *pgxpool.Pool, work func(tx pgx.Tx) error) error {
	return inTx(ctx, pool, "BEGIN"+bounds+"; "+watch, work)
}

func inTx(ctx context.Context, pool *pgxpool.Pool, begin string, work func(tx pgx.Tx) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var ours *announcing
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{BeginQuery: begin}, func(tx pgx.Tx) error {
		ours = &announcing{Tx: tx}
		return work(ours)
	})
	if err == nil {
		ours.announce(ctx, conn)
	}
	return err
}

// InCopySnapshot is [InSnapshot] for work that copies rows from the server, which may take a while.
func InCopySnapshot(ctx context.Context, pool *pgxpool.Pool, work func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{BeginQuery: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" + bounds + "; " + watch}, work)
}

// announcing is a transaction that sends its notifications once it has committed.
type announcing struct {
	pgx.Tx
	channels, payloads []string
}

// announceTime bounds what comes after a commit, which must not fail for it.
const announceTime = 2 * time.Second

// announce sends what was said. Where that fails, or the process ends before it, nobody is told,
// and those who listen find out when they look by themselves.
func (a *announcing) announce(ctx context.Context, conn *pgxpool.Conn) {
	if len(a.channels) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), announceTime)
	defer cancel()
	_ = New(conn).NotifyAll(ctx, NotifyAllParams{Channels: a.channels, Payloads: a.payloads})
}

// ShieldChannel is where those listen who follow levels of access.
const ShieldChannel = "phantom_shield"

// Notify tells all who listen on a channel, once the transaction has committed. Inside, NOTIFY
// takes a lock for all databases of the server until the commit is over: with 16 writers that
// leaves a sixteenth of the commits. A tx of another making than [InTx]'s, or a pool, tells by
// itself.
func Notify(ctx context.Context, tx DBTX, channel, payload string) error {
	ours, is := tx.(*announcing)
	if !is {
		if err := New(tx).NotifyAll(ctx, NotifyAllParams{Channels: []string{channel}, Payloads: []string{payload}}); err != nil {
			return fmt.Errorf("notify: %w", err)
		}
		return nil
	}
	for i, said := range ours.payloads {
		if said == payload && ours.channels[i] == channel {
			return nil
		}
	}
	ours.channels, ours.payloads = append(ours.channels, channel), append(ours.payloads, payload)
	return nil
}

// InSnapshot is InTx for work that reads, all of it as of one moment.
func InSnapshot(ctx context.Context, pool *pgxpool.Pool, work func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{BeginQuery: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" + bounds}, work)
}
