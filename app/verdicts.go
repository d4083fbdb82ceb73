package app

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/uuid"

	"phantom/connect"
	"phantom/db"
	"phantom/shield"
	"phantom/verdict"
)

// Verdicts is what answers who may keep access, and what keeps it up to date.
type Verdicts struct {
	Handler *verdict.Handler
	Table   *verdict.Table

	app      *App
	services Services
	feed     *shield.Feed
	signer   *verdict.Signer
	draining func() bool
	away     time.Duration // without news of the database, of which merchants are still to be told
}

// NewVerdicts wires them. Nothing is answered before [Verdicts.Start].
func (a *App) NewVerdicts(s Services) *Verdicts {
	v := &Verdicts{app: a, services: s, Table: verdict.NewTable()}
	v.feed = shield.NewFeed(a.Pool, a.DatabaseDirectURL, v.Table, a.Log)
	v.signer = &verdict.Signer{ListKey: func(ctx context.Context, merchant uuid.UUID) ([]byte, error) {
		hash, err := connect.HasherIn(ctx, a.Pool, merchant)
		if err != nil {
			return nil, err
		}
		return hash("shield_list", "")[:16], nil
	}}
	v.Handler = verdict.New(verdict.Config{
		Table: v.Table, PublicURL: a.PublicURL.String(), Secure: a.PublicURL.Scheme == "https", Catch: v.feed.Catch, Signer: v.signer,
		Draining: func() bool { return v.draining != nil && v.draining() },
	})
	if a.metrics != nil {
		a.metrics.verdicts = v
	}
	return v
}

// write writes what was answered in Prometheus' text format.
func (v *Verdicts) write(w io.Writer) {
	set := metrics.NewSet()
	byProtocol, denied := v.Handler.Counts()
	for protocol, n := range byProtocol {
		set.NewCounter(fmt.Sprintf("phantom_shield_answers_total{protocol=%q}", protocol)).Set(uint64(n))
	}
	set.NewCounter("phantom_shield_denials_total").Set(uint64(denied))
	for account, n := range v.Table.Unknown() {
		set.NewCounter(fmt.Sprintf("phantom_shield_unknown_total{account=%q}", account)).Set(uint64(n))
	}
	set.NewGauge("phantom_shield_age_seconds", nil).Set(v.Table.Age().Seconds())
	set.NewGauge("phantom_shield_table_bytes", nil).Set(float64(v.Table.Bytes()))
	set.WritePrometheus(w)
}

const (
	// keysEvery is how often it is looked whether another process has changed what signs.
	keysEvery = time.Minute
	// usedEvery is how often it is written down which keys were used, and whose access is proven.
	usedEvery = time.Minute
	// staleFrom is from when on merchants are told that levels are not followed: no policy lets
	// them count for a shorter time.
	staleFrom = time.Minute
)

// Start follows the database until ctx ends; wait returns when that has ended. draining says
// whether the server is about to stop.
func (v *Verdicts) Start(ctx context.Context, draining func() bool) (wait func()) {
	v.draining = draining
	var running sync.WaitGroup
	running.Go(func() { v.feed.Run(ctx) })
	running.Go(func() { every(ctx, keysEvery, "read what signs verdicts", v, v.readKeys) })
	running.Go(func() { every(ctx, usedEvery, "note who has asked for verdicts", v, v.note) })
	running.Go(func() { every(ctx, time.Second, "tell who was answered by old levels", v, v.tellStale) })
	return running.Wait
}

// every does something now and then. A failure is said once, until it succeeds.
func every(ctx context.Context, d time.Duration, what string, v *Verdicts, do func(context.Context) error) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	failed := false
	for {
		bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := do(bounded)
		cancel()
		switch {
		case err == nil:
			failed = false
		case ctx.Err() == nil && !failed:
			failed = true
			v.app.Log.Error("[SERVER] cannot "+what+": it is tried again", "cause", db.Describe(err)) //nolint:sloglint // one of two constants
		}
		retry := tick.C
		if err != nil { // sooner, for the database may just have been away
			retry = time.After(5 * time.Second)
		}
		select {
		case <-retry:
		case <-ctx.Done():
			return
		}
	}
}

func (v *Verdicts) readKeys(ctx context.Context) error {
	keys, err := v.services.Shield.SigningKeys(ctx)
	if err != nil {
		return err
	}
	all := make([]verdict.SigningKey, len(keys))
	for i, key := range keys {
		all[i] = verdict.SigningKey{ID: key.ID, Public: key.Public, Private: key.Private}
	}
	v.signer.Set(all)
	return nil
}

// note writes down which keys were used, and which customers who owe were let in: their access is
// proven.
func (v *Verdicts) note(ctx context.Context) error {
	queries := db.New(v.app.Pool)
	for _, key := range v.Table.UsedKeys() {
		if err := queries.APIKeyNoteUse(ctx, db.APIKeyNoteUseParams{MerchantID: key.Merchant, ID: key.ID}); err != nil && !db.ReadOnly(err) {
			return fmt.Errorf("note the use of a key: %w", err)
		}
	}
	seen := map[uuid.UUID][]string{}
	for _, c := range v.Handler.Seen() {
		seen[c.Merchant] = append(seen[c.Merchant], c.Customer)
	}
	for merchant, customers := range seen {
		if err := v.services.Ghosts.Seen(ctx, merchant, customers); err != nil && !db.ReadOnly(err) {
			return err
		}
	}
	return nil
}

// tellStale tells merchants' apps, once the database is followed again, for how long it was not.
func (v *Verdicts) tellStale(ctx context.Context) error {
	if !v.Table.Loaded() { // nothing was answered
		return nil
	}
	if age := v.Table.Age(); age >= staleFrom {
		v.away = age
		return nil
	}
	if v.away == 0 {
		return nil
	}
	told, err := v.services.Shield.TellStale(ctx, v.Table.Tenants(), v.away)
	if err != nil {
		return err
	}
	v.app.Log.Warn("[SERVER] levels of access were not followed for a while", "for", v.away.Round(time.Second).String(), "merchants_told", told)
	v.away = 0
	return nil
}
