// Package db is PHANTOM's PostgreSQL: connections that seal and open, transactions, migrations, and
// the queries that sqlc generates from sql/.
package db

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/puddle/v2"

	"phantom/vault"
)

// Open returns a pool whose connections seal and open with ring. It does not connect yet.
func Open(ctx context.Context, url string, ring *vault.Keyring) (*pgxpool.Pool, error) {
	types := sealedTypes{ring: ring}
	return open(ctx, url, types.register)
}

// OpenWithoutKeyring is Open for a command that reads and writes no sealed column: a statement that
// names one fails.
func OpenWithoutKeyring(ctx context.Context, url string) (*pgxpool.Pool, error) {
	return open(ctx, url, func(_ context.Context, conn *pgx.Conn) error {
		registerUUID(conn.TypeMap())
		return nil
	})
}

func open(ctx context.Context, url string, afterConnect func(context.Context, *pgx.Conn) error) (*pgxpool.Pool, error) {
	if err := CheckURL(url); err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errMalformedURL // the pool's own settings in the query
	}
	prepareConn(config.ConnConfig)
	config.AfterConnect = afterConnect
	return pgxpool.NewWithConfig(ctx, config)
}

var errMalformedURL = errors.New("malformed: provide postgres://user:password@host:5432/name, with special characters percent-encoded")

// CheckURL reports whether url is one that all of this package accepts. Its error never quotes the
// URL: it may hold a password.
func CheckURL(url string) error {
	_, err := parseURL(url)
	return err
}

// PoolOf is how many connections a URL allows a pool, and 0 where its query does not say.
func PoolOf(text string) (int, error) {
	parsed, _, err := splitURL(text)
	if err != nil || !parsed.Query().Has("pool_max_conns") {
		return 0, err
	}
	size, err := strconv.Atoi(parsed.Query().Get("pool_max_conns"))
	if err != nil || size < 1 {
		return 0, errors.New("pool_max_conns must be a number from 1")
	}
	return size, nil
}

// WithPool is url with a pool of so many connections at most, also where its query names another
// number.
func WithPool(text string, size int) string {
	base, query, _ := strings.Cut(text, "?")
	parts := slices.DeleteFunc(strings.Split(query, "&"), func(part string) bool {
		return part == "" || strings.HasPrefix(part, "pool_max_conns=")
	})
	return base + "?" + strings.Join(append(parts, "pool_max_conns="+strconv.Itoa(size)), "&")
}

// withoutPool is a URL without what its query says of a pool: one connection knows nothing of it.
func withoutPool(text, query string) string {
	var kept []string
	for part := range strings.SplitSeq(query, "&") {
		if !strings.HasPrefix(part, "pool_") {
			kept = append(kept, part)
		}
	}
	return strings.Replace(text, "?"+query, "?"+strings.Join(kept, "&"), 1)
}

// Connect makes one connection to url, past any pool.
func Connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, config)
}

// parseURL is the driver's own parser, held against the standard library's: where the two see
// different parts, as with an unescaped @ or / in the password, a piece of the password would be
// taken for a host or a name, and shown.
func parseURL(text string) (*pgx.ConnConfig, error) {
	parsed, others, err := splitURL(text)
	if err != nil || parsed.Scheme != "postgres" && parsed.Scheme != "postgresql" || strings.Count(text, "@") > 1 ||
		strings.Contains(parsed.EscapedPath(), "@") {
		return nil, errMalformedURL
	}
	if strings.Contains(parsed.RawQuery, "pool_") {
		text = withoutPool(text, parsed.RawQuery)
	}
	config, err := pgx.ParseConfig(text)
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return nil, fmt.Errorf("a file that its query names cannot be read: %w", pathErr.Err)
	}
	if err != nil || parsed.Hostname() != "" && config.Host != parsed.Hostname() ||
		parsed.Port() != "" && strconv.Itoa(int(config.Port)) != parsed.Port() ||
		len(parsed.Path) > 1 && config.Database != parsed.Path[1:] || !hasHosts(config, others) {
		return nil, errMalformedURL
	}
	prepareConn(config)
	return config, nil
}

// splitURL parses a URL with its first host, and returns the others: several servers of which one
// is the primary, as in host1:5432,host2:5432, are PostgreSQL's own and no other URL's.
func splitURL(text string) (parsed *url.URL, others []string, err error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return nil, nil, errMalformedURL
	}
	end := len(rest)
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		end = i
	}
	user, hosts := "", rest[:end]
	if i := strings.LastIndex(hosts, "@"); i >= 0 {
		user, hosts = hosts[:i+1], hosts[i+1:]
	}
	all := strings.Split(hosts, ",")
	if len(all) > 1 && slices.Contains(all, "") {
		return nil, nil, errMalformedURL
	}
	parsed, err = url.Parse(scheme + "://" + user + all[0] + rest[end:])
	return parsed, all[1:], err
}

// hasHosts says whether the driver has found these hosts too.
func hasHosts(config *pgx.ConnConfig, others []string) bool {
	for _, other := range others {
		one, err := url.Parse("postgres://" + other)
		if err != nil || one.Host == "" || one.User != nil {
			return false
		}
		if !slices.ContainsFunc(config.Fallbacks, func(f *pgconn.FallbackConfig) bool {
			return f.Host == one.Hostname() && (one.Port() == "" || one.Port() == strconv.Itoa(int(f.Port)))
		}) {
			return false
		}
	}
	return true
}

func prepareConn(config *pgx.ConnConfig) {
	// The one mode that a transaction pooler carries: nothing that is prepared outlives a
	// statement. docs/adr/0003. Only who names another in the URL, and so knows that no pooler is
	// there, gets it.
	if named, _, err := splitURL(config.ConnString()); err != nil || !named.Query().Has("default_query_exec_mode") {
		config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "phantom"
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 3 * time.Second
	}
	config.DialFunc = newDialer().DialContext
}

// sealedTypes looks up the OIDs of sealed_token and its array once per pool and registers them on
// every connection.
type sealedTypes struct {
	ring *vault.Keyring

	mutex      sync.Mutex
	oid, array uint32
}

func (s *sealedTypes) register(ctx context.Context, conn *pgx.Conn) error {
	oid, array, err := s.lookUp(ctx, conn)
	if err != nil {
		return fmt.Errorf("look up type sealed_token: %w", err)
	}
	registerUUID(conn.TypeMap())
	return vault.Register(conn.TypeMap(), s.ring, oid, array)
}

func (s *sealedTypes) lookUp(ctx context.Context, conn *pgx.Conn) (oid, array uint32, err error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.oid != 0 {
		return s.oid, s.array, nil
	}
	err = conn.QueryRow(ctx, "SELECT oid, typarray FROM pg_type WHERE oid = to_regtype('sealed_token')").Scan(&oid, &array)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, errors.New("it does not exist: run phantom migrate, and let DATABASE_URL and DATABASE_DIRECT_URL name the same database")
	}
	if err != nil {
		return 0, 0, err
	}
	s.oid, s.array = oid, array
	return oid, array, nil
}

// UnreachableError says that no connection could be made. It prints on one line, without a
// password.
type UnreachableError struct {
	Address string // host:port/name
	Waited  time.Duration
	Err     error
}

func (e *UnreachableError) Error() string {
	cause := Describe(e.Err)
	// pgconn tries with and without TLS and at each address, and says all of it again each time.
	var pgErr *pgconn.PgError
	var netErr *net.OpError
	if errors.As(e.Err, &pgErr) {
		cause = pgErr.Message
	} else if errors.As(e.Err, &netErr) {
		cause = netErr.Error()
	}
	if e.Waited == 0 {
		return fmt.Sprintf("PostgreSQL at %s refuses the connection: %s: check user, password and database name", e.Address, cause)
	}
	return fmt.Sprintf("cannot reach PostgreSQL at %s after %s: %s", e.Address, e.Waited, cause)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// WaitReachable returns once a connection to url can be made, trying with backoff for as long as
// patience. A refusal that will not change by waiting (password, missing database) is returned at
// once. Failure is an [*UnreachableError].
func WaitReachable(ctx context.Context, url string, patience time.Duration) error {
	config, err := parseURL(url)
	if err != nil {
		return err
	}
	unreachable, started := &UnreachableError{Address: address(config)}, time.Now()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval = 100*time.Millisecond, 2*time.Second
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			unreachable.Err = firstCause(unreachable.Err, err)
			if refuses(err) {
				return struct{}{}, backoff.Permanent(err)
			}
			return struct{}{}, err
		}
		return struct{}{}, conn.Close(ctx)
	}, backoff.WithBackOff(delays), backoff.WithMaxElapsedTime(0))
	if err == nil {
		return nil
	}
	if unreachable.Err == nil {
		unreachable.Err = err
	}
	if !refuses(unreachable.Err) {
		unreachable.Waited = max(time.Since(started).Round(time.Second), time.Second)
	}
	return unreachable
}

// firstCause keeps the informative error when the last try was merely cut off by the deadline.
func firstCause(known, latest error) error {
	if known != nil && errors.Is(latest, context.DeadlineExceeded) {
		return known
	}
	return latest
}

// address is host:port/name, to be shown: nothing else of the URL may be. Several hosts are
// separated by commas.
func address(config *pgx.ConnConfig) string {
	hosts := []string{hostPort(config.Host, config.Port)}
	for _, f := range config.Fallbacks { // each host with and without TLS
		if host := hostPort(f.Host, f.Port); !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return strings.Join(hosts, ",") + "/" + config.Database
}

func hostPort(host string, port uint16) string {
	if strings.HasPrefix(host, "/") {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// refuses reports an answer of the server that trying again does not change: class 28, invalid
// authorization, and 3D000, no such database.
func refuses(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (strings.HasPrefix(pgErr.Code, "28") || pgErr.Code == "3D000")
}

// Unavailable reports whether err means that the database could not be asked, rather than that it
// answered no: a connection refused or lost, a deadline, a server that is starting, stopping or out
// of connections.
func Unavailable(err error) bool {
	if err == nil {
		return false
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		// 08 connection, 28 authorization, 3D no such database, 40 a transaction that may be tried
		// again, as on a standby that replays, 53 insufficient resources, 57 operator intervention
		// and statement time-outs; 25006 a standby after a failover, 25P03 idle for too long, 55P03
		// a lock that is not had in time.
		return slices.Contains([]string{"08", "28", "3D", "40", "53", "57"}, pgErr.Code[:min(2, len(pgErr.Code))]) ||
			slices.Contains([]string{"25006", "25P03", "55P03"}, pgErr.Code)
	}
	var connectErr *pgconn.ConnectError
	var netErr net.Error
	return errors.As(err, &connectErr) || errors.As(err, &netErr) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, puddle.ErrClosedPool) ||
		errors.Is(err, pgconn.ErrConnClosed) || pgconn.SafeToRetry(err)
}

// ReadOnly reports whether err means that the database takes no writes for now, such as a standby.
func ReadOnly(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "25006"
}

// Writable says whether the database answers and takes writes. One that takes none, such as a
// standby after a failover, is an error that [ReadOnly] knows.
func Writable(ctx context.Context, pool *pgxpool.Pool) error {
	readOnly, err := New(pool).DatabaseReadOnly(ctx)
	if err != nil {
		return err
	}
	if readOnly {
		return &pgconn.PgError{Severity: "ERROR", Code: "25006", Message: "the database takes no writes"}
	}
	return nil
}

// Describe is err on one line: pgconn lists addresses on lines of their own.
func Describe(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
