package db

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/sql"
)

// GrantRuntime lets role read and write the rows of the database at url, and nothing else: now, and
// in tables that later migrations make. The URL is the owner's of the tables. It may be repeated.
func GrantRuntime(ctx context.Context, url, role string) error {
	conn, err := Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('phantom.runtime', $1, true)", role); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, sql.Roles)
		return err
	})
	var pgErr *pgconn.PgError
	switch {
	case !errors.As(err, &pgErr):
		return err
	case pgErr.Code == "P0001": // roles.sql says what to do
		return errors.New(pgErr.Message)
	case pgErr.Code == insufficientPrivilege:
		return fmt.Errorf("%s: run it as the owner of the tables", pgErr.Message)
	}
	return err
}

const insufficientPrivilege = "42501"

// Role is what phantom doctor says of the role that a pool connects as.
type Role struct {
	Name       string
	OwnsTables bool // it may change them, and drop them
	SeesAll    bool // it sees what the sessions of other roles do
}

// ReadRole asks who pool connects as.
func ReadRole(ctx context.Context, pool *pgxpool.Pool) (r Role, err error) {
	err = pool.QueryRow(ctx, `SELECT current_user, coalesce(pg_has_role(c.relowner, 'USAGE'), false), pg_has_role('pg_read_all_stats', 'USAGE')
		FROM (SELECT) AS one LEFT JOIN pg_class c ON c.relname = 'schema_version' AND c.relnamespace = 'public'::regnamespace`).
		Scan(&r.Name, &r.OwnsTables, &r.SeesAll)
	return r, err
}

// queryer is a pool or a connection.
type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// schemaState is what a role sees of the schema before it touches it.
type schemaState struct {
	Role  string // that asks
	Owner string // of the tables; "" if there are none
	// MayChange says that the role owns the tables, or may make them where there are none.
	MayChange bool
	Version   int32 // 0 if there are no tables
}

// readSchema asks for it. It changes nothing and takes no lock, so every role may.
func readSchema(ctx context.Context, q queryer) (s schemaState, err error) {
	err = q.QueryRow(ctx, `SELECT current_user, coalesce(pg_get_userbyid(c.relowner), ''),
			coalesce(pg_has_role(c.relowner, 'USAGE'), has_schema_privilege('public', 'CREATE'))
		FROM (SELECT) AS one LEFT JOIN pg_class c ON c.relname = 'schema_version' AND c.relnamespace = 'public'::regnamespace`).
		Scan(&s.Role, &s.Owner, &s.MayChange)
	if err == nil && s.Owner != "" {
		err = q.QueryRow(ctx, "SELECT version FROM public.schema_version").Scan(&s.Version)
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == insufficientPrivilege {
		return s, s.advise("may not read the schema's version")
	}
	return s, err
}

// advise is what an operator does about a role that lacks rights on rows.
func (s schemaState) advise(lacks string) error {
	return fmt.Errorf("the role %q %s: run phantom migrate --runtime %s with the URL of %q, which owns the tables", s.Role, lacks, s.Role, s.Owner)
}

// pending says what to do where migrations are to be run by another role.
func (s schemaState) pending(newest int32) error {
	if s.Owner == "" {
		return fmt.Errorf("it has no schema, and the role %q may not make one: run phantom migrate with the URL of the role that is to own "+
			"the tables, with --runtime %s", s.Role, s.Role)
	}
	return fmt.Errorf("the schema is at version %d and this binary needs %d, and the role %q may not change it: run phantom migrate with the "+
		"URL of %q, which owns the tables, and start again", s.Version, newest, s.Role, s.Owner)
}

// verifyRights makes sure that the role may read and write all rows, of the tables whose owner is
// that of the schema's version. A later failure would be one task's, amid others that succeed.
func (s schemaState) verifyRights(ctx context.Context, q queryer) error {
	var lacking []string
	err := q.QueryRow(ctx, `SELECT array_agg(c.relname::text ORDER BY c.relname) FROM pg_class c
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'S') AND pg_get_userbyid(c.relowner) = $1
			AND NOT CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'USAGE')
				WHEN c.relname = 'schema_version' THEN has_table_privilege(c.oid, 'SELECT')
				ELSE has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
					AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE') END`, s.Owner).Scan(&lacking)
	if err != nil || len(lacking) == 0 {
		return err
	}
	named := lacking[:min(3, len(lacking))]
	text := strings.Join(named, ", ")
	if rest := len(lacking) - len(named); rest > 0 {
		text += fmt.Sprintf(" and %d more", rest)
	}
	return s.advise("may not read and write the rows of " + text)
}
