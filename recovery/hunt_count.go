package recovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/billing"
	"phantom/connect"
	"phantom/db"
	"phantom/gate"
	"phantom/oracle"
	"phantom/state"
	"phantom/task"
)

// countRecoveries reads the invoices of a hunt and counts those that are paid, each once, with what
// has come for it since the hunt began and what came before the payment. It notes when the debt
// with which the hunt began was paid, and where that is still owed and the hunt has ended before
// its window, it has the hunt read once more when the window ends.
func (s *Service) countRecoveries(ctx context.Context, merchantID, huntID uuid.UUID) error {
	hunt, err := s.queries.HuntGet(ctx, db.HuntGetParams{MerchantID: merchantID, ID: huntID})
	if err != nil {
		return fmt.Errorf("read hunt: %w", err)
	}
	reader, err := s.connect.Reader(ctx, merchantID)
	if err != nil {
		return err
	}
	owed := map[string]int64{}
	if err := json.Unmarshal(hunt.Owed, &owed); err != nil {
		return fmt.Errorf("read what was owed: %w", err)
	}
	settled, paid, wait := true, false, time.Duration(0)
	var first settlement // with which the hunt began
	for _, invoice := range hunt.Invoices {
		o, err := billing.ReadInvoice(ctx, reader, invoice)
		if errors.Is(err, connect.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		settled, paid = settled && o.Status != billing.InvoiceOpen && o.Status != billing.InvoiceUncollectible, paid || o.Status == billing.InvoicePaid
		money, err := s.countPayment(ctx, reader, hunt, o, owed)
		var unsure *errUnsure
		if errors.As(err, &unsure) { // the rest need not wait for it
			wait, err = max(wait, unsure.wait), nil
		}
		if err != nil {
			return err
		}
		if _, known := owed[invoice]; known {
			first.add(o, money)
		}
	}
	if err := s.followUp(ctx, hunt, first); err != nil {
		return err
	}
	if settled && paid && hunt.Paused {
		if err := db.InTx(ctx, s.pool, func(tx pgx.Tx) error { return s.liftPause(ctx, tx, merchantID, huntID) }); err != nil {
			return err
		}
	}
	if wait > 0 {
		return task.Snooze(wait)
	}
	return nil
}

// errUnsure says that it is not known yet whose charge has paid: a payment is counted once, and to
// whom is not guessed.
type errUnsure struct{ wait time.Duration }

func (*errUnsure) Error() string { return "no event tells yet whose charge has paid" }

// countPayment counts what a paid invoice of a hunt has brought, once, and returns it.
func (s *Service) countPayment(ctx context.Context, reader *connect.Reader, hunt db.Hunt, o billing.Object, owed map[string]int64) (payment, error) {
	if o.Status != billing.InvoicePaid {
		return payment{}, nil
	}
	charges, err := billing.ReadPayments(ctx, reader, o)
	if err != nil {
		return payment{}, err
	}
	money := moneySince(o, charges, owed, hunt.BeganAt)
	if money.amount == 0 {
		return money, nil
	}
	// What came after another hunt of this ghost had begun is that one's.
	if replaced, err := s.queries.HuntReplacedBefore(ctx, db.HuntReplacedBeforeParams{
		MerchantID: hunt.MerchantID, GhostID: hunt.GhostID, BeganAt: hunt.BeganAt, At: money.at.Add(clockSkew),
	}); err != nil || replaced {
		return money, err
	}
	invoice := reader.Hash("invoice", o.ID)
	cause, err := s.cause(ctx, reader, hunt, invoice, money)
	if err != nil {
		return money, err
	}
	if _, err := s.queries.RecoveryCreate(ctx, db.RecoveryCreateParams{
		MerchantID: hunt.MerchantID, Invoice: invoice, HuntID: hunt.ID, Currency: o.Currency, Amount: money.amount, Cause: cause, RecoveredAt: money.at,
	}); err != nil {
		return money, fmt.Errorf("count the payment: %w", err)
	}
	return money, nil
}

// followUp notes when a hunt's first debt was paid. Where it is still owed, it has a hunt that
// ended early, for any reason, read at the end of its window: the arms of the comparison are
// followed equally long only if that does not depend on what was done to a customer.
func (s *Service) followUp(ctx context.Context, hunt db.Hunt, first settlement) error {
	if first.paid() {
		if err := s.queries.HuntSetPaid(ctx, db.HuntSetPaidParams{MerchantID: hunt.MerchantID, ID: hunt.ID, PaidAt: first.last}); err != nil {
			return fmt.Errorf("note the payment: %w", err)
		}
	}
	// An active one is read when its window ends it.
	if !first.owed || hunt.State == state.HuntActive {
		return nil
	}
	window, err := s.queries.HuntGetWindow(ctx, db.HuntGetWindowParams{MerchantID: hunt.MerchantID, ID: hunt.ID})
	if err != nil {
		return fmt.Errorf("read the window: %w", err)
	}
	if !window.Ends.After(window.Now) {
		return nil
	}
	return accountAfter(ctx, s.pool, hunt, window.Ends)
}

// liftPause plans that the pause goes which was the hunt's final step: the debt is paid.
func (s *Service) liftPause(ctx context.Context, tx db.DBTX, merchantID, huntID uuid.UUID) error {
	p, err := s.lock(ctx, tx, merchantID, huntID)
	if err != nil {
		return err
	}
	there, err := p.load(ctx)
	if err != nil || !there || !p.hunt.Paused {
		return err
	}
	for _, a := range p.attempts {
		if a.Action == gate.KindResume && a.Result == nil {
			return nil // it is planned
		}
	}
	return p.planMutation(ctx, gate.KindResume, p.ghost.StripeSubscriptionID, p.hunt.Amount, oracle.Moment{At: p.now, Reason: "the debt is paid", Probability: 1})
}

// cause says what came before a payment: our charge if it was that, else the last message before
// it, else nothing of ours.
func (s *Service) cause(ctx context.Context, reader *connect.Reader, hunt db.Hunt, object []byte, p payment) (string, error) {
	if hunt.HeldOut || hunt.Mode != state.ModeRecover {
		return "anyway", nil
	}
	attempts, err := s.queries.AttemptListOfObject(ctx, db.AttemptListOfObjectParams{MerchantID: hunt.MerchantID, Object: object})
	if err != nil {
		return "", fmt.Errorf("list attempts: %w", err)
	}
	if ours, err := s.chargedByUs(ctx, reader, attempts, p); ours || err != nil {
		return "charge", err
	}
	channel, err := s.queries.HuntMessageBefore(ctx, db.HuntMessageBeforeParams{MerchantID: hunt.MerchantID, HuntID: hunt.ID, PaidAt: p.at})
	if errors.Is(err, pgx.ErrNoRows) {
		return "anyway", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the message before: %w", err)
	}
	return channel, nil
}

// chargedByUs says whether one of these attempts made the charge that paid. One that knows its
// charge says so by that. An attempt that Stripe answered with paid did. Of all others nothing is
// known for sure: a debit that was under way may have failed since, and a database that was put
// back has forgotten what was sent. There the key of the request that made the charge decides. Its
// event may be late, which is an [*errUnsure]; where it never comes, the charge is not ours.
func (s *Service) chargedByUs(ctx context.Context, reader *connect.Reader, attempts []db.Attempt, p payment) (bool, error) {
	perhaps := map[string]db.Attempt{} // by key
	for _, a := range attempts {
		switch {
		case a.Action != gate.KindPay:
		case a.Charge != nil:
			if p.by != nil && bytes.Equal(a.Charge, reader.Hash("charge", p.by.ID)) {
				return true, nil
			}
		case a.Result != nil && *a.Result == state.AttemptPaid:
			return true, nil
		default:
			perhaps["task_"+a.TaskID.String()] = a
		}
	}
	if len(perhaps) == 0 || p.by == nil {
		return false, nil
	}
	key, known, err := keyOf(ctx, reader, *p.by)
	if errors.Is(err, errTooManyEvents) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if ours, hit := perhaps[key]; hit {
		return true, s.found(ctx, reader, ours, *p.by)
	}
	if known {
		return false, nil
	}
	now, err := s.queries.Now(ctx)
	if err != nil {
		return false, fmt.Errorf("read clock: %w", err)
	}
	if age := now.Sub(p.by.At()); age < eventPatience {
		return false, &errUnsure{min(max(age/4, time.Minute), 6*time.Hour)}
	}
	return false, nil
}

// found books a charge that has paid to its attempt, where that was taken for unsent.
func (s *Service) found(ctx context.Context, reader *connect.Reader, a db.Attempt, by billing.Charge) error {
	return db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		changed, err := queries.AttemptFound(ctx, db.AttemptFoundParams{
			MerchantID: a.MerchantID, TaskID: a.TaskID, ExecutedAt: by.At(), Charge: reader.Hash("charge", by.ID),
		})
		if err != nil || changed == 0 {
			return err
		}
		if err := queries.HuntCountCharge(ctx, db.HuntCountChargeParams{MerchantID: a.MerchantID, ID: a.HuntID}); err != nil {
			return fmt.Errorf("count the charge: %w", err)
		}
		return note(ctx, queries, a.MerchantID, a.HuntID, a.TaskID, "a charge that was taken for unsent has paid: Stripe knows its key")
	})
}
