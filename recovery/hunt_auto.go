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
	"phantom/debt"
	"phantom/gate"
	"phantom/message"
	"phantom/playbook"
	"phantom/state"
	"phantom/task"
)

// huntLater has hunts begin by a task where a playbook says that they do by themselves. The key
// holds the version: a task that runs may have passed ghosts that fit only now.
func huntLater(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, p playbook.Versioned) error {
	if !p.Begins() {
		return nil
	}
	_, err := task.Enqueue(ctx, tx, task.New{
		MerchantID: merchantID, Kind: KindHunt, UniqueKey: fmt.Sprintf("auto:%d", p.Version),
		Params: huntParams{Do: doAuto},
	})
	return err
}

// huntNew begins hunts for those of these ghosts that fit, in the transaction that stores them.
// A playbook that is stored meanwhile waits for it, or has it wait: no ghost falls between the two.
func (s *Service) huntNew(ctx context.Context, tx db.DBTX, merchantID uuid.UUID,
	ghosts []uuid.UUID) error {
	queries := db.New(tx)
	playbook, err := playbook.Newest(ctx, queries, merchantID)
	if err != nil || !playbook.Begins() {
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
	playbook playbook.Versioned, list []db.GhostTarget, began *Started) error {
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
	o := opening{s: s, tx: tx, merchant: merchantID, playbook: playbook, hash: hash, started: began}
	return o.begin(ctx, fresh)
}

func open(list []db.GhostTarget) (some []db.GhostTarget) {
	for _, g := range list {
		if g.Status == state.GhostOpen {
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
	list []db.GhostTarget, hash message.Hasher) (map[uuid.UUID]bool, error) {
	p := db.HuntListTriedParams{MerchantID: merchantID, Closings: db.Texts(debt.Unpaid)}
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

func (a *Auto) add(g db.GhostTarget, p playbook.Playbook, now time.Time) {
	a.Ghosts++
	for _, i := range p.Chosen(g, false, now) {
		a.Amounts[g.Currency] += i.Amount
	}
}

// ReadAuto says for which ghosts hunts would begin by themselves if the merchant's playbook were
// set from observe to recover as it is, those that are held out included. It returns nil where the
// playbook does not observe, or leaves the choice to the merchant. tx should be a snapshot.
func ReadAuto(ctx context.Context, tx db.DBTX, merchantID uuid.UUID) (*Auto, error) {
	newest, err := playbook.Newest(ctx, db.New(tx), merchantID)
	if err != nil || newest.Mode != state.ModeObserve || !newest.Auto {
		return nil, err
	}
	return readAuto(ctx, tx, merchantID, newest.Playbook, 0)
}

// readAuto says for which ghosts hunts would begin by themselves under a playbook in mode recover,
// among so many rows of ghosts at most; 0 is all.
func readAuto(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, base playbook.Playbook, most int) (*Auto,
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
	var hash message.Hasher
	// Without a salt nothing was hunted or suppressed yet, and a snapshot cannot make one.
	if merchant.HashSalt != nil {
		if hash, err = connect.HasherOf(ctx, tx, merchant); err != nil {
			return nil, err
		}
	}
	all := &Auto{Amounts: map[string]int64{}}
	rows := 0
	for page, err := range targets(ctx, queries, merchantID, state.ModeRecover) {
		if err != nil {
			return nil, err
		}
		var tried map[uuid.UUID]bool
		if hash != nil {
			if tried, err = triedBefore(ctx, queries, merchantID, page.ghosts, hash); err != nil {
				return nil, err
			}
		}
		for _, g := range page.ghosts {
			p, _ := base.For(g)
			if tried[g.ID] || !gate.MayHunt(p, g, false, now) {
				continue
			}
			if some && hash != nil {
				unwanted, err := message.Unwanted(ctx, queries, g, hash, p.Steps)
				if err != nil {
					return nil, err
				}
				if unwanted {
					continue
				}
			}
			all.add(g, p, now)
		}
		if rows += page.rows; rows == most {
			break
		}
	}
	return all, nil
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
