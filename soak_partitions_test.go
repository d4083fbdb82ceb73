package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"phantom/db/dbtest"
)

// costs are what partitions and lost hosts may cost.
type costs struct{ takenOver, backAfter, lockWaited time.Duration }

// bars are held by the long form.
var bars = costs{
	takenOver:  20 * time.Second, // after the end of the lease
	backAfter:  15 * time.Second, // after the network heals
	lockWaited: 30 * time.Second,
}

// forBusy gives a busy machine longer. What a lock is waited for, the database bounds.
func (c costs) forBusy() costs { return costs{2 * c.takenOver, 2 * c.backAfter, c.lockWaited} }

// partition is what becomes of one host.
type partition struct {
	name             string
	database, stripe bool // cut from it
	toDatabase       bool // what it sends there is lost, one way
	fromDatabase     bool
	toStripe         bool
	fromStripe       bool // Stripe does what it is asked, and the answers are lost
	lost             bool // for good, amid transactions
}

var partitions = []partition{
	{name: "nothing"},
	{name: "database", database: true},
	{name: "stripe", stripe: true},
	{name: "both", database: true, stripe: true},
	{name: "to_database", toDatabase: true},
	{name: "from_database", fromDatabase: true},
	{name: "to_stripe", toStripe: true},
	{name: "from_stripe", fromStripe: true},
	{name: "lost", lost: true},
}

// Worker processes on hosts of their own are cut from the database, from Stripe, from both, in one
// direction, for longer than a lease, and one is lost for good amid its transactions, while charges
// fall due and events come in. The short form has all of it at once under a lease of 8 s, and
// may take twice as long as the bars allow, so that it says the same on a busy machine; make
// soak-partitions has the real binary under its own of a minute.
func TestPartitions(t *testing.T) { //nolint:paralleltest // it takes the whole machine
	soakAlone(t)
	var hosts network
	spaces, why := newNamespaces(t, len(partitions))
	if hosts = spaces; why != nil {
		t.Logf("behind proxies, and not on hosts in network namespaces: %v", why)
		hosts = newProxies(t)
	}
	at, stripeAt := hosts.addresses()
	server := dbtest.NewPrivate(t, "listen_addresses="+at, "max_connections=400", "fsync=off")
	trust(t, server)
	const each = 6 // charges a second, which a loaded machine keeps up with
	cutFor, before, may := 14*time.Second, 4*time.Second, bars.forBusy()
	if os.Getenv("PHANTOM_LONG") != "" {
		cutFor, before, may = 85*time.Second, 15*time.Second, bars
	}
	lasts := before + cutFor + may.backAfter
	s := newSoak(t, server, int(lasts.Seconds())*each)
	s.slowLost()
	p := &partitioned{soak: s, hosts: hosts, may: may}
	env := with(s.env, "DATABASE_URL", onNetwork(server, net.JoinHostPort(at, "5432"), "soak_server"))
	env["PORT"], env["WORKERS"] = freePort(t), "0"
	_, base := ready(t, env)
	for i, part := range partitions {
		env := with(s.env, "DATABASE_URL", onNetwork(server, hosts.reach(i, database, net.JoinHostPort(at, "5432")), "soak_"+part.name))
		listens := s.stripeFor(part.name, stripeAt)
		env["STRIPE_API_BASE"] = "http://" + hosts.reach(i, stripe, listens)
		env["STRIPE_CONNECT_BASE"] = env["STRIPE_API_BASE"]
		worker := s.program(env, []string{"work"}, hosts.on(i))
		worker.awaitLine(t, "[WORKER] ready")
		p.workers = append(p.workers, worker)
	}
	posts := s.post(base, 2)

	p.watch()
	s.over(lasts)
	time.Sleep(before)
	for _, part := range partitions {
		s.await(time.Minute, part.name+": the worker asks Stripe", func() bool { return !s.lastHeard(part.name).IsZero() })
	}
	for i := range partitions {
		p.cut(i)
	}
	cutAt := time.Now()
	time.Sleep(cutFor)
	healed := time.Now()
	for i, part := range partitions {
		if !part.lost {
			hosts.heal(i)
		}
	}
	back := p.back(healed)
	posts.end()
	s.drained(5 * time.Minute)
	p.stop()
	posts.kept()
	executed := s.books()
	if p.overdue > may.takenOver {
		t.Errorf("a task lay for %s beyond its lease", p.overdue)
	}
	if p.waited > may.lockWaited {
		t.Errorf("somebody has waited for a lock for %s", p.waited)
	}
	s.logRows("SELECT attempts, count(*) AS tasks FROM scheduled_tasks WHERE kind = 'invoice_pay' AND status = 'succeeded' GROUP BY 1 ORDER BY 1")
	t.Logf("%d charges and %d events over %d hosts, cut for %s under a lease of %s: %d executed, none twice; at most %.1f s beyond a lease, "+
		"%.1f s waited for a lock, due for %.1f s; back after %s", s.charges, len(posts.acked), len(partitions), healed.Sub(cutAt).Round(time.Second), s.lease, executed,
		p.overdue.Seconds(), p.waited.Seconds(), p.lag.Seconds(), back)
	for i, worker := range p.workers {
		select {
		case <-worker.exited:
			if !partitions[i].lost {
				t.Errorf("%s: the worker has ended by itself: %v\n%s%s", partitions[i].name, worker.err, worker.stdout, worker.stderr)
			}
		default:
		}
	}
}

type partitioned struct {
	*soak
	hosts   network
	may     costs
	workers []*process
	over    chan struct{}
	watcher sync.WaitGroup

	overdue, waited, lag time.Duration // at most, once the watcher has ended
}

// slowLost has the host that will be lost hold the locks of its marks for a while.
func (s *soak) slowLost() {
	s.exec(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF current_setting('application_name') = 'soak_lost' THEN PERFORM pg_sleep(0.3); END IF; RETURN NULL; END $$`)
	s.exec(`CREATE TRIGGER slow AFTER UPDATE ON scheduled_tasks FOR EACH ROW
		WHEN (OLD.first_sent_at IS DISTINCT FROM NEW.first_sent_at) EXECUTE FUNCTION slow()`)
}

// cut does to a host what its partition says.
func (p *partitioned) cut(i int) {
	p.t.Helper()
	part := partitions[i]
	if part.lost {
		p.lose(i)
		return
	}
	if part.database || part.toDatabase || part.fromDatabase {
		p.hosts.cut(i, database, part.database || part.toDatabase, part.database || part.fromDatabase)
	}
	if part.stripe || part.toStripe || part.fromStripe {
		p.hosts.cut(i, stripe, part.stripe || part.toStripe, part.stripe || part.fromStripe)
	}
}

// lose cuts a host off amid its transactions, and ends it: what it held is left to the server.
func (p *partitioned) lose(i int) {
	p.t.Helper()
	p.await(20*time.Second, "the lost host marks charges as sent", func() bool {
		return p.count("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'soak_lost' AND wait_event = 'PgSleep'") > 0
	})
	p.hosts.cut(i, database, true, true)
	p.hosts.cut(i, stripe, true, true)
	p.workers[i].signal(p.t, syscall.SIGKILL)
	p.await(20*time.Second, "the server keeps its transactions", func() bool {
		return p.count("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'soak_lost' AND state = 'idle in transaction'") > 0
	})
}

// watch looks all the time for tasks beyond their lease, and who waits for a lock.
func (p *partitioned) watch() {
	p.over = make(chan struct{})
	p.watcher.Go(func() {
		for {
			var overdue, waited, lag float64
			err := p.pool.QueryRow(p.t.Context(), `SELECT
				(SELECT coalesce(max(extract(epoch FROM clock_timestamp() - lease_until)), 0)::float8 FROM scheduled_tasks WHERE status = 'running'),
				(SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0)::float8 FROM pg_locks WHERE NOT granted),
				(SELECT coalesce(max(extract(epoch FROM phantom_now() - run_at)), 0)::float8 FROM scheduled_tasks WHERE status = 'pending')`).Scan(&overdue, &waited, &lag)
			if err != nil {
				p.t.Error(err)
				return
			}
			p.overdue = max(p.overdue, time.Duration(overdue*float64(time.Second)))
			p.waited = max(p.waited, time.Duration(waited*float64(time.Second)))
			p.lag = max(p.lag, time.Duration(lag*float64(time.Second)))
			select {
			case <-p.over:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	p.t.Cleanup(p.stop)
}

func (p *partitioned) stop() {
	select {
	case <-p.over:
	default:
		close(p.over)
	}
	p.watcher.Wait()
}

// back waits until every host works again: it has claimed a task and Stripe has answered it.
func (p *partitioned) back(healed time.Time) string {
	p.t.Helper()
	var took []string
	for _, part := range partitions {
		if part.lost {
			continue
		}
		p.await(time.Until(healed.Add(p.may.backAfter)), part.name+": the worker works again", func() bool {
			return p.lastHeard(part.name).After(healed) && p.count(`SELECT count(*) FROM pg_stat_activity
				WHERE application_name = $1 AND query_start > $2 AND query LIKE '-- name: Task%'`, "soak_"+part.name, healed) > 0
		})
		took = append(took, fmt.Sprintf("%s %.1f s", part.name, time.Since(healed).Seconds()))
	}
	return strings.Join(took, ", ")
}
