package oracle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/singleflight"

	"phantom/db"
	"phantom/decline"
	"phantom/oracle/model"
)

// Service answers hunts and shows what the oracle knows. It is safe for concurrent use.
type Service struct {
	// Asked, if not nil, counts an answer: "oracle" or "heuristic", the customer's arm; "shadow" or
	// "fallback" where the oracle is not on; "failed" where it has no model that may choose, or no
	// answer.
	Asked func(by string)
	// KnownFor is how old what it knows of models and states may be; 0 means 30 seconds
	KnownFor time.Duration

	pool    *pgxpool.Pool
	mutex   sync.Mutex
	newest  map[bool]loaded // by livemode
	latest  map[bool]known  // by livemode
	reading singleflight.Group
}

// loaded is what was made of a stored version: of one that cannot be read, nothing.
type loaded struct {
	stored int64
	model  *model.Model
	Knowledge
}

// New returns a Service over pool.
func New(pool *pgxpool.Pool) *Service {
	return &Service{pool: pool, newest: make(map[bool]loaded), latest: make(map[bool]known)}
}

// Knowledge is what stands behind answers to a merchant.
type Knowledge struct {
	Version   int64      // of the newest model, 0 for none
	BuiltAt   *time.Time // nil: none yet
	Merchants int        // whose charges it was made of
	Attempts  int64      // charges it was made of
	Bytes     int        // it takes
	// there is a model that cannot be read, or is not sound: it counts as no model
	Spoilt bool
}

// Shared says whether merchants share anything in it.
func (k Knowledge) Shared() bool { return k.Merchants >= model.Enough }

// Model is the newest of a mode, with what it was made of. It is read anew when there is a newer
// one. Where there is none, or none that can be read, it is what is known before any charge.
func (s *Service) Model(ctx context.Context, livemode bool) (*model.Model, Knowledge, error) {
	queries := db.New(s.pool)
	newest, err := queries.OracleNewestModel(ctx, livemode)
	if errors.Is(err, pgx.ErrNoRows) {
		return model.New(), Knowledge{}, nil
	}
	if err != nil {
		return nil, Knowledge{}, fmt.Errorf("look for a model: %w", err)
	}
	s.mutex.Lock()
	known := s.newest[livemode]
	s.mutex.Unlock()
	if known.stored == newest {
		return known.model, known.Knowledge, nil
	}
	// Not under the mutex: a question waits for that, in a transaction whose connection this may
	// need.
	row, err := queries.OracleReadModel(ctx, livemode)
	if err != nil { // none: it has gone since
		return nil, Knowledge{}, fmt.Errorf("read a model: %w", err)
	}
	read := loaded{stored: row.Version, model: new(model.Model), Knowledge: Knowledge{
		Version: row.Version, BuiltAt: &row.BuiltAt, Merchants: int(row.Merchants), Attempts: row.Attempts, Bytes: len(row.Coefficients),
	}}
	if err := read.model.UnmarshalBinary(row.Coefficients); err != nil || !read.model.Sound() {
		read.model, read.Knowledge = model.New(), Knowledge{Spoilt: true} // the next night makes another
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.newest[livemode].stored < read.stored {
		s.newest[livemode] = read
	}
	return read.model, read.Knowledge, nil
}

// Own is what a merchant may know about the oracle and their own charges.
type Own struct {
	Knowledge
	Standing
	Livemode bool
	Score    Score // of their charges of the last 28 days
}

// Of says how the oracle stands in the mode that a merchant works in, and how well it has foretold
// their own charges.
func (s *Service) Of(ctx context.Context, merchantID uuid.UUID) (o Own, err error) {
	queries := db.New(s.pool)
	merchant, err := queries.OracleReadMerchant(ctx, merchantID)
	if err != nil {
		return o, fmt.Errorf("read the merchant: %w", err)
	}
	o.Livemode = merchant.Livemode
	if _, o.Knowledge, err = s.Model(ctx, merchant.Livemode); err != nil {
		return o, err
	}
	if o.Standing, err = s.Standing(ctx, merchant.Livemode); err != nil {
		return o, err
	}
	rows, err := queries.OracleListSettledOfMerchant(ctx, merchantID)
	if err != nil {
		return o, fmt.Errorf("read what was settled: %w", err)
	}
	settled := make([]Settled, len(rows))
	for i, row := range rows {
		settled[i] = Settled{row.Class, row.P, row.Paid}
	}
	o.Score = Rate(settled)
	return o, nil
}

// Picture is a heatmap with what it is about.
type Picture struct {
	Knowledge
	Livemode bool
	Class    decline.Class
	Category string
	Country  string // "" where it is not known
	model.Heatmap
}

// Heatmap shows when charges of a merchant's customers succeed, as far as the oracle knows. An
// empty country is the merchant's own.
func (s *Service) Heatmap(ctx context.Context, merchantID uuid.UUID, class decline.Class, country string) (p Picture, err error) {
	queries := db.New(s.pool)
	merchant, err := queries.OracleReadMerchant(ctx, merchantID)
	if err != nil {
		return p, fmt.Errorf("read the merchant: %w", err)
	}
	now, err := queries.Now(ctx)
	if err != nil {
		return p, fmt.Errorf("read the clock: %w", err)
	}
	p = Picture{Livemode: merchant.Livemode, Class: class, Category: text(merchant.BusinessCategory), Country: country}
	if country == "" {
		p.Country = text(merchant.Country)
	}
	m, knowledge, err := s.Model(ctx, merchant.Livemode)
	if err != nil {
		return p, err
	}
	p.Knowledge = knowledge
	p.Heatmap = m.Heatmap(model.Debt{Merchant: merchant.ID.String(), Category: p.Category, Country: p.Country}, model.ClassOf(class), now)
	return p, nil
}
