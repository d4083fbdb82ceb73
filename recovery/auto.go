package recovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
	"phantom/task"
)

// Hunts begin by themselves where the newest playbook recovers and says so: for a new ghost in the
// transaction that stores it, and for all that are there once such a playbook is stored.

// ghostClosings are why ghosts close otherwise than by a payment, as package ghost has it. A hunt
// that was stopped with one of these has ended because its ghost did. One that is not among them
// keeps a debt from being hunted anew, which is the safer mistake.
var ghostClosings = []string{
	"refunded", "voided", "written_off", "canceled", "suspended", "free_service", "disputed",
	"not_found", "no_access",
}

func (p Playbook) begins() bool { return p.Mode == ModeRecover && p.Auto }

// huntLater has hunts begin by a task where a playbook says that they do by themselves. The key
// holds the version: a task that runs may have passed ghosts that fit only now.
func huntLater(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, p Versioned) error {
	if !p.begins() {
		return nil
	}
	_, err := task.Enqueue(ctx, tx, task.New{
		MerchantID: merchantID, Kind: KindHunt, UniqueKey: fmt.Sprintf("auto:%d", p.Version),
		Params: huntParams{Do: "auto"},
	})
	return err
}

// huntAll begins hunts for all open ghosts that fit. Between two batches another playbook may have
// been stored: it has a task of its own, or wants none.
func (s *Service) huntAll(ctx context.Context, merchantID uuid.UUID) error {
	var began Started
	for after := uuid.Nil; ; {
		var list []db.GhostTarget
		err := db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
			playbook, err := newestPlaybook(ctx, db.New(tx), merchantID)
			if err != nil || !playbook.begins() {
				return err
			}
			list, err = db.New(tx).HuntListTargets(ctx, db.HuntListTargetsParams{
				MerchantID: merchantID, Mode: ModeRecover, After: after, Most: startBatch,
			})
			if err != nil {
				return fmt.Errorf("list ghosts: %w", err)
			}
			return s.beginUntried(ctx, tx, merchantID, playbook, list, &began)
		})
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return nil
		}
		after = list[len(list)-1].ID
	}
}

// huntNew begins hunts for those of these ghosts that fit, in the transaction that stores them.
// A playbook that is stored meanwhile waits for it, or has it wait: no ghost falls between the two.
func (s *Service) huntNew(ctx context.Context, tx db.DBTX, merchantID uuid.UUID,
	ghosts []uuid.UUID) error {
	queries := db.New(tx)
	playbook, err := newestPlaybook(ctx, queries, merchantID)
	if err != nil || !playbook.begins() {
		return err
	}
	list, err := queries.HuntGhostList(ctx, db.HuntGhostListParams{
		MerchantID: merchantID, Ids: ghosts,
	})
	if err != nil {
		return fmt.Errorf("list ghosts: %w", err)
	}
	return s.beginUntried(ctx, tx, merchantID, playbook, list, &Started{})
}

// beginUntried begins hunts for those of these ghosts whose debt was not hunted before.
func (s *Service) beginUntried(ctx context.Context, tx db.DBTX, merchantID uuid.UUID,
	playbook Versioned, list []db.GhostTarget, began *Started) error {
	list = open(list)
	if len(list) == 0 {
		return nil
	}
	hash, err := connect.HasherIn(ctx, tx, merchantID)
	if err != nil {
		return err
	}
	tried, err := triedBefore(ctx, db.New(tx), merchantID, list, hash)
	if err != nil {
		return err
	}
	fresh := list[:0]
	for _, g := range list {
		if !tried[g.ID] {
			fresh = append(fresh, g)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	return s.begin(ctx, tx, merchantID, playbook, fresh, false, hash, began)
}

func open(list []db.GhostTarget) (some []db.GhostTarget) {
	for _, g := range list {
		if g.Status == "open" {
			some = append(some, g)
		}
	}
	return some
}

// triedBefore says which ghosts no hunt begins for by itself, because their debt has had one that
// was to recover: it is under way, or it ended while the ghost was open, by its window, the
// merchant's word or the customer's. A ghost's row does not tell how often it was closed, so the
// hunts do: one that ended with its ghost stands in nobody's way when the ghost comes back, nor
// does one about invoices of which none is owed any more. The invoices of a hunt are forgotten in
// the purge. After it the same debt is found as a new ghost, and told by its first failure: what
// had failed before the hunt ended may be what the hunt was about.
func triedBefore(ctx context.Context, queries *db.Queries, merchantID uuid.UUID,
	list []db.GhostTarget, hash hasher) (map[uuid.UUID]bool, error) {
	p := db.HuntListTriedParams{MerchantID: merchantID, Closings: ghostClosings}
	for _, g := range list {
		p.Ghosts = append(p.Ghosts, g.ID)
		p.Customers = append(p.Customers, hash("customer", g.StripeCustomerID))
	}
	ids, err := queries.HuntListTried(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("list what was hunted before: %w", err)
	}
	return unique(ids), nil
}

// Auto is what hunts would begin by themselves.
type Auto struct {
	Ghosts  int              `json:"ghosts"`
	Amounts map[string]int64 `json:"amounts"` // minor units by currency, of what is hunted
}

func (a *Auto) add(g db.GhostTarget, p Playbook, now time.Time) {
	a.Ghosts++
	for _, i := range p.chosen(g, false, now) {
		a.Amounts[g.Currency] += i.Amount
	}
}

// ReadAuto says for which ghosts hunts would begin by themselves if the merchant's playbook were
// set from observe to recover as it is, those that are held out included. It returns nil where the
// playbook does not observe, or leaves the choice to the merchant. tx should be a snapshot.
func ReadAuto(ctx context.Context, tx db.DBTX, merchantID uuid.UUID) (*Auto, error) {
	playbook, err := newestPlaybook(ctx, db.New(tx), merchantID)
	if err != nil || playbook.Mode != ModeObserve || !playbook.Auto {
		return nil, err
	}
	return readAuto(ctx, tx, merchantID, playbook.Playbook)
}

// readAuto says for which ghosts hunts would begin by themselves under a playbook in mode recover.
func readAuto(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, playbook Playbook) (*Auto,
	error) {
	queries := db.New(tx)
	now, err := queries.Now(ctx)
	if err != nil {
		return nil, fmt.Errorf("read clock: %w", err)
	}
	some, err := queries.SuppressionExists(ctx, merchantID)
	if err != nil {
		return nil, fmt.Errorf("read suppressions: %w", err)
	}
	merchant, err := queries.MerchantGet(ctx, merchantID)
	if err != nil {
		return nil, fmt.Errorf("read merchant: %w", err)
	}
	var hash hasher
	// Without a salt nothing was hunted or suppressed yet, and a snapshot cannot make one.
	if merchant.HashSalt != nil {
		if hash, err = connect.HasherOf(ctx, tx, merchant); err != nil {
			return nil, err
		}
	}
	all := &Auto{Amounts: map[string]int64{}}
	for after := uuid.Nil; ; {
		list, err := queries.HuntListTargets(ctx, db.HuntListTargetsParams{
			MerchantID: merchantID, Mode: ModeRecover, After: after, Most: startBatch,
		})
		if err != nil {
			return nil, fmt.Errorf("list ghosts: %w", err)
		}
		if len(list) == 0 {
			return all, nil
		}
		var tried map[uuid.UUID]bool
		if hash != nil {
			if tried, err = triedBefore(ctx, queries, merchantID, list, hash); err != nil {
				return nil, err
			}
		}
		for _, g := range list {
			p, _ := playbook.For(g)
			if tried[g.ID] || !p.hunts(g, false, now) {
				continue
			}
			if some && hash != nil {
				unwanted, err := suppressedCustomer(ctx, queries, g, hash, p.Steps)
				if err != nil {
					return nil, err
				}
				if unwanted {
					continue
				}
			}
			all.add(g, p, now)
		}
		after = list[len(list)-1].ID
	}
}

// ghostOf reads a ghost, the zero value where it is gone.
func ghostOf(ctx context.Context, queries *db.Queries, hunt db.Hunt) (db.GhostTarget, error) {
	g, err := queries.HuntGhostGet(ctx, db.HuntGhostGetParams{
		MerchantID: hunt.MerchantID, ID: hunt.GhostID,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return db.GhostTarget{}, nil
	}
	if err != nil {
		return g, fmt.Errorf("read ghost: %w", err)
	}
	return g, nil
}
