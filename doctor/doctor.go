// Package doctor looks at everything that phantom stands on, and says what to do.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/app"
	"phantom/connect"
	"phantom/db"
	"phantom/oracle"
)

// Bounds of phantom doctor.
const (
	doctorPatience = 3 * time.Second // for a database that does not answer
	skewNoted      = 5 * time.Second
	skewTooMuch    = 4 * time.Minute // a webhook is refused from 5 minutes on
	lagNoted       = time.Minute
	lagTooMuch     = 15 * time.Minute
	silenceNoted   = 24 * time.Hour
	leaseNoted     = time.Minute // a living worker takes over within 15 seconds
	haltsNamed     = 5           // accounts of halts and of parked tasks
)

// Status is what a check came to.
type Status string

// Statuses of a check, the worst last.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Check is one thing that was looked at.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	Advice string `json:"advice,omitempty"` // what to do, unless it is ok or the detail says it
}

// Diagnosis collects checks. It changes nothing in the database and at Stripe, and shows no secret.
type Diagnosis struct {
	config *app.Config // what could be read of it: a field is zero where it could not
	role   db.Role     // that asks the database
	Checks []Check
}

func (d *Diagnosis) add(status Status, name, detail, advice string) {
	d.Checks = append(d.Checks, Check{name, status, detail, advice})
}

// skip says that a check was not made: it must not be taken for one that has passed.
func (d *Diagnosis) skip(why string, names ...string) {
	for _, name := range names {
		d.add(Warn, name, "not checked: "+why, "")
	}
}

// Count is how many checks came to status.
func (d Diagnosis) Count(status Status) (n int) {
	for _, c := range d.Checks {
		if c.Status == status {
			n++
		}
	}
	return n
}

// Status is the worst of all checks'.
func (d Diagnosis) Status() Status {
	switch {
	case d.Count(Fail) > 0:
		return Fail
	case d.Count(Warn) > 0:
		return Warn
	}
	return OK
}

// Run looks at everything that this program stands on. Log lines go to logTo. stop ends the
// stand-ins of dev mode.
func Run(ctx context.Context, getenv func(string) string, logTo io.Writer) (d Diagnosis, stop func()) {
	stop = d.checkConfig(ctx, getenv, logTo)
	d.checkStripe(ctx)
	d.checkDatabase(ctx)
	return d, stop
}

// checkConfig reads the environment. Where it is not good as a whole, the parts that are good serve
// the other checks.
func (d *Diagnosis) checkConfig(ctx context.Context, getenv func(string) string, stderr io.Writer) (stop func()) {
	d.config = &app.Config{}
	c, err := app.Load(getenv, app.Needs{Database: true, Key: true, Stripe: true})
	if err == nil {
		stop, err = c.StandIn(ctx, c.Logger(stderr))
		if err == nil {
			d.config = c
			if c.Dev {
				d.add(Warn, "configuration", "dev mode, with stand-ins for "+strings.Join(c.Missing, ", "), "set them for production")
			} else {
				d.add(OK, "configuration", fmt.Sprintf("complete; seals under key id %s", c.Ring.KeyID()), "")
			}
			return stop
		}
	}
	var said []string
	for _, need := range []app.Needs{{Database: true}, {Key: true}, {Stripe: true}} {
		part, partErr := app.Load(getenv, need)
		switch {
		case partErr != nil:
			if text := partErr.Error(); !slices.Contains(said, text) {
				said = append(said, text)
			}
		case part.Dev:
		case need.Database:
			d.config.DatabaseURL, d.config.DatabaseDirectURL, d.config.PoolSize = part.DatabaseURL, part.DatabaseDirectURL, part.PoolSize
		case need.Key:
			d.config.Ring = part.Ring
		case need.Stripe:
			before := *d.config
			*d.config = *part
			d.config.Ring, d.config.PoolSize = before.Ring, before.PoolSize
			d.config.DatabaseURL, d.config.DatabaseDirectURL = before.DatabaseURL, before.DatabaseDirectURL
		}
	}
	if len(said) == 0 {
		said = []string{db.Describe(err)}
	}
	for _, text := range said {
		d.add(Fail, "configuration", text, "")
	}
	return func() {}
}

func (d *Diagnosis) checkStripe(ctx context.Context) {
	c := d.config
	if c.StripeClientID == "" && c.StripeMerchantKey != "" {
		d.skip("an account's own endpoint has a secret of its own (phantom connect)", "webhook secret")
	} else if len(c.WebhookSecrets) > 0 {
		d.add(OK, "webhook secret", fmt.Sprintf("%d set", len(c.WebhookSecrets)), "")
	} else if c.StripeSecretKey == "" || c.Sandbox {
		d.skip("there is no Stripe account to send webhooks", "webhook secret")
	} else {
		d.add(Warn, "webhook secret", "STRIPE_WEBHOOK_SECRET is not set, so webhooks get 503 and ghosts change by audits alone", "provide the endpoint's signing secret (whsec_…)")
	}
	key, whose := c.StripeSecretKey, "STRIPE_SECRET_KEY"
	if key == "" && c.StripeMerchantKey != "" {
		key, whose = c.StripeMerchantKey, "STRIPE_MERCHANT_KEY"
	}
	if key == "" {
		d.skip("STRIPE_SECRET_KEY cannot be read", "stripe", "stripe clock", "webhook endpoint")
		return
	}
	mode := "test mode"
	if connect.IsLive(key) {
		mode = "live mode"
	}
	if c.StripeAPIBase != "" {
		mode += " at " + c.StripeAPIBase
	}
	service := connect.New(connect.Config{SecretKey: key, APIBase: c.StripeAPIBase, ConnectBase: c.StripeConnectBase}, nil)
	platform, err := service.Platform(ctx)
	took := platform.Took.Round(time.Millisecond)
	switch {
	case errors.Is(err, connect.ErrPlatformKey):
		d.add(Fail, "stripe", mode+", and Stripe does not accept "+whose, "provide a current secret key (Developers, API keys)")
	case err != nil:
		d.add(Fail, "stripe", mode+", and "+err.Error(), "look at status.stripe.com, and whether this machine may reach api.stripe.com:443")
	case platform.Account == "":
		d.add(Warn, "stripe", fmt.Sprintf("%s, reached in %s; the restricted key may not read its account", mode, took), "give it that right to have it checked")
	default:
		d.add(OK, "stripe", fmt.Sprintf("%s, reached in %s as %s", mode, took, platform.Account), "")
	}
	switch {
	case err != nil:
		d.skip("Stripe does not answer", "webhook endpoint")
	case c.StripeSecretKey == "":
		d.skip("an account's own endpoint is its merchant's to keep (docs/stripe-setup.md)", "webhook endpoint")
	default:
		d.checkEndpoint(ctx, service)
	}
	if platform.Date.IsZero() {
		d.skip("Stripe did not say what time it is", "stripe clock")
		return
	}
	// it leaves out the fraction
	d.checkSkew("stripe clock", platform.Date.Add(500*time.Millisecond).Sub(platform.Now))
}

// checkSkew judges by how much another clock is ahead of this machine's.
func (d *Diagnosis) checkSkew(name string, ahead time.Duration) {
	status, advice := OK, ""
	if ahead.Abs() > skewTooMuch {
		status = Fail
	} else if ahead.Abs() > skewNoted {
		status = Warn
	}
	if status != OK {
		advice = "let NTP set both clocks; webhooks are refused from 300 s on"
	}
	d.add(status, name, fmt.Sprintf("%+.1f s from this machine's", ahead.Seconds()), advice)
}

func (d *Diagnosis) checkDatabase(ctx context.Context) {
	rest := []string{"server version", "database clock", "connections", "transactions", "schema", "keys", "sealed values", "merchants", "webhook events", "backlog", "needs review", "workers", "parked", "halts", "disputes", "access", "messages", "oracle"}
	c := d.config
	if c.DatabaseURL == "" {
		d.skip("DATABASE_URL cannot be read", append([]string{"database"}, rest...)...)
		return
	}
	const advice = "see that it runs, and that this machine may connect to it"
	reachable := true
	for _, place := range []struct{ name, url string }{{"database", c.DatabaseURL}, {"direct database", c.DatabaseDirectURL}} {
		if place.name != "database" && place.url == c.DatabaseURL {
			continue
		}
		if err := db.WaitReachable(ctx, place.url, doctorPatience); err != nil {
			d.add(Fail, place.name, db.Describe(err), advice)
			reachable = reachable && place.name != "database"
		} else {
			d.add(OK, place.name, "answers", "")
		}
	}
	pool, err := db.OpenWithoutKeyring(ctx, c.DatabaseURL)
	if err != nil {
		d.skip("DATABASE_URL cannot be read", rest...)
		return
	}
	defer app.ClosePool(pool)
	ctx, cancel := context.WithTimeout(ctx, 10*doctorPatience)
	defer cancel()
	if !reachable || !d.checkServer(ctx, pool) {
		d.skip("the database does not answer", rest...)
		return
	}
	rest = rest[4:]
	if err := db.VerifySchema(ctx, pool); err != nil {
		d.add(Fail, "schema", db.Describe(err), "")
		d.skip("the schema is another one", rest[1:]...)
		return
	}
	if d.role.OwnsTables {
		d.add(OK, "schema", "is this version's; "+d.role.Name+" owns it (docs/roles.md: servers need less)", "")
	} else {
		d.add(OK, "schema", "is this version's; "+d.role.Name+" reads and writes rows, and changes no table", "")
	}
	queries := db.New(pool)
	for _, check := range []struct {
		name string
		look func(context.Context, *db.Queries) error
	}{
		{"keys", d.checkKeys}, {"sealed values", d.checkSealed}, {"merchants", d.checkMerchants}, {"backlog", d.checkTasks}, {"parked", d.checkParked},
		{"halts", d.checkHalts}, {"disputes", d.checkDisputes}, {"access", d.checkHolds}, {"messages", d.checkMessages},
		{"oracle", func(ctx context.Context, queries *db.Queries) error {
			now, err := queries.Now(ctx)
			if err != nil {
				return err
			}
			return d.checkOracle(ctx, oracle.New(pool), now)
		}},
	} {
		if err := check.look(ctx, queries); err != nil {
			d.add(Fail, check.name, db.Describe(err), advice)
		}
	}
}

func (d *Diagnosis) checkServer(ctx context.Context, pool *pgxpool.Pool) (answers bool) {
	started := time.Now()
	server, err := db.New(pool).DoctorServer(ctx)
	if err != nil {
		return false
	}
	if server.Number < 140000 {
		d.add(Fail, "server version", "PostgreSQL "+server.Version, "PHANTOM needs 14 or newer")
	} else {
		d.add(OK, "server version", "PostgreSQL "+server.Version, "")
	}
	d.checkSkew("database clock", server.Now.Sub(started.Add(time.Since(started)/2)))
	d.checkConnections(server.Connections)
	if d.role, err = db.ReadRole(ctx, pool); err != nil {
		d.add(Fail, "transactions", db.Describe(err), "")
		return true
	}
	if err := d.checkTransactions(ctx, db.New(pool), transactionNoted); err != nil {
		d.add(Fail, "transactions", db.Describe(err), "")
	}
	return true
}

// checkConnections compares what a process may take with what the server has for all.
func (d *Diagnosis) checkConnections(server int32) {
	// Three listen, and a command runs beside them.
	most := d.config.Connections() + d.config.ConnectionsOfQueues() + 4
	detail := fmt.Sprintf("the server takes %d; a process like this one holds %d at most", server, most)
	if most > int(server) {
		d.add(Warn, "connections", detail, "lower WORKERS or DATABASE_POOL, or raise max_connections; several processes share them")
	} else {
		d.add(OK, "connections", detail, "")
	}
}

// transactionNoted is for how long a transaction may be open, and horizonNoted how many others may
// begin while a standby has its primary keep what they change.
const (
	transactionNoted = time.Minute
	horizonNoted     = 100_000
)

// checkTransactions names whose transactions have been open for so long, and who keeps what has
// changed from being cleared away, which makes claims slow. Others may wait for their locks.
func (d *Diagnosis) checkTransactions(ctx context.Context, queries *db.Queries, noted time.Duration) error {
	rows, err := queries.DoctorTransactions(ctx, db.DoctorTransactionsParams{Seconds: noted.Seconds(), Transactions: horizonNoted})
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		d.add(OK, "transactions", "none is older than a minute"+d.unseen(), "")
		return nil
	}
	waiting, holder := int64(0), rows[0]
	for _, row := range rows {
		waiting += row.Waiting
		if row.Horizon > holder.Horizon {
			holder = row
		}
	}
	detail, advice := tellTransaction(rows[0])
	switch {
	case holder.Horizon == 0:
	case holder == rows[0]:
		detail += "; what has changed since is not cleared away"
	default:
		also, how := tellTransaction(holder)
		detail += "; because of another one what has changed is not cleared away: " + also
		advice += "; " + how
	}
	if waiting > 0 {
		detail += fmt.Sprintf("; %d wait for locks", waiting)
	}
	d.add(Warn, "transactions", detail, advice)
	return nil
}

// unseen says whose sessions nothing is known of, where that is so.
func (d *Diagnosis) unseen() string {
	if d.role.SeesAll {
		return ""
	}
	return fmt.Sprintf(", of what %s sees: the sessions of other roles are hidden from it without pg_read_all_stats", d.role.Name)
}

// tellTransaction says whose a transaction is, and how it ends.
func tellTransaction(row db.DoctorTransactionsRow) (detail, advice string) {
	age := time.Duration(row.Age * float64(time.Second)).Round(time.Second)
	switch {
	case row.Prepared != "":
		return fmt.Sprintf("%q of %s has been prepared for %s", row.Prepared, row.Name, age),
			"ROLLBACK PREPARED ends it, if its coordinator has forgotten it"
	case row.State == "replication slot":
		return fmt.Sprintf("replication slot %q keeps what %d transactions have changed", row.Name, row.Horizon),
			"see that its standby runs and reads; SELECT pg_drop_replication_slot ends it"
	case row.State == "standby":
		return fmt.Sprintf("standby %q (process %d) keeps what %d transactions have changed", row.Name, row.Pid, row.Horizon),
			"end the long query there, or set hot_standby_feedback off"
	}
	return fmt.Sprintf("process %d (%s, %s) has had one open for %s", row.Pid, row.Name, row.State, age),
		fmt.Sprintf("see what it does; SELECT pg_terminate_backend(%d) ends it", row.Pid)
}

// checkKeys compares the ids of the keys that values are sealed under with those of the keyring.
func (d *Diagnosis) checkKeys(ctx context.Context, queries *db.Queries) error {
	ring := d.config.Ring
	if ring == nil {
		d.skip("ENCRYPTION_KEY cannot be read", "keys")
		return nil
	}
	used, err := queries.VaultSentinelListKeyIDs(ctx)
	if err != nil {
		return err
	}
	var missing, older []string
	for _, id := range used {
		if !ring.Opens(id) {
			missing = append(missing, id)
		} else if id != ring.KeyID() {
			older = append(older, id)
		}
	}
	switch {
	case len(missing) > 0:
		d.add(Fail, "keys", fmt.Sprintf("the keyring seals under %s and does not hold %s, under which this database is sealed", ring.KeyID(), strings.Join(missing, ", ")),
			"provide the right ENCRYPTION_KEY, or add the missing one to ENCRYPTION_KEYS_PREVIOUS")
	case len(older) > 0:
		d.add(Warn, "keys", fmt.Sprintf("%s seals, and values may still be sealed under %s", ring.KeyID(), strings.Join(older, ", ")), "run phantom rewrap, then take the old key out")
	case len(used) == 0:
		d.add(OK, "keys", "nothing is sealed yet", "")
	default:
		d.add(OK, "keys", "everything is sealed under "+ring.KeyID(), "")
	}
	return nil
}

// sealedLookedAt is how many values of each sealed column are opened.
const sealedLookedAt = 50_000

// checkSealed opens values and says in which columns some do not.
func (d *Diagnosis) checkSealed(ctx context.Context, _ *db.Queries) error {
	const name = "sealed values"
	if d.config.Ring == nil {
		d.skip("ENCRYPTION_KEY cannot be read", name)
		return nil
	}
	pool, err := db.Open(ctx, db.WithPool(d.config.DatabaseURL, 1), d.config.Ring)
	if err != nil {
		return err
	}
	defer app.ClosePool(pool)
	found, all, err := db.FindUnopened(ctx, pool, sealedLookedAt)
	if err != nil {
		return err
	}
	looked := "all were looked at"
	if !all {
		looked = fmt.Sprintf("%d of a column at most were looked at", sealedLookedAt)
	}
	if len(found) == 0 {
		d.add(OK, name, "they open; "+looked, "")
		return nil
	}
	var columns []string
	for _, column := range found {
		columns = append(columns, fmt.Sprintf("%d of %s", column.Values, column.Column))
	}
	d.add(Warn, name, fmt.Sprintf("some do not open: %s (%s)", strings.Join(columns, ", "), looked),
		`if keys fails, provide the missing key first; else see "A value does not open" in docs/runbook.md`)
	return nil
}

func (d *Diagnosis) checkMerchants(ctx context.Context, queries *db.Queries) error {
	m, err := queries.DoctorMerchants(ctx, d.config.Live())
	if err != nil {
		return err
	}
	counts := fmt.Sprintf("%d connected, %d disconnected", m.Connected, m.Disconnected)
	if m.OtherMode > 0 && (d.config.StripeSecretKey != "" || d.config.StripeMerchantKey != "") {
		d.add(Warn, "merchants", fmt.Sprintf("%s, %d of the connected ones in the mode that STRIPE_SECRET_KEY is not of", counts, m.OtherMode), "test and live mode have a database each")
	} else {
		d.add(OK, "merchants", counts, "")
	}
	silence := time.Duration(m.Silent * float64(time.Second))
	last := "none has come yet"
	if m.Silent >= 0 {
		last = "the last one came " + silence.Round(time.Second).String() + " ago"
	}
	if m.Connected > 0 && (m.Silent < 0 || silence > silenceNoted) {
		d.add(Warn, "webhook events", last, "see at Stripe (Developers, Webhooks) that the endpoint PUBLIC_URL/api/webhooks/stripe listens to connected accounts, and how its events fare")
	} else {
		d.add(OK, "webhook events", last, "")
	}
	return nil
}

func (d *Diagnosis) checkTasks(ctx context.Context, queries *db.Queries) error {
	t, err := queries.DoctorTasks(ctx)
	if err != nil {
		return err
	}
	lag, overdue := time.Duration(max(t.Lag, 0)*float64(time.Second)), time.Duration(t.Overdue*float64(time.Second))
	backlog := fmt.Sprintf("%d due and waiting, the oldest for %s", t.Due, lag.Round(time.Second))
	const more = "start more workers (phantom work, or a higher WORKERS), and look for errors in their logs"
	switch {
	case lag > lagTooMuch:
		d.add(Fail, "backlog", backlog, more)
	case lag > lagNoted:
		d.add(Warn, "backlog", backlog, more)
	default:
		d.add(OK, "backlog", backlog, "")
	}
	review := fmt.Sprintf("%d tasks wait for a person", t.NeedsReview)
	if t.NeedsReview > 0 {
		d.add(Warn, "needs review", review, "phantom tasks list --status needs_review shows them")
	} else {
		d.add(OK, "needs review", review, "")
	}
	workers := fmt.Sprintf("%d processes take tasks, %d tasks run", t.Workers, t.Running)
	switch {
	case t.Expired > 0 && overdue > leaseNoted:
		d.add(Fail, "workers", fmt.Sprintf("%s, %d of them under a lease that ended up to %s ago", workers, t.Expired, overdue.Round(time.Second)), "start phantom serve or phantom work")
	case t.Workers == 0:
		d.add(Warn, "workers", workers+d.unseen(), "start phantom serve with WORKERS over 0, or phantom work")
	default:
		d.add(OK, "workers", workers+", every lease is fresh", "")
	}
	return nil
}
