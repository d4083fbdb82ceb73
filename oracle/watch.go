package oracle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/figures"
)

// Keep keeps what the oracle has said about a charge that is planned, with its attempt.
func Keep(ctx context.Context, tx db.DBTX, merchant, taskID uuid.UUID, q Question, m Moment) error {
	a := m.Advice
	row := db.OracleAdviceCreateParams{
		MerchantID: merchant, TaskID: taskID, Livemode: q.Livemode, Model: a.Model, Arm: a.Arm, Class: q.Class, PlannedFor: m.At,
		P: a.P, Low: a.Low, High: a.High, Confidence: a.Confidence, Cell: a.Cell, ChosenP: a.ChosenP, Propensity: a.Propensity, Reason: a.Reason,
		HeuristicFor: a.Heuristic,
	}
	if !a.Chosen.IsZero() {
		row.ChosenFor = &a.Chosen
	}
	if err := db.New(tx).OracleAdviceCreate(ctx, row); err != nil {
		return fmt.Errorf("keep the oracle's advice: %w", err)
	}
	return nil
}

// Settle tells what came of a charge, in the transaction that settles it. One that was not made at
// about the moment that was advised on tells nothing.
func Settle(ctx context.Context, tx db.DBTX, merchant, taskID uuid.UUID, paid bool) error {
	if err := db.New(tx).OracleSettle(ctx, db.OracleSettleParams{MerchantID: merchant, TaskID: taskID, Paid: paid}); err != nil {
		return fmt.Errorf("tell the oracle of a charge: %w", err)
	}
	return nil
}

// Standing is a mode's state.
func (s *Service) Standing(ctx context.Context, livemode bool) (Standing, error) {
	row, err := db.New(s.pool).OracleReadState(ctx, livemode)
	if errors.Is(err, pgx.ErrNoRows) {
		return Standing{State: Shadow, Why: untried}, nil
	}
	if err != nil {
		return Standing{}, fmt.Errorf("read the oracle's state: %w", err)
	}
	return standingOf(row), nil
}

const untried = "it has not shown yet that it predicts well"

func standingOf(row db.OracleState) Standing {
	return Standing{
		State: State(row.State), Since: row.Since, Why: row.Why, Looks: int(row.Looks),
		Fortnights: int(row.Fortnights), Compared: row.ComparedAt, Falls: int(row.Falls),
	}
}

// Evidence is a mode's state with what speaks for it and against it now.
func (s *Service) Evidence(ctx context.Context, livemode bool) (now Standing, e Evidence, err error) {
	if now, err = s.Standing(ctx, livemode); err != nil {
		return now, e, err
	}
	if e, err = s.evidence(ctx, livemode); err != nil || now.State != On {
		return now, e, err
	}
	queries := db.New(s.pool)
	if err = e.arms(ctx, queries, livemode, now); err != nil {
		return now, e, fmt.Errorf("compare the oracle's arms: %w", err)
	}
	replay, err := queries.OracleReplay(ctx, livemode)
	if err != nil {
		return now, e, fmt.Errorf("replay the oracle's charges: %w", err)
	}
	e.Replay = replayOf(replay)
	return now, e, nil
}

func replayOf(row db.OracleReplayRow) (r Replay) {
	if r.Charges = int(row.Charges); r.Charges > 0 {
		r.Paid = float64(row.Paid) / float64(row.Charges)
	}
	if row.Squares > 0 {
		r.Rules, r.Worth = row.WeightPaid/row.Weight, row.Weight*row.Weight/row.Squares
	}
	return r
}

// judge stores whether the oracle of a mode may choose from now on, and reports whether that has
// changed.
func (s *Service) judge(ctx context.Context, livemode bool) (now Standing, e Evidence, changed bool, err error) {
	e, err = s.evidence(ctx, livemode)
	if err != nil {
		return now, e, false, err
	}
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		if err := queries.OracleAddState(ctx, db.OracleAddStateParams{Livemode: livemode, Why: untried}); err != nil {
			return err
		}
		row, err := queries.OracleLockState(ctx, livemode)
		if err != nil {
			return err
		}
		was := standingOf(row)
		if was.State == On {
			if err := e.arms(ctx, queries, livemode, was); err != nil {
				return err
			}
		}
		now = was.Next(e)
		changed = now.State != was.State
		return queries.OracleSetState(ctx, db.OracleSetStateParams{
			Livemode: livemode, State: string(now.State), Since: now.Since, Why: now.Why, Looks: int32(now.Looks),
			Fortnights: int32(now.Fortnights), ComparedAt: cmp.Or(now.Compared, now.Since), Falls: int32(now.Falls),
			Charges: int32(e.Score.Charges), LogLoss: e.Score.LogLoss, BaseLogLoss: e.Score.Base, CalibrationError: e.Score.ECE,
		})
	})
	if err != nil {
		return now, e, false, fmt.Errorf("store the oracle's state: %w", err)
	}
	return now, e, changed, nil
}

// evidence is what is known of a mode, but for the arms.
func (s *Service) evidence(ctx context.Context, livemode bool) (e Evidence, err error) {
	queries := db.New(s.pool)
	if e.Now, err = queries.Now(ctx); err != nil {
		return e, fmt.Errorf("read the clock: %w", err)
	}
	if _, e.Knowledge, err = s.Model(ctx, livemode); err != nil {
		return e, err
	}
	counted, err := queries.OracleCountSettled(ctx, livemode)
	if err != nil {
		return e, fmt.Errorf("count what was settled: %w", err)
	}
	e.Merchants, e.Charges = int(counted.Merchants), int(counted.Charges)
	var settled []Settled
	err = queries.OracleListSettledEach(ctx, livemode, func(row db.OracleListSettledRow) {
		settled = append(settled, Settled{row.Class, row.P, row.Paid})
	})
	if err != nil {
		return e, fmt.Errorf("read what was settled: %w", err)
	}
	e.Score = Rate(settled)
	return e, nil
}

// arms adds how customers of each arm have fared since a state began.
func (e *Evidence) arms(ctx context.Context, queries *db.Queries, livemode bool, since Standing) error {
	rows, err := queries.OracleArms(ctx, db.OracleArmsParams{Livemode: livemode, Since: since.Since, Compared: since.Compared})
	if err != nil {
		return err
	}
	for _, row := range rows {
		all, late := figures.Arm{Customers: row.Customers, Recovered: row.Recovered}, figures.Arm{Customers: row.LateCustomers, Recovered: row.LateRecovered}
		if row.Arm == ArmOracle {
			e.All.Oracle, e.Late.Oracle = all, late
			continue
		}
		e.All.Heuristic, e.Late.Heuristic = all, late
	}
	return nil
}

// check is a night's look at how well the oracle does.
func check(ctx context.Context, pool *pgxpool.Pool, livemode bool, log *slog.Logger) error {
	due, err := db.New(pool).OracleCheckDue(ctx, livemode)
	if err != nil || !due {
		return err
	}
	now, e, changed, err := New(pool).judge(ctx, livemode)
	if err != nil {
		return err
	}
	attrs := []any{
		"mode", Mode(livemode), "state", now.State, "why", now.Why, "charges", e.Score.Charges,
		"log_loss", e.Score.LogLoss, "base_log_loss", e.Score.Base, "calibration_error", e.Score.ECE,
	}
	switch {
	case changed && now.State == Fallback:
		log.Warn("[WORKER] the oracle has fallen back and fixed rules choose: phantom oracle status has the figures", attrs...)
	case changed:
		log.Info("[WORKER] the oracle's state has changed", attrs...)
	}
	return nil
}
