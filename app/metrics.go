package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/oracle"
	"phantom/state"
	"phantom/vault"
)

const (
	scrapeTimeout = 2 * time.Second // for what a scrape asks of the database
	scrapeFresh   = 5 * time.Second // so long an answer serves every scraper
)

// instruments count what this process does. The packages that do it know only small hooks.
type instruments struct {
	set   *metrics.Set
	ring  *vault.Keyring
	waits *metrics.FloatCounter
	took  *histogram // Stripe's answers

	runs   sync.Map // of runKey to *runSeries
	stripe sync.Map // of a status class to *metrics.Counter

	queue    queueReading
	verdicts *Verdicts // nil where nobody is answered
}

// runKey names a series: it costs a look-up for each task, and building its text would cost more.
type runKey struct {
	kind   string
	status state.Task
}

type runSeries struct {
	count *metrics.Counter
	took  *histogram
}

var (
	// a no-op to an audit of a large account
	runBuckets = []float64{.001, .005, .025, .1, .5, 2, 10, 60, 300, 1800, 7200}
	// 10 s is the time-out
	stripeBuckets = []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10}
)

func newInstruments(ring *vault.Keyring) *instruments {
	metrics.ExposeMetadata(true)
	set := metrics.NewSet()
	return &instruments{
		set: set, ring: ring,
		waits: set.NewFloatCounter("phantom_rate_limit_wait_seconds_total"),
		took:  newHistogram(set, "phantom_stripe_request_seconds", "", stripeBuckets),
	}
}

// histogram counts durations as Prometheus wants it. The library's own is of another kind, and its
// later versions, which have this one, write to standard error at the start of every command where
// the kernel keeps no pressure statistics.
type histogram struct {
	bounds  []float64 // ascending
	buckets []*metrics.Counter
	all     *metrics.Counter // the last bucket, +Inf
	count   *metrics.Counter
	sum     *metrics.FloatCounter
}

// newHistogram finds the counters that are there already: two may be made of one name.
func newHistogram(set *metrics.Set, name, label string, bounds []float64) *histogram {
	braced, before := "", ""
	if label != "" {
		braced, before = "{"+label+"}", label+","
	}
	bucket := func(le string) *metrics.Counter {
		return set.GetOrCreateCounter(fmt.Sprintf(`%s_bucket{%sle=%q}`, name, before, le))
	}
	h := &histogram{
		bounds: bounds, all: bucket("+Inf"), count: set.GetOrCreateCounter(name + "_count" + braced), sum: set.GetOrCreateFloatCounter(name + "_sum" + braced),
	}
	for _, bound := range bounds {
		h.buckets = append(h.buckets, bucket(strconv.FormatFloat(bound, 'g', -1, 64)))
	}
	return h
}

// add counts a duration in every bucket that holds it: each includes the ones below.
func (h *histogram) add(took time.Duration) {
	seconds := took.Seconds()
	for at := len(h.bounds) - 1; at >= 0 && seconds <= h.bounds[at]; at-- {
		h.buckets[at].Inc()
	}
	h.all.Inc()
	h.count.Inc()
	h.sum.Add(seconds)
}

// taskRan is for task.Config.Observe.
func (i *instruments) taskRan(kind string, status state.Task, took time.Duration) {
	key := runKey{kind, status}
	known, ok := i.runs.Load(key)
	if !ok {
		known, _ = i.runs.LoadOrStore(key, &runSeries{
			count: i.set.GetOrCreateCounter(fmt.Sprintf("phantom_task_runs_total{kind=%q,status=%q}", kind, status)),
			took:  newHistogram(i.set, "phantom_task_run_seconds", fmt.Sprintf("kind=%q", kind), runBuckets),
		})
	}
	r := known.(*runSeries)
	r.count.Inc()
	r.took.add(took)
}

// stripeAnswered is for connect.Config.Observe.
func (i *instruments) stripeAnswered(status int, took time.Duration) {
	class := strconv.Itoa(status/100) + "xx"
	switch status {
	case 0:
		class = "none"
	case http.StatusTooManyRequests:
		class = "429" // no fault of a request's, but of their number
	}
	counter, ok := i.stripe.Load(class)
	if !ok {
		counter, _ = i.stripe.LoadOrStore(class, i.set.GetOrCreateCounter(fmt.Sprintf("phantom_stripe_requests_total{class=%q}", class)))
	}
	counter.(*metrics.Counter).Inc()
	i.took.add(took)
}

// oracleAsked is for the oracle: who has chosen a moment.
func (i *instruments) oracleAsked(by string) {
	i.set.GetOrCreateCounter(fmt.Sprintf("phantom_oracle_answers_total{by=%q}", by)).Inc()
}

// waited is for connect.Config.Waited.
func (i *instruments) waited(took time.Duration) { i.waits.Add(took.Seconds()) }

// write writes everything in Prometheus' text format.
func (i *instruments) write(ctx context.Context, w io.Writer, pool *pgxpool.Pool) {
	i.set.WritePrometheus(w)
	sealing := metrics.NewSet()
	sealing.NewCounter("phantom_vault_seals_total").Set(i.ring.Seals())
	sealing.NewCounter("phantom_vault_opens_total").Set(i.ring.Opened())
	sealing.WritePrometheus(w)
	if i.verdicts != nil {
		i.verdicts.write(w)
	}
	_, _ = w.Write(i.queue.read(ctx, db.New(pool)))
}

// queueReading is what the database said of the queue a moment ago: any number of scrapers cost one
// question in five seconds.
type queueReading struct {
	mutex sync.Mutex
	at    time.Time
	text  []byte
}

func (q *queueReading) read(ctx context.Context, queries *db.Queries) []byte {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	if time.Since(q.at) < scrapeFresh {
		return q.text
	}
	// A scraper that leaves must not cost the pool a connection, which a cancelled statement does.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), scrapeTimeout)
	defer cancel()
	set := metrics.NewSet()
	up := set.NewGauge("phantom_database_up", nil)
	counts, err := queries.TaskCountLive(ctx)
	lag := 0.0
	if err == nil {
		lag, err = queries.TaskLag(ctx)
	}
	var oracles []db.OracleListStatesRow
	if err == nil {
		oracles, err = queries.OracleListStates(ctx)
	}
	if err == nil { // without an answer nothing is said of the queue, rather than that it is empty
		up.Set(1)
		set.NewGauge("phantom_task_lag_seconds", nil).Set(lag)
		for _, row := range counts {
			set.NewGauge(fmt.Sprintf("phantom_tasks{kind=%q,status=%q}", row.Kind, row.Status), nil).Set(float64(row.Tasks))
		}
		for _, row := range oracles {
			writeOracle(set, row)
		}
	}
	var text bytes.Buffer
	set.WritePrometheus(&text)
	q.at, q.text = time.Now(), text.Bytes()
	return q.text
}

// writeOracle says of a mode who chooses, and how well the oracle foretells.
func writeOracle(set *metrics.Set, row db.OracleListStatesRow) {
	mode := fmt.Sprintf("{mode=%q}", oracle.Mode(row.Livemode))
	for _, state := range []oracle.State{oracle.Shadow, oracle.On, oracle.Fallback} {
		is := 0.0
		if string(state) == row.State {
			is = 1
		}
		set.NewGauge(fmt.Sprintf("phantom_oracle_state{mode=%q,state=%q}", oracle.Mode(row.Livemode), state), nil).Set(is)
	}
	set.NewGauge("phantom_oracle_settled_charges"+mode, nil).Set(float64(row.Charges))
	set.NewGauge("phantom_oracle_log_loss"+mode, nil).Set(row.LogLoss)
	set.NewGauge("phantom_oracle_base_log_loss"+mode, nil).Set(row.BaseLogLoss)
	set.NewGauge("phantom_oracle_calibration_error"+mode, nil).Set(row.CalibrationError)
	if row.Age >= 0 {
		set.NewGauge("phantom_oracle_model_age_seconds"+mode, nil).Set(row.Age)
	}
}

// StartMetrics serves GET /metrics at METRICS_ADDR, and nothing else there, until stop is called.
// It comes before the services and the queue, which are given its hooks.
func (a *App) StartMetrics(ctx context.Context) (stop func(), err error) {
	if a.metricsAddr == "" {
		return func() {}, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.metricsAddr)
	if err != nil {
		return nil, fmt.Errorf("[SERVER] cannot listen at METRICS_ADDR %s: %w: provide a free host:port of this machine", a.metricsAddr, err)
	}
	a.metrics = newInstruments(a.Ring)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		a.metrics.write(r.Context(), w, a.Pool)
	})
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.Log.Error("[SERVER] metrics are not served any more", "cause", err)
		}
	}()
	a.Log.Info("[SERVER] metrics are served", "address", listener.Addr().String())
	return func() {
		_ = server.Close()
		<-ended
	}, nil
}
