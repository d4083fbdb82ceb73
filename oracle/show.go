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

	"phantom/db"
	"phantom/decline"
	"phantom/oracle/model"
)

// Service shows what the oracle knows. It is safe for concurrent use.
type Service struct {
	pool   *pgxpool.Pool
	mutex  sync.Mutex
	newest map[bool]loaded // by livemode
}

type loaded struct {
	model   *model.Model
	version int64
}

// New returns a Service over pool.
func New(pool *pgxpool.Pool) *Service { return &Service{pool: pool, newest: make(map[bool]loaded)} }

// Knowledge is what stands behind answers to a merchant.
type Knowledge struct {
	Version   int64      // of the newest model, 0 for none
	BuiltAt   *time.Time // nil: none yet
	Merchants int        // whose charges it was made of
	Attempts  int64      // charges it was made of
}

// Shared says whether merchants share anything in it.
func (k Knowledge) Shared() bool { return k.Merchants >= model.Enough }

// Knowledge reads what the newest model of a mode was made of.
func (s *Service) Knowledge(ctx context.Context, livemode bool) (k Knowledge, err error) {
	row, err := db.New(s.pool).OracleNewestModel(ctx, livemode)
	if errors.Is(err, pgx.ErrNoRows) {
		return k, nil
	}
	if err != nil {
		return k, fmt.Errorf("read what the oracle knows: %w", err)
	}
	return Knowledge{row.Version, &row.BuiltAt, int(row.Merchants), row.Attempts}, nil
}

// Model is the newest of a mode. It is read anew when there is a newer one.
func (s *Service) Model(ctx context.Context, livemode bool, k Knowledge) (*model.Model, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if known := s.newest[livemode]; known.model != nil && known.version == k.Version {
		return known.model, nil
	}
	m, _, err := Newest(ctx, s.pool, livemode)
	if err != nil {
		return nil, err
	}
	s.newest[livemode] = loaded{m, k.Version} // one that cannot be read, too, is read once
	return m, nil
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
	if p.Knowledge, err = s.Knowledge(ctx, merchant.Livemode); err != nil {
		return p, err
	}
	m, err := s.Model(ctx, merchant.Livemode, p.Knowledge)
	if err != nil {
		return p, err
	}
	p.Heatmap = m.Heatmap(model.Debt{Merchant: merchant.ID.String(), Category: p.Category, Country: p.Country}, model.ClassOf(class), now)
	return p, nil
}
