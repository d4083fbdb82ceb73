package shield

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/debt"
	"phantom/task"
	"phantom/trail"
)

// Versioned is a policy as it is stored. Version is 0 where the merchant has said nothing.
type Versioned struct {
	Version int32 `json:"version"`
	Policy
}

// ErrNotSeen says that a policy would be enforced whose effect nobody has seen.
var ErrNotSeen = errors.New("the policy has been in mode dry_run for less than 7 days, and no valid token of a preview of it was given")

// dryRun is for how long a policy has to run dry before it may be enforced without a preview.
const dryRun = 7 * 24 * time.Hour

// Policy returns the newest policy of a merchant.
func (s *Service) Policy(ctx context.Context, merchantID uuid.UUID) (Versioned, error) {
	row, err := s.queries.ShieldPolicyNewest(ctx, merchantID)
	if errors.Is(err, pgx.ErrNoRows) {
		return Versioned{Policy: Default()}, nil
	}
	if err != nil {
		return Versioned{}, fmt.Errorf("read the policy: %w", err)
	}
	policy, err := Parse(row.Body)
	if err != nil {
		return Versioned{}, fmt.Errorf("read policy %d: %w", row.Version, err)
	}
	return Versioned{row.Version, policy}, nil
}

// SetPolicy stores a policy as the merchant's newest version, and has everybody judged by it. To
// enforce one that was not, it must have run dry for 7 days, or confirm is the token of a preview
// of it: else it fails with [ErrNotSeen]. It returns the revision at which it is obeyed.
func (s *Service) SetPolicy(ctx context.Context, merchantID uuid.UUID, p Policy, confirm string) (stored Versioned, revision string, err error) {
	body, err := p.JSON()
	if err != nil {
		return Versioned{}, "", fmt.Errorf("marshal policy: %w", err)
	}
	if _, err := Parse(body); err != nil { // anyone who reads it later does so by the same rules
		return Versioned{}, "", err
	}
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		if err := queries.MerchantLock(ctx, merchantID); err != nil {
			return err
		}
		rules, err := queries.ShieldContext(ctx, merchantID)
		if err != nil {
			return fmt.Errorf("read the policy: %w", err)
		}
		before, err := Parse(rules.Body)
		if err != nil {
			return fmt.Errorf("read policy %d: %w", rules.Version, err)
		}
		begins := p.Mode == Enforce && before.Mode != Enforce
		if begins {
			if err := s.mayEnforce(ctx, tx, merchantID, p, confirm); err != nil {
				return err
			}
		}
		created, err := queries.ShieldPolicyCreate(ctx, db.ShieldPolicyCreateParams{MerchantID: merchantID, Body: body})
		if err != nil {
			return fmt.Errorf("store policy: %w", err)
		}
		stored = Versioned{created.Version, p}
		if begins {
			if err := queries.ShieldBeginEnforcing(ctx, merchantID); err != nil {
				return fmt.Errorf("begin with full access: %w", err)
			}
		}
		if err := task.Join(ctx, tx, task.New{MerchantID: merchantID, Kind: KindJudge, UniqueKey: "judge"}); err != nil {
			return err
		}
		if err := trail.Record(ctx, tx, changeOf(merchantID, stored, before)); err != nil {
			return err
		}
		if err := reload(ctx, tx, merchantID); err != nil {
			return err
		}
		revision, err = revisionIn(ctx, tx, merchantID)
		return err
	})
	return stored, revision, err
}

// Rehearse gives a merchant who has said nothing the default policy in a dry run. It is for
// stand-ins alone: a merchant of one's own chooses.
func Rehearse(ctx context.Context, tx db.DBTX, merchantID uuid.UUID) error {
	queries := db.New(tx)
	if _, err := queries.ShieldPolicyNewest(ctx, merchantID); !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	policy := Default()
	policy.Mode = DryRun
	if _, err := queries.ShieldPolicyCreate(ctx, db.ShieldPolicyCreateParams{MerchantID: merchantID, Body: mustJSON(policy)}); err != nil {
		return fmt.Errorf("store a policy to rehearse: %w", err)
	}
	return nil
}

// mostRecorded is what a row of the log holds, with room to spare.
const mostRecorded = 60_000

// changeOf is the row of the log. A policy that lists hundreds of products is told from another by
// its digest.
func changeOf(merchantID uuid.UUID, stored Versioned, was Policy) trail.Change {
	before, after := json.RawMessage(mustJSON(was)), json.RawMessage(mustJSON(stored.Policy))
	if len(before)+len(after) > mostRecorded {
		before, after = trail.Digest(before), trail.Digest(after)
	}
	return trail.Change{Merchant: merchantID, Action: "shield.policy.put", Object: fmt.Sprint(stored.Version), Before: before, After: after}
}

// mayEnforce says whether somebody has seen what a policy does.
func (s *Service) mayEnforce(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, p Policy, confirm string) error {
	dry, err := db.New(tx).ShieldPolicyModeSince(ctx, db.ShieldPolicyModeSinceParams{MerchantID: merchantID, Mode: string(DryRun)})
	if err != nil {
		return fmt.Errorf("look for how long it has run dry: %w", err)
	}
	if !dry.Since.Add(dryRun).After(dry.Now) {
		return nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(confirm)
	if err != nil || len(raw) != 8+32 {
		return ErrNotSeen
	}
	until := time.Unix(int64(binary.BigEndian.Uint64(raw)), 0)
	want, err := s.token(ctx, tx, merchantID, p, until)
	if err != nil {
		return err
	}
	if !hmac.Equal([]byte(want), []byte(confirm)) || !until.After(dry.Now) {
		return ErrNotSeen
	}
	return nil
}

// seenFor is for how long a preview may be acted upon.
const seenFor = time.Hour

// token says that somebody has seen the preview of a policy.
func (s *Service) token(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, p Policy, until time.Time) (string, error) {
	hash, err := s.config.Hash(ctx, tx, merchantID)
	if err != nil {
		return "", fmt.Errorf("open the merchant's salt: %w", err)
	}
	p.Mode = Enforce
	body, err := p.JSON()
	if err != nil {
		return "", fmt.Errorf("marshal policy: %w", err)
	}
	at := binary.BigEndian.AppendUint64(nil, uint64(until.Unix()))
	return base64.RawURLEncoding.EncodeToString(append(at, hash("shield_preview", string(at)+string(body))...)), nil
}

// Preview is who would be lowered if a policy were enforced today.
type Preview struct {
	Token     string           `json:"token"` // for Shield-Confirm, for an hour
	Customers int              `json:"customers"`
	MRR       Revenue          `json:"mrr"`
	Lowered   []LoweredPreview `json:"lowered"` // the first 1,000, those who bring in most first
}

// LoweredPreview is a customer who would be lowered.
type LoweredPreview struct {
	Customer string  `json:"customer"`
	From     Level   `json:"from"`
	To       Level   `json:"to"`
	MRR      Revenue `json:"mrr"`
}

const mostPreviewed = 1000

// Preview says where a policy would lead everybody, step by step, from what they have now.
func (s *Service) Preview(ctx context.Context, merchantID uuid.UUID, draft Policy) (preview Preview, err error) {
	preview = Preview{MRR: Revenue{}, Lowered: []LoweredPreview{}}
	var now time.Time
	err = db.InSnapshot(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		var b bench
		if err := b.prepare(ctx, queries, merchantID, nil); err != nil {
			return err
		}
		enforced := b.policy
		b.policy = draft
		var customer []db.ShieldState
		page := db.ShieldPreviewPageParams{MerchantID: merchantID, Page: 1000}
		for {
			rows, err := queries.ShieldPreviewPage(ctx, page)
			if err != nil {
				return fmt.Errorf("list levels: %w", err)
			}
			if err := b.hear(ctx, queries, merchantID, slices.Concat(customer, rows)); err != nil {
				return err
			}
			for _, row := range rows {
				if len(customer) > 0 && customer[0].Customer != row.Customer {
					if err := preview.add(&b, enforced, customer); err != nil {
						return err
					}
					customer = customer[:0]
				}
				customer = append(customer, row)
			}
			if len(rows) < int(page.Page) {
				break
			}
			last := rows[len(rows)-1]
			page.AfterCustomer, page.AfterSubscription = last.Customer, last.Subscription
		}
		if len(customer) > 0 {
			if err := preview.add(&b, enforced, customer); err != nil {
				return err
			}
		}
		now = b.context.Now
		return nil
	})
	if err != nil {
		return Preview{}, err
	}
	// Beside the snapshot, which writes nothing: the salt may have to be made.
	if preview.Token, err = s.token(ctx, s.pool, merchantID, draft, now.Add(seenFor)); err != nil {
		return Preview{}, err
	}
	slices.SortStableFunc(preview.Lowered, func(a, b LoweredPreview) int { return int(sum(b.MRR) - sum(a.MRR)) })
	if len(preview.Lowered) > mostPreviewed {
		preview.Lowered = preview.Lowered[:mostPreviewed]
	}
	return preview, nil
}

// sum orders by size alone: currencies are never added to be shown.
func sum(r Revenue) (n int64) {
	for _, amount := range r {
		n += amount
	}
	return n
}

// add compares what a customer has with where the draft leads them.
func (p *Preview) add(b *bench, enforced Policy, rows []db.ShieldState) error {
	var now, then []Known
	revenue := Revenue{}
	for _, row := range rows {
		var facts Facts
		if err := json.Unmarshal(row.Facts, &facts); err != nil {
			return fmt.Errorf("read the facts of a subscription: %w", err)
		}
		was := stateOf(row)
		if enforced.Mode != Enforce { // everybody has full access
			was = State{Level: Full, DebtEndedAt: was.DebtEndedAt, Reached: was.Reached}
		}
		sub := facts.judged(b.policy, was, slices.Contains(b.heldOut, row.Subscription))
		j := Judge(b.policy, sub, b.standing(row), was, b.context.Now)
		known := RowOf(row, facts).Known()
		known.Level = was.Level
		now = append(now, known)
		known.Level, known.Reason = j.Target, j.Reason
		then = append(then, known)
		if facts.Monthly > 0 && facts.Service != Ended {
			revenue[facts.Currency] += facts.Monthly
		}
	}
	from, to := chosen(enforced, thatCount(now)).Level, chosen(b.policy, thatCount(then)).Level
	if !to.Below(from) {
		return nil
	}
	p.Customers++
	for currency, amount := range revenue {
		p.MRR[currency] += amount
	}
	p.Lowered = append(p.Lowered, LoweredPreview{rows[0].Customer, from, to, revenue})
	return nil
}

// Simulation is what a policy would have done over the history that is known.
type Simulation struct {
	Debts  int64                     `json:"debts"` // that began and ended, or go on
	Paid   int64                     `json:"paid"`
	Levels map[Level]SimulationLevel `json:"levels"`
}

// SimulationLevel is what would have come of a level.
type SimulationLevel struct {
	Reached int64 `json:"reached"` // debts that would have led there
	Paid    int64 `json:"paid"`    // of these, the ones that were paid afterwards
	Days    int64 `json:"days"`    // spent there, all together
}

// Simulate leads every debt that is known along a policy, as if it had always been enforced. What
// the customer would have done because of it nobody knows: they do what they did.
func (s *Service) Simulate(ctx context.Context, merchantID uuid.UUID, draft Policy) (Simulation, error) {
	result := Simulation{Levels: map[Level]SimulationLevel{}}
	for _, level := range Levels[1:] {
		result.Levels[level] = SimulationLevel{}
	}
	err := db.InSnapshot(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		var b bench
		if err := b.prepare(ctx, queries, merchantID, nil); err != nil {
			return err
		}
		page := db.ShieldHistoryParams{MerchantID: merchantID, Page: 1000}
		for {
			rows, err := queries.ShieldHistory(ctx, page)
			if err != nil {
				return fmt.Errorf("list debts: %w", err)
			}
			for _, row := range rows {
				result.add(draft, row, b.zone, b.context.Now)
			}
			if len(rows) < int(page.Page) {
				return nil
			}
			page.After = rows[len(rows)-1].ID
		}
	})
	return result, err
}

// add leads one debt along a policy.
func (s *Simulation) add(p Policy, row db.ShieldHistoryRow, where *time.Location, now time.Time) {
	began := row.DiscoveredAt
	if row.FirstFailedAt != nil {
		began = *row.FirstFailedAt
	}
	end := now
	if row.ClosedAt != nil {
		end = *row.ClosedAt
	}
	paid := row.ClosedReason != nil && *row.ClosedReason == debt.Paid
	s.Debts++
	if paid {
		s.Paid++
	}
	p.EffectiveFrom = Moment{}
	sub := Subscription{Products: row.Products, Prices: row.Prices, Debt: &Debt{Kind: row.Kind, Amount: row.Amount, Currency: row.Currency, Since: began}}
	j, at := Judgement{}, began
	for range mostMoments {
		j = Judge(p, sub, Standing{Zone: where}, j.State, at)
		until := end
		if !j.NextAt.IsZero() && j.NextAt.Before(end) {
			until = j.NextAt
		}
		if j.Level != Full && until.After(at) {
			l := s.Levels[j.Level]
			l.Days += int64(until.Sub(at) / (24 * time.Hour))
			if j.Since.Equal(at) {
				l.Reached++
				if paid {
					l.Paid++
				}
			}
			s.Levels[j.Level] = l
		}
		if !until.Before(end) {
			return
		}
		at = until
	}
}
