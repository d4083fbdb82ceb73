package oracle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/oracle/model"
)

// Built is a night's model.
type Built struct {
	Version   int64
	Merchants int
	Cells     int
	Attempts  int64
	Spoilt    int // cells that cannot be read, and are left out
	told      []uuid.UUID
}

// errLeft says that somebody has left while a model was made of what they had told.
var errLeft = errors.New("a merchant has left meanwhile: it is done again without them")

// Rebuild makes a model from all cells of a mode, and stores it as the newest. The same cells make
// the same bytes. Where nobody has told anything it stores none, and its version is 0. Models of
// more than 30 nights ago go. Where somebody has left meanwhile it is done again.
func Rebuild(ctx context.Context, pool *pgxpool.Pool, livemode bool) (b Built, err error) {
	for range 5 {
		if b, err = rebuild(ctx, pool, livemode); !errors.Is(err, errLeft) {
			break
		}
	}
	return b, err
}

func rebuild(ctx context.Context, pool *pgxpool.Pool, livemode bool) (b Built, err error) {
	queries := db.New(pool)
	now, err := queries.Now(ctx)
	if err != nil {
		return b, fmt.Errorf("read the clock: %w", err)
	}
	if err := queries.OracleDropOldCells(ctx, livemode); err != nil {
		return b, fmt.Errorf("drop old cells: %w", err)
	}
	if err := queries.OracleForgetReasons(ctx, livemode); err != nil {
		return b, fmt.Errorf("forget old reasons: %w", err)
	}
	if err := queries.OracleSweepAdvice(ctx, livemode); err != nil {
		return b, fmt.Errorf("forget who has left: %w", err)
	}
	counts, err := b.counts(ctx, queries, livemode, now)
	if err != nil {
		return b, fmt.Errorf("read cells: %w", err)
	}
	rows, err := queries.OracleListPaydays(ctx, livemode)
	if err != nil {
		return b, fmt.Errorf("read paydays: %w", err)
	}
	var paid []model.Paid
	for _, row := range rows {
		b.told = append(b.told, row.MerchantID)
		paid = append(paid, model.Paid{Merchant: row.MerchantID.String(), Country: row.Country, Customers: int(row.Customers), Habits: row.Habits})
	}
	if len(b.told) == 0 {
		return b, nil
	}
	coefficients, err := model.Learn(counts, paid).MarshalBinary()
	if err != nil {
		return b, err
	}
	err = b.store(ctx, pool, livemode, coefficients)
	return b, err
}

// store stores a model, unless somebody who is in it has left since their cells were read.
func (b *Built) store(ctx context.Context, pool *pgxpool.Pool, livemode bool, coefficients []byte) error {
	err := db.InTx(ctx, pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		if err := queries.OracleLockModels(ctx); err != nil {
			return err
		}
		gone, err := queries.OracleCountGone(ctx, db.OracleCountGoneParams{Merchants: b.told, Livemode: livemode})
		if err != nil {
			return err
		}
		if gone > 0 {
			return errLeft
		}
		b.Version, err = queries.OracleAddModel(ctx, db.OracleAddModelParams{
			Livemode: livemode, Merchants: int32(b.Merchants), Attempts: b.Attempts, Coefficients: coefficients,
		})
		if err != nil {
			return err
		}
		return queries.OracleDropModels(ctx, db.OracleDropModelsParams{Livemode: livemode, Newest: b.Version})
	})
	if err != nil {
		return fmt.Errorf("store a model: %w", err)
	}
	return nil
}

// counts reads the cells of a mode. Names are shared between them: a million cells hold few.
func (b *Built) counts(ctx context.Context, queries *db.Queries, livemode bool, night time.Time) (all []model.Count, err error) {
	names := make(map[string]string)
	share := func(name *string) {
		if known, ok := names[*name]; ok {
			*name = known
			return
		}
		names[*name] = *name
	}
	size, err := queries.OracleCountCells(ctx, livemode)
	if err != nil {
		return nil, err
	}
	all = make([]model.Count, 0, size.Cells)
	merchant := ""
	err = queries.OracleListCellsEach(ctx, livemode, func(row db.OracleListCellsRow) {
		cell, ok := model.ParseCell(row.Cell)
		if !ok {
			b.Spoilt++
			return
		}
		for _, name := range []*string{&cell.Code, &cell.Category, &cell.Country, &cell.Funding, &cell.Brand} {
			share(name)
		}
		if id := row.MerchantID.String(); id != merchant {
			merchant = id
			b.Merchants++
			b.told = append(b.told, row.MerchantID)
		}
		b.Cells++
		b.Attempts += int64(row.Attempts)
		all = append(all, model.Count{
			Merchant: merchant, Age: model.AgeOf(row.Month.Time, night), Ours: row.Ours, Cell: cell, Attempts: row.Attempts, Successes: row.Successes,
		})
	})
	return all, err
}

// nightlyEvery is how often it is looked whether a night's work is due.
const nightlyEvery = 10 * time.Minute

// Nightly rebuilds each mode's model once a day until ctx ends, and looks how well the oracle does.
// Two processes that do it at once make the same model twice.
func Nightly(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) {
	tick := time.NewTicker(nightlyEvery)
	defer tick.Stop()
	for {
		if err := Night(ctx, pool, log); err != nil && ctx.Err() == nil {
			log.Error("[WORKER] the oracle cannot learn: it is tried again", "cause", db.Describe(err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Night does what is due of a night's work, in each mode.
func Night(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) (err error) {
	for _, livemode := range []bool{true, false} {
		err = errors.Join(err, nightly(ctx, pool, livemode, log))
	}
	return err
}

func nightly(ctx context.Context, pool *pgxpool.Pool, livemode bool, log *slog.Logger) error {
	// Even a night that learned nothing looks whether the oracle does harm.
	return errors.Join(learn(ctx, pool, livemode, log), check(ctx, pool, livemode, log))
}

func learn(ctx context.Context, pool *pgxpool.Pool, livemode bool, log *slog.Logger) error {
	due, err := db.New(pool).OracleModelDue(ctx, livemode)
	if err != nil || !due {
		return err
	}
	start := time.Now()
	b, err := Rebuild(ctx, pool, livemode)
	if err != nil {
		return err
	}
	log.Info("[WORKER] the oracle has learned", "mode", Mode(livemode), "version", b.Version, "merchants", b.Merchants, "attempts", b.Attempts,
		"cells", b.Cells, "spoilt", b.Spoilt, "took", time.Since(start).Round(time.Millisecond).String())
	return nil
}

// Mode is the name of a mode.
func Mode(livemode bool) string {
	if livemode {
		return "live"
	}
	return "test"
}
