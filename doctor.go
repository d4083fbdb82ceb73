package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
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

// check is one thing that was looked at.
type check struct {
	Name   string `json:"name"`
	Status string `json:"status"` // ok, warn or fail
	Detail string `json:"detail"`
	Advice string `json:"advice,omitempty"` // what to do, unless it is ok or the detail says it
}

// diagnosis collects checks. It changes nothing in the database and at Stripe, and shows no secret.
type diagnosis struct {
	config *config // what could be read of it: a field is zero where it could not
	checks []check
}

func (d *diagnosis) add(status, name, detail, advice string) {
	d.checks = append(d.checks, check{name, status, detail, advice})
}

// skip says that a check was not made: it must not be taken for one that has passed.
func (d *diagnosis) skip(why string, names ...string) {
	for _, name := range names {
		d.add("warn", name, "not checked: "+why, "")
	}
}

// doctor looks at everything that this program stands on.
func doctor(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	flags := newFlags("doctor")
	asJSON := flags.Bool("json", false, "print JSON")
	if err := parseFlags(flags, args, stderr); err != nil {
		return err
	}
	d := &diagnosis{}
	stop := d.checkConfig(ctx, getenv, stderr)
	defer stop()
	d.checkStripe(ctx)
	d.checkDatabase(ctx)
	if err := d.print(*asJSON, stdout); err != nil {
		return err
	}
	switch failed := d.count("fail"); failed {
	case 0:
		return nil
	case 1:
		return errors.New("phantom doctor: 1 check failed")
	default:
		return fmt.Errorf("phantom doctor: %d checks failed", failed)
	}
}

func (d *diagnosis) count(status string) (n int) {
	for _, c := range d.checks {
		if c.Status == status {
			n++
		}
	}
	return n
}

func (d *diagnosis) print(asJSON bool, stdout io.Writer) error {
	if asJSON {
		status := "ok"
		if d.count("fail") > 0 {
			status = "fail"
		} else if d.count("warn") > 0 {
			status = "warn"
		}
		return json.NewEncoder(stdout).Encode(struct {
			Status string  `json:"status"`
			Checks []check `json:"checks"`
		}{status, d.checks})
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, c := range d.checks {
		text := c.Detail
		if c.Advice != "" {
			text += ": " + c.Advice
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", c.Status, c.Name, text)
	}
	return table.Flush()
}

// checkConfig reads the environment. Where it is not good as a whole, the parts that are good serve the other checks.
func (d *diagnosis) checkConfig(ctx context.Context, getenv func(string) string, stderr io.Writer) (stop func()) {
	d.config = &config{}
	c, err := loadConfig(getenv, needs{database: true, key: true, stripe: true})
	if err == nil {
		stop, err = c.standIn(ctx, newLogger(c, stderr))
		if err == nil {
			d.config = c
			if c.dev {
				d.add("warn", "configuration", "dev mode, with stand-ins for "+strings.Join(c.missing, ", "), "set them for production")
			} else {
				d.add("ok", "configuration", fmt.Sprintf("complete; seals under key id %s", c.ring.KeyID()), "")
			}
			return stop
		}
	}
	var said []string
	for _, need := range []needs{{database: true}, {key: true}, {stripe: true}} {
		part, partErr := loadConfig(getenv, need)
		switch {
		case partErr != nil:
			if text := partErr.Error(); !slices.Contains(said, text) {
				said = append(said, text)
			}
		case part.dev:
		case need.database:
			d.config.databaseURL, d.config.databaseDirectURL, d.config.poolSize = part.databaseURL, part.databaseDirectURL, part.poolSize
		case need.key:
			d.config.ring = part.ring
		case need.stripe:
			before := *d.config
			*d.config = *part
			d.config.ring, d.config.poolSize = before.ring, before.poolSize
			d.config.databaseURL, d.config.databaseDirectURL = before.databaseURL, before.databaseDirectURL
		}
	}
	if len(said) == 0 {
		said = []string{db.Describe(err)}
	}
	for _, text := range said {
		d.add("fail", "configuration", text, "")
	}
	return func() {}
}

func (d *diagnosis) checkStripe(ctx context.Context) {
	c := d.config
	if len(c.webhookSecrets) > 0 {
		d.add("ok", "webhook secret", fmt.Sprintf("%d set", len(c.webhookSecrets)), "")
	} else if c.stripeSecretKey == "" || c.sandbox {
		d.skip("there is no Stripe account to send webhooks", "webhook secret")
	} else {
		d.add("warn", "webhook secret", "STRIPE_WEBHOOK_SECRET is not set, so webhooks get 503 and ghosts change by audits alone", "provide the endpoint's signing secret (whsec_…)")
	}
	if c.stripeSecretKey == "" {
		d.skip("STRIPE_SECRET_KEY cannot be read", "stripe", "stripe clock", "webhook endpoint")
		return
	}
	mode := "test mode"
	if isLive(c.stripeSecretKey) {
		mode = "live mode"
	}
	if c.stripeAPIBase != "" {
		mode += " at " + c.stripeAPIBase
	}
	service := connect.New(connect.Config{SecretKey: c.stripeSecretKey, APIBase: c.stripeAPIBase, ConnectBase: c.stripeConnectBase}, nil)
	platform, err := service.Platform(ctx)
	took := platform.Took.Round(time.Millisecond)
	switch {
	case errors.Is(err, connect.ErrPlatformKey):
		d.add("fail", "stripe", mode+", and Stripe does not accept STRIPE_SECRET_KEY", "provide the platform's current secret key (Developers, API keys)")
	case err != nil:
		d.add("fail", "stripe", mode+", and "+err.Error(), "look at status.stripe.com, and whether this machine may reach api.stripe.com:443")
	case platform.Account == "":
		d.add("warn", "stripe", fmt.Sprintf("%s, reached in %s; the restricted key may not read its account", mode, took), "give it that right to have it checked")
	default:
		d.add("ok", "stripe", fmt.Sprintf("%s, reached in %s as %s", mode, took, platform.Account), "")
	}
	if err != nil {
		d.skip("Stripe does not answer", "webhook endpoint")
	} else {
		d.checkEndpoint(ctx, service)
	}
	if platform.Date.IsZero() {
		d.skip("Stripe did not say what time it is", "stripe clock")
		return
	}
	d.checkSkew("stripe clock", platform.Date.Add(500*time.Millisecond).Sub(platform.Now)) // it leaves out the fraction
}

// checkSkew judges by how much another clock is ahead of this machine's.
func (d *diagnosis) checkSkew(name string, ahead time.Duration) {
	status, advice := "ok", ""
	if ahead.Abs() > skewTooMuch {
		status = "fail"
	} else if ahead.Abs() > skewNoted {
		status = "warn"
	}
	if status != "ok" {
		advice = "let NTP set both clocks; webhooks are refused from 300 s on"
	}
	d.add(status, name, fmt.Sprintf("%+.1f s from this machine's", ahead.Seconds()), advice)
}

func (d *diagnosis) checkDatabase(ctx context.Context) {
	rest := []string{"server version", "database clock", "connections", "transactions", "schema", "keys", "merchants", "webhook events", "backlog", "needs review", "workers", "parked", "halts", "disputes"}
	c := d.config
	if c.databaseURL == "" {
		d.skip("DATABASE_URL cannot be read", append([]string{"database"}, rest...)...)
		return
	}
	const advice = "see that it runs, and that this machine may connect to it"
	reachable := true
	for _, place := range []struct{ name, url string }{{"database", c.databaseURL}, {"direct database", c.databaseDirectURL}} {
		if place.name != "database" && place.url == c.databaseURL {
			continue
		}
		if err := db.WaitReachable(ctx, place.url, doctorPatience); err != nil {
			d.add("fail", place.name, db.Describe(err), advice)
			reachable = reachable && place.name != "database"
		} else {
			d.add("ok", place.name, "answers", "")
		}
	}
	pool, err := db.OpenWithoutKeyring(ctx, c.databaseURL)
	if err != nil {
		d.skip("DATABASE_URL cannot be read", rest...)
		return
	}
	defer closePool(pool)
	ctx, cancel := context.WithTimeout(ctx, 10*doctorPatience)
	defer cancel()
	if !reachable || !d.checkServer(ctx, pool) {
		d.skip("the database does not answer", rest...)
		return
	}
	rest = rest[4:]
	if err := db.VerifySchema(ctx, pool); err != nil {
		d.add("fail", "schema", db.Describe(err), "")
		d.skip("the schema is another one", rest[1:]...)
		return
	}
	d.add("ok", "schema", "is this version's", "")
	queries := db.New(pool)
	for i, look := range []func(context.Context, *db.Queries) error{d.checkKeys, d.checkMerchants, d.checkTasks, d.checkParked, d.checkHalts, d.checkDisputes} {
		if err := look(ctx, queries); err != nil {
			d.add("fail", []string{"keys", "merchants", "backlog", "parked", "halts", "disputes"}[i], db.Describe(err), advice)
		}
	}
}

func (d *diagnosis) checkServer(ctx context.Context, pool *pgxpool.Pool) (answers bool) {
	started := time.Now()
	server, err := db.New(pool).DoctorServer(ctx)
	if err != nil {
		return false
	}
	if server.Number < 140000 {
		d.add("fail", "server version", "PostgreSQL "+server.Version, "PHANTOM needs 14 or newer")
	} else {
		d.add("ok", "server version", "PostgreSQL "+server.Version, "")
	}
	d.checkSkew("database clock", server.Now.Sub(started.Add(time.Since(started)/2)))
	d.checkConnections(server.Connections)
	if err := d.checkTransactions(ctx, db.New(pool)); err != nil {
		d.add("fail", "transactions", db.Describe(err), "")
	}
	return true
}

// checkConnections compares what a process may take with what the server has for all.
func (d *diagnosis) checkConnections(server int32) {
	// Three listen, and a command runs beside them.
	most := d.config.connections() + d.config.connectionsOfQueues() + 4
	detail := fmt.Sprintf("the server takes %d; a process like this one holds %d at most", server, most)
	if most > int(server) {
		d.add("warn", "connections", detail, "lower WORKERS or DATABASE_POOL, or raise max_connections; several processes share them")
	} else {
		d.add("ok", "connections", detail, "")
	}
}

// checkTransactions names whose transactions have been open for a minute. They keep what has
// changed from being cleared away, which makes claims slow, and others waiting for their locks.
func (d *diagnosis) checkTransactions(ctx context.Context, queries *db.Queries) error {
	rows, err := queries.DoctorTransactions(ctx, time.Minute.Seconds())
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		d.add("ok", "transactions", "none is older than a minute", "")
		return nil
	}
	oldest := rows[0]
	detail := fmt.Sprintf("process %d (%s, %s) has had one open for %s", oldest.Pid, oldest.Name, oldest.State,
		time.Duration(oldest.Age*float64(time.Second)).Round(time.Second))
	advice := fmt.Sprintf("see what it does; SELECT pg_terminate_backend(%d) ends it", oldest.Pid)
	if oldest.Prepared != "" {
		detail = fmt.Sprintf("%q of %s has been prepared for %s", oldest.Prepared, oldest.Name,
			time.Duration(oldest.Age*float64(time.Second)).Round(time.Second))
		advice = "ROLLBACK PREPARED ends it, if its coordinator has forgotten it"
	}
	waiting := int64(0)
	for _, row := range rows {
		waiting += row.Waiting
	}
	if waiting > 0 {
		detail += fmt.Sprintf("; %d wait for locks", waiting)
	}
	d.add("warn", "transactions", detail, advice)
	return nil
}

// checkKeys compares the ids of the keys that values are sealed under with those of the keyring.
func (d *diagnosis) checkKeys(ctx context.Context, queries *db.Queries) error {
	ring := d.config.ring
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
		d.add("fail", "keys", fmt.Sprintf("the keyring seals under %s and does not hold %s, under which this database is sealed", ring.KeyID(), strings.Join(missing, ", ")),
			"provide the right ENCRYPTION_KEY, or add the missing one to ENCRYPTION_KEYS_PREVIOUS")
	case len(older) > 0:
		d.add("warn", "keys", fmt.Sprintf("%s seals, and values may still be sealed under %s", ring.KeyID(), strings.Join(older, ", ")), "run phantom rewrap, then take the old key out")
	case len(used) == 0:
		d.add("ok", "keys", "nothing is sealed yet", "")
	default:
		d.add("ok", "keys", "everything is sealed under "+ring.KeyID(), "")
	}
	return nil
}

func (d *diagnosis) checkMerchants(ctx context.Context, queries *db.Queries) error {
	m, err := queries.DoctorMerchants(ctx, isLive(d.config.stripeSecretKey))
	if err != nil {
		return err
	}
	counts := fmt.Sprintf("%d connected, %d disconnected", m.Connected, m.Disconnected)
	if m.OtherMode > 0 && d.config.stripeSecretKey != "" {
		d.add("warn", "merchants", fmt.Sprintf("%s, %d of the connected ones in the mode that STRIPE_SECRET_KEY is not of", counts, m.OtherMode), "test and live mode have a database each")
	} else {
		d.add("ok", "merchants", counts, "")
	}
	silence := time.Duration(m.Silent * float64(time.Second))
	last := "none has come yet"
	if m.Silent >= 0 {
		last = "the last one came " + silence.Round(time.Second).String() + " ago"
	}
	if m.Connected > 0 && (m.Silent < 0 || silence > silenceNoted) {
		d.add("warn", "webhook events", last, "see at Stripe (Developers, Webhooks) that the endpoint PUBLIC_URL/api/webhooks/stripe listens to connected accounts, and how its events fare")
	} else {
		d.add("ok", "webhook events", last, "")
	}
	return nil
}

func (d *diagnosis) checkTasks(ctx context.Context, queries *db.Queries) error {
	t, err := queries.DoctorTasks(ctx)
	if err != nil {
		return err
	}
	lag, overdue := time.Duration(max(t.Lag, 0)*float64(time.Second)), time.Duration(t.Overdue*float64(time.Second))
	backlog := fmt.Sprintf("%d due and waiting, the oldest for %s", t.Due, lag.Round(time.Second))
	const more = "start more workers (phantom work, or a higher WORKERS), and look for errors in their logs"
	switch {
	case lag > lagTooMuch:
		d.add("fail", "backlog", backlog, more)
	case lag > lagNoted:
		d.add("warn", "backlog", backlog, more)
	default:
		d.add("ok", "backlog", backlog, "")
	}
	review := fmt.Sprintf("%d tasks wait for a person", t.NeedsReview)
	if t.NeedsReview > 0 {
		d.add("warn", "needs review", review, "phantom tasks list --status needs_review shows them")
	} else {
		d.add("ok", "needs review", review, "")
	}
	workers := fmt.Sprintf("%d processes take tasks, %d tasks run", t.Workers, t.Running)
	switch {
	case t.Expired > 0 && overdue > leaseNoted:
		d.add("fail", "workers", fmt.Sprintf("%s, %d of them under a lease that ended up to %s ago", workers, t.Expired, overdue.Round(time.Second)), "start phantom serve or phantom work")
	case t.Workers == 0:
		d.add("warn", "workers", workers, "start phantom serve with WORKERS over 0, or phantom work")
	default:
		d.add("ok", "workers", workers+", every lease is fresh", "")
	}
	return nil
}
