package shield

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
)

// Tenant is what those who follow know of a merchant beside the rows.
type Tenant struct {
	ID           uuid.UUID
	Account      string
	Livemode     bool
	Disconnected bool
	Policy       Policy
	Version      int32
	Revision     int64
	reload       int64
}

// TenantKey opens a merchant's verdicts.
type TenantKey struct {
	Merchant, ID uuid.UUID
	Hash         []byte    // SHA-256
	Expires      time.Time // zero: never
}

// Sink is where what apps are told goes. One goroutine calls it.
type Sink interface {
	// Load replaces everything that is known of these merchants, or of all. Where rows fails,
	// nothing changes, and that is its error.
	Load(epoch string, tenants []Tenant, all bool, rows func(add func(merchant uuid.UUID, row Row)) error) error
	// Apply changes some of a merchant's rows.
	Apply(merchant uuid.UUID, revision int64, rows []Row)
	// Describe says what is new of a merchant beside the rows and the policy.
	Describe(tenant Tenant)
	// SetKeys replaces the keys of a merchant, or of all with the zero id.
	SetKeys(merchant uuid.UUID, keys []TenantKey)
	// Synced says that everything is known that was committed until now.
	Synced()
}

// Feed follows the database: LISTEN tells of each change within milliseconds, and a look each
// second is the net below it.
type Feed struct {
	Pool *pgxpool.Pool
	URL  string // past any pooler: LISTEN needs a session
	Sink Sink
	Log  *slog.Logger

	known map[uuid.UUID]Tenant
	asks  chan ask
}

// ask is somebody who waits for what was committed until now.
type ask struct {
	merchant uuid.UUID
	done     chan error
}

const (
	lookEvery = time.Second
	// knownFor is for how long a lost connection may be mended by catching up: rows that are gone
	// are kept for two days.
	knownFor = 24 * time.Hour
)

// NewFeed returns a feed that [Feed.Run] runs.
func NewFeed(pool *pgxpool.Pool, url string, sink Sink, log *slog.Logger) *Feed {
	return &Feed{Pool: pool, URL: url, Sink: sink, Log: log, known: map[uuid.UUID]Tenant{}, asks: make(chan ask)}
}

// Catch has everything of a merchant's known that was committed before it was called.
func (f *Feed) Catch(ctx context.Context, merchant uuid.UUID) error {
	a := ask{merchant, make(chan error, 1)}
	select {
	case f.asks <- a:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run follows until ctx ends. While the database is away the sink keeps what it has.
func (f *Feed) Run(ctx context.Context) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 50*time.Millisecond, time.Second
	epoch, heard, lost := "", time.Time{}, false
	for ctx.Err() == nil {
		err := f.follow(ctx, &epoch, &heard, func() {
			wait.Reset()
			if lost {
				lost = false
				f.Log.Info("[DATABASE] levels of access are followed again")
			}
		})
		if ctx.Err() != nil {
			return
		}
		if !lost {
			lost = true
			f.Log.Warn("[DATABASE] levels of access cannot be followed: what is known is answered until then", "cause", db.Describe(err))
		}
		f.pause(ctx, wait.NextBackOff(), err)
	}
}

// pause waits, and tells those who ask meanwhile that the database is away.
func (f *Feed) pause(ctx context.Context, d time.Duration, cause error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case a := <-f.asks:
			a.done <- cause
		}
	}
}

// follow follows over one connection until it is lost.
func (f *Feed) follow(ctx context.Context, epoch *string, heard *time.Time, followed func()) error {
	connecting, cancel := context.WithTimeout(ctx, 5*time.Second)
	conn, err := db.Connect(connecting, f.URL)
	cancel()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	// First listen, then read: what is committed in between is heard.
	if _, err := conn.Exec(ctx, "LISTEN "+db.ShieldChannel); err != nil {
		return err
	}
	now, err := db.Epoch(ctx, conn)
	if err != nil {
		return err
	}
	if now != *epoch || time.Since(*heard) > knownFor {
		err = f.loadAll(ctx, now)
	} else {
		err = f.catchUp(ctx)
	}
	if err != nil {
		return err
	}
	*epoch, *heard = now, time.Now()
	f.Sink.Synced()
	followed()
	for look := time.Now().Add(lookEvery); ; {
		if err := f.hear(ctx, conn, look); err != nil {
			return err
		}
		if time.Now().Before(look) {
			continue
		}
		look = time.Now().Add(lookEvery)
		if err := f.look(ctx); err != nil {
			return err
		}
		*heard = time.Now()
		f.Sink.Synced()
	}
}

// hear waits for one notification, a question, or the time of the next look.
func (f *Feed) hear(ctx context.Context, conn *pgx.Conn, until time.Time) error {
	waiting, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var asked *ask
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { // a question ends the waiting
		defer close(done)
		select {
		case a := <-f.asks:
			asked = &a
			cancel()
		case <-stop:
		}
	}()
	news, err := conn.WaitForNotification(waiting)
	close(stop)
	<-done
	if asked != nil {
		asked.done <- f.fetch(ctx, asked.merchant)
	}
	switch {
	case err == nil:
		return f.take(ctx, news)
	case ctx.Err() != nil:
		return ctx.Err()
	case waiting.Err() != nil && !conn.IsClosed():
		return nil
	}
	return err
}

// take does what a notification says. One that does not follow what is known is fetched.
func (f *Feed) take(ctx context.Context, note *pgconn.Notification) error {
	var news News
	if err := json.Unmarshal([]byte(note.Payload), &news); err != nil || news.Merchant == uuid.Nil {
		return nil //nolint:nilerr // not ours; the next look finds what there is
	}
	known, is := f.known[news.Merchant]
	if is && news.Revision <= known.Revision {
		return nil
	}
	if !is || len(news.Rows) == 0 || news.Revision != known.Revision+1 {
		return f.fetch(ctx, news.Merchant)
	}
	known.Revision = news.Revision
	f.known[news.Merchant] = known
	f.Sink.Apply(news.Merchant, news.Revision, news.Rows)
	return nil
}

// look finds what notifications did not say.
func (f *Feed) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	rows, err := db.New(f.Pool).ShieldListRecent(ctx)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := f.compare(ctx, row.MerchantID, row.Revision); err != nil {
			return err
		}
	}
	return nil
}

// catchUp finds what has changed while the connection was lost.
func (f *Feed) catchUp(ctx context.Context) error {
	rows, err := db.New(f.Pool).ShieldListRevisions(ctx)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := f.compare(ctx, row.MerchantID, row.Revision); err != nil {
			return err
		}
	}
	return nil
}

func (f *Feed) compare(ctx context.Context, merchant uuid.UUID, revision int64) error {
	if known, is := f.known[merchant]; is && known.Revision == revision {
		return nil
	}
	return f.fetch(ctx, merchant)
}

// fetchPage is how many rows are fetched at a time. More are loaded as at the start.
const fetchPage = 5000

// fetch reads what has changed of a merchant: some rows, or, where the policy has changed, the
// history has gone back or nothing was known, all of them.
func (f *Feed) fetch(ctx context.Context, merchant uuid.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var all []db.ShieldState
	var tenant Tenant
	var keys []TenantKey
	whole := false
	err := db.InSnapshot(ctx, f.Pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		tenants, err := readTenants(ctx, queries, merchant)
		if err != nil || len(tenants) == 0 {
			return err
		}
		tenant = tenants[0]
		known, is := f.known[merchant]
		whole = !is || tenant.reload > known.Revision || tenant.Revision < known.Revision || tenant.Livemode != known.Livemode
		if whole {
			return nil
		}
		if all, err = queries.ShieldListSince(ctx, db.ShieldListSinceParams{MerchantID: merchant, After: known.Revision, Page: fetchPage}); err != nil {
			return err
		}
		whole = len(all) == fetchPage
		keys, err = readKeys(ctx, queries, merchant)
		return err
	})
	switch {
	case err != nil || tenant.ID == uuid.Nil:
		return err
	case whole:
		return f.loadOne(ctx, merchant)
	}
	rows := make([]Row, len(all))
	for i, row := range all {
		var facts Facts
		if err := json.Unmarshal(row.Facts, &facts); err != nil {
			return fmt.Errorf("read the facts of a subscription: %w", err)
		}
		rows[i] = RowOf(row, facts)
	}
	f.known[merchant] = tenant
	f.Sink.Describe(tenant)
	f.Sink.SetKeys(merchant, keys)
	f.Sink.Apply(merchant, tenant.Revision, rows)
	return nil
}

func (f *Feed) loadAll(ctx context.Context, epoch string) error {
	f.known = map[uuid.UUID]Tenant{}
	return f.load(ctx, epoch, uuid.Nil)
}

func (f *Feed) loadOne(ctx context.Context, merchant uuid.UUID) error {
	return f.load(ctx, "", merchant)
}

// load reads everything of a merchant, or of all with the zero id, as of one moment.
func (f *Feed) load(ctx context.Context, epoch string, merchant uuid.UUID) error {
	return db.InCopySnapshot(ctx, f.Pool, func(tx pgx.Tx) (err error) {
		queries := db.New(tx)
		if epoch == "" {
			if epoch, err = db.Epoch(ctx, tx); err != nil {
				return err
			}
		}
		tenants, err := readTenants(ctx, queries, merchant)
		if err != nil {
			return err
		}
		keys, err := readKeys(ctx, queries, merchant)
		if err != nil {
			return err
		}
		if err := f.Sink.Load(epoch, tenants, merchant == uuid.Nil, func(add func(uuid.UUID, Row)) error {
			return copyRows(ctx, tx, merchant, add)
		}); err != nil {
			return err
		}
		f.Sink.SetKeys(merchant, keys)
		for _, tenant := range tenants {
			f.known[tenant.ID] = tenant
		}
		return nil
	})
}

func readTenants(ctx context.Context, queries *db.Queries, merchant uuid.UUID) ([]Tenant, error) {
	rows, err := queries.ShieldListTenants(ctx, merchant)
	if err != nil {
		return nil, err
	}
	tenants := make([]Tenant, len(rows))
	for i, row := range rows {
		policy, err := Parse(row.Body)
		if err != nil {
			return nil, fmt.Errorf("read policy %d of %s: %w", row.Version, row.Account, err)
		}
		tenants[i] = Tenant{row.ID, row.Account, row.Livemode, row.Disconnected, policy, row.Version, row.Revision, row.Reload}
	}
	return tenants, nil
}

func readKeys(ctx context.Context, queries *db.Queries, merchant uuid.UUID) ([]TenantKey, error) {
	rows, err := queries.ShieldListKeys(ctx, merchant)
	if err != nil {
		return nil, err
	}
	keys := make([]TenantKey, len(rows))
	for i, row := range rows {
		keys[i] = TenantKey{Merchant: row.MerchantID, ID: row.ID, Hash: row.KeyHash, Expires: row.ExpiresAt}
		if row.ExpiresAt.Year() <= 1 {
			keys[i].Expires = time.Time{}
		}
	}
	return keys, nil
}

// copied is what a load reads of each row, in binary.
const copied = `COPY (SELECT merchant_id, subscription, customer, substr(shown, length(customer) + 2), level, reason,
	extract(epoch FROM date_trunc('second', since))::bigint, ended, held, in_debt, target, provisional_until IS NOT NULL,
	CASE WHEN ahead = '[]' THEN NULL ELSE ahead::text END
	FROM shield_states WHERE NOT gone AND shown <> '' %s) TO STDOUT (FORMAT binary)`

// copyRows reads rows by COPY, which is several times quicker than a query.
func copyRows(ctx context.Context, tx pgx.Tx, merchant uuid.UUID, add func(uuid.UUID, Row)) error {
	which := ""
	if merchant != uuid.Nil {
		which = "AND merchant_id = '" + merchant.String() + "'"
	}
	parser := &copyParser{add: add, words: map[string]string{}}
	if _, err := tx.Conn().PgConn().CopyTo(ctx, parser, fmt.Sprintf(copied, which)); err != nil {
		return err
	}
	if !parser.ended {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// copyParser takes PostgreSQL's binary COPY format apart.
// https://www.postgresql.org/docs/current/sql-copy.html
type copyParser struct {
	add   func(uuid.UUID, Row)
	rest  []byte
	begun bool
	ended bool
	words map[string]string // levels, reasons and products, each once
}

var errCopy = errors.New("the rows of COPY cannot be read")

const copyHeader = 11 + 4 + 4

func (p *copyParser) Write(data []byte) (int, error) {
	buffer := data
	if len(p.rest) > 0 {
		p.rest = append(p.rest, data...)
		buffer = p.rest
	}
	if !p.begun {
		if len(buffer) < copyHeader {
			p.rest = append(p.rest[:0:0], buffer...)
			return len(data), nil
		}
		buffer, p.begun = buffer[copyHeader:], true
	}
	for len(buffer) >= 2 && !p.ended {
		n, complete, err := p.row(buffer)
		if err != nil {
			return 0, err
		}
		if !complete {
			break
		}
		buffer = buffer[n:]
	}
	p.rest = append(p.rest[:0:0], buffer...)
	return len(data), nil
}

// fields of a row
const copyFields = 13

// row takes one row apart, and says how long it is, if it is there as a whole.
func (p *copyParser) row(buffer []byte) (n int, complete bool, err error) {
	count := int16(binary.BigEndian.Uint16(buffer))
	if count == -1 {
		p.ended = true
		return 2, true, nil
	}
	if count != copyFields {
		return 0, false, errCopy
	}
	var fields [copyFields][]byte
	n = 2
	for i := range fields {
		if len(buffer) < n+4 {
			return 0, false, nil
		}
		size := int32(binary.BigEndian.Uint32(buffer[n:]))
		n += 4
		if size < 0 {
			continue
		}
		if len(buffer) < n+int(size) {
			return 0, false, nil
		}
		fields[i] = buffer[n : n+int(size)]
		n += int(size)
	}
	if len(fields[0]) != 16 || len(fields[6]) != 8 {
		return 0, false, errCopy
	}
	row := Row{
		Subscription: string(fields[1]), Customer: string(fields[2]), Product: p.word(fields[3]), Level: Level(p.word(fields[4])),
		Reason: Reason(p.word(fields[5])), Since: int64(binary.BigEndian.Uint64(fields[6])), Ended: fields[7][0] == 1, Held: fields[8][0] == 1,
		InDebt: fields[9][0] == 1,
	}
	switch {
	case fields[11][0] == 1:
		row.Level, row.Reason, row.Held = Full, ByAnnouncement, false
	case row.Held:
		row.Target = Level(p.word(fields[10]))
	}
	if len(fields[12]) > 0 && fields[11][0] != 1 {
		var ahead []Next
		if err := json.Unmarshal(fields[12], &ahead); err != nil {
			return 0, false, errCopy
		}
		for _, next := range ahead {
			row.Ahead = append(row.Ahead, RowAhead{next.Level, upToSecond(next.At)})
		}
	}
	p.add(uuid.UUID(fields[0]), row)
	return n, true, nil
}

// word is a text of which there are few.
func (p *copyParser) word(text []byte) string {
	if word, is := p.words[string(text)]; is {
		return word
	}
	word := strings.Clone(string(text))
	if len(p.words) < 10_000 {
		p.words[word] = word
	}
	return word
}
