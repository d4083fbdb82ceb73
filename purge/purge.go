// Package purge forgets: 90 days after its discovery a ghost goes, with every copy of what
// identifies its customer. docs/retention.md says what is kept and for how long.
package purge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
)

const (
	mostGhosts    = 500    // ghosts of one transaction
	chunkOfGhosts = 50_000 // ghosts for which a merchant's tasks are looked through once
	mostRows      = 5_000  // rows of one statement where nothing else hangs on them

	keptVersions = 100 // of a playbook, beside those that hunts refer to
	keptAudits   = 100 // that have ended, beside the newest of each way to end
	mostAudits   = 20  // of one statement, with all their windows
)

// Service purges. It is safe for concurrent use.
type Service struct {
	pool    *pgxpool.Pool
	queries *db.Queries
	connect *connect.Service
	log     *slog.Logger

	// Hunts, if not nil, ends the hunts of ghosts that are about to go. It is set before the
	// service is used.
	Hunts Hunts
	// Forget are what others forget of a merchant with each daily purge.
	Forget []func(ctx context.Context, merchantID uuid.UUID) error

	batch int // ghosts of one transaction
}

// Hunts is told, before the purge touches anything, which ghosts are about to go.
type Hunts interface {
	GhostsExpire(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, ghosts []uuid.UUID) error
}

// New returns a Service over pool. What it keeps it hashes under the merchants' salts, which
// connect opens.
func New(pool *pgxpool.Pool, connect *connect.Service, log *slog.Logger) *Service {
	return &Service{pool: pool, queries: db.New(pool), connect: connect, log: log, batch: mostGhosts}
}

// Purged says what a purge did.
type Purged struct {
	Ghosts int64 // rows of ghost_targets that are gone; in a dry run, that are old enough to go
	Left   int64 // ghosts that are old enough and stay until the next purge
	Tasks  int64 // tasks that named them
	Events int64 // events that named them or are over 90 days old
	Facts  int64 // what audits had read that do not run any more

	Records int64 // versions of playbooks, and audits, beyond those that are kept
}

// Purge removes the ghosts that were discovered 90 days ago or earlier, of every merchant, and
// every copy of what identifies them. What it leaves is attempt_budgets. It works in short
// transactions while servers run: ended at any point, it goes on from there when called again, and
// several at once share the work. Ghosts that a running task names, or one whose key at Stripe is
// under 20 hours old, stay until the next purge. A merchant that cannot be purged does not keep the
// others from it.
//
// A dry run only counts. Progress, if not nil, is called with the ghosts purged and those found at
// the start.
func (s *Service) Purge(ctx context.Context, dryRun bool, progress func(done, total int64)) (Purged, error) {
	merchants, err := s.queries.PurgeListMerchants(ctx)
	if err != nil {
		return Purged{}, fmt.Errorf("list merchants: %w", err)
	}
	return s.purge(ctx, merchants, dryRun, progress)
}

// purge is one call of Purge. Its cutoff stands still, so that it ends.
type purge struct {
	service  *Service
	cutoff   time.Time
	total    int64
	result   Purged
	progress func(done, total int64)
}

// errBusy says that another process purges the merchant.
var errBusy = errors.New("another process purges this merchant")

func (s *Service) purge(ctx context.Context, merchants []uuid.UUID, dryRun bool, progress func(done, total int64)) (Purged, error) {
	cutoff, err := s.queries.PurgeCutoff(ctx)
	if err != nil {
		return Purged{}, fmt.Errorf("read clock: %w", err)
	}
	expired := db.PurgeCountGhostsParams{Cutoff: cutoff, MerchantIds: merchants}
	total, err := s.queries.PurgeCountGhosts(ctx, expired)
	if err != nil {
		return Purged{}, fmt.Errorf("count ghosts: %w", err)
	}
	if dryRun {
		return Purged{Ghosts: total}, nil
	}
	p := &purge{service: s, cutoff: cutoff, total: total, progress: progress}
	var failures []error
	var busy []uuid.UUID
	for _, merchant := range merchants {
		if err := p.merchant(ctx, merchant, false); errors.Is(err, errBusy) {
			busy = append(busy, merchant)
		} else if err != nil {
			failures = append(failures, err)
		}
	}
	for _, merchant := range busy {
		if err := p.merchant(ctx, merchant, true); err != nil {
			failures = append(failures, err)
		}
	}
	if ctx.Err() != nil {
		return p.result, context.Cause(ctx) // the same for every merchant
	}
	if p.result.Left, err = s.queries.PurgeCountGhosts(ctx, expired); err != nil {
		failures = append(failures, fmt.Errorf("count ghosts: %w", err))
	}
	return p.result, errors.Join(failures...)
}

// merchant purges one merchant. If another process does it and wait is not set, it fails with
// errBusy.
func (p *purge) merchant(ctx context.Context, merchant uuid.UUID, wait bool) error {
	if err := p.old(ctx, merchant); err != nil {
		return fmt.Errorf("purge merchant %s: %w", merchant, err)
	}
	var hash func(subject, value string) []byte
	var last db.PurgeListGhostsRow
	for {
		chunk, err := p.service.queries.PurgeListGhosts(ctx, db.PurgeListGhostsParams{
			MerchantID: merchant, Cutoff: p.cutoff, AfterAt: last.DiscoveredAt, AfterID: last.ID, Batch: chunkOfGhosts,
		})
		if err != nil {
			return fmt.Errorf("purge merchant %s: list ghosts: %w", merchant, err)
		}
		if len(chunk) == 0 {
			return nil
		}
		last = chunk[len(chunk)-1]
		if hash == nil {
			if hash, err = p.service.connect.Hasher(ctx, merchant); err != nil {
				return fmt.Errorf("purge merchant %s: %w", merchant, err)
			}
		}
		found, err := p.service.lookThroughTasks(ctx, merchant, chunk)
		if err != nil {
			return fmt.Errorf("purge merchant %s: look through tasks: %w", merchant, err)
		}
		for part := range slices.Chunk(chunk, p.service.batch) {
			b := batch{merchant: merchant, ghosts: part, found: found, hash: hash}
			err := db.InTx(ctx, p.service.pool, func(tx pgx.Tx) error {
				if hunts := p.service.Hunts; hunts != nil {
					// First: the ghosts below are locked without waiting, so this blocks nobody.
					if err := hunts.GhostsExpire(ctx, tx, merchant, ghostIDs(part)); err != nil {
						return err
					}
				}
				gone, err := b.purge(ctx, db.New(tx), p.cutoff, wait)
				if err != nil || len(gone) == 0 {
					return err
				}
				return db.New(tx).HuntForgetInvoices(ctx, db.HuntForgetInvoicesParams{MerchantID: merchant, Ghosts: gone})
			})
			if errors.Is(err, errBusy) {
				return err
			}
			if err != nil {
				return fmt.Errorf("purge merchant %s: %w", merchant, err)
			}
			p.result.Ghosts += b.purged.Ghosts
			p.result.Tasks += b.purged.Tasks
			p.result.Events += b.purged.Events
			if p.progress != nil && b.purged.Ghosts > 0 {
				p.progress(p.result.Ghosts, p.total)
			}
		}
	}
}

func ghostIDs(rows []db.PurgeListGhostsRow) []uuid.UUID {
	ids := make([]uuid.UUID, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return ids
}

// old removes what is over 90 days old, and what no running audit needs, no matter who it is about.
func (p *purge) old(ctx context.Context, merchant uuid.UUID) error {
	q := p.service.queries
	if _, err := q.PurgeStopAudits(ctx, db.PurgeStopAuditsParams{MerchantID: merchant, Cutoff: p.cutoff}); err != nil {
		return fmt.Errorf("stop audits: %w", err)
	}
	if err := q.PurgeAuditCursors(ctx, merchant); err != nil {
		return fmt.Errorf("clear cursors: %w", err)
	}
	if err := q.PurgeAuditErrors(ctx, db.PurgeAuditErrorsParams{MerchantID: merchant, Cutoff: p.cutoff}); err != nil {
		return fmt.Errorf("clear errors: %w", err)
	}
	if err := q.GhostDropEmptyCounts(ctx, merchant); err != nil {
		return fmt.Errorf("drop empty counts: %w", err)
	}
	if err := q.HuntStartDropOld(ctx, db.HuntStartDropOldParams{MerchantID: merchant, Cutoff: p.cutoff}); err != nil {
		return fmt.Errorf("drop old starts of hunts: %w", err)
	}
	for _, table := range p.tables(merchant) {
		for {
			count, err := table.delete(ctx)
			if err != nil {
				return fmt.Errorf("delete old rows: %w", err)
			}
			*table.count += count
			if count < mostRows {
				break
			}
		}
	}
	for {
		count, err := q.PurgeOldAudits(ctx, db.PurgeOldAuditsParams{MerchantID: merchant, Keep: keptAudits, Batch: mostAudits})
		if err != nil {
			return fmt.Errorf("delete old audits: %w", err)
		}
		p.result.Records += count
		if count < mostAudits {
			return nil
		}
	}
}

// table is one whose old rows go, in batches of mostRows.
type table struct {
	count  *int64 // of what went
	delete func(context.Context) (int64, error)
}

// tables are all that hold old rows of a merchant, but for their audits;
// of the log, everybody's go.
func (p *purge) tables(merchant uuid.UUID) []table {
	q := p.service.queries
	var uncounted int64
	return []table{
		{&p.result.Facts, func(ctx context.Context) (int64, error) {
			return q.PurgeAuditSubscriptions(ctx, db.PurgeAuditSubscriptionsParams{MerchantID: merchant, Batch: mostRows})
		}},
		{&p.result.Facts, func(ctx context.Context) (int64, error) {
			return q.PurgeAuditInvoices(ctx, db.PurgeAuditInvoicesParams{MerchantID: merchant, Batch: mostRows})
		}},
		{&p.result.Facts, func(ctx context.Context) (int64, error) {
			return q.PurgeAuditIntents(ctx, db.PurgeAuditIntentsParams{MerchantID: merchant, Batch: mostRows})
		}},
		{&p.result.Facts, func(ctx context.Context) (int64, error) {
			return q.PurgeAuditCharges(ctx, db.PurgeAuditChargesParams{MerchantID: merchant, Batch: mostRows})
		}},
		{&p.result.Facts, func(ctx context.Context) (int64, error) {
			return q.PurgeAuditDisputes(ctx, db.PurgeAuditDisputesParams{MerchantID: merchant, Batch: mostRows})
		}},
		{&p.result.Events, func(ctx context.Context) (int64, error) {
			return q.PurgeOldEvents(ctx, db.PurgeOldEventsParams{MerchantID: merchant, Cutoff: p.cutoff, Batch: mostRows})
		}},
		{&p.result.Records, func(ctx context.Context) (int64, error) {
			return q.PurgeOldPlaybooks(ctx, db.PurgeOldPlaybooksParams{MerchantID: merchant, Keep: keptVersions, Batch: mostRows})
		}},
		{&uncounted, func(ctx context.Context) (int64, error) {
			return q.PurgeOldRefreshes(ctx, db.PurgeOldRefreshesParams{MerchantID: merchant, Cutoff: p.cutoff, Batch: mostRows})
		}},
		// By a cutoff of its own.
		{&uncounted, func(ctx context.Context) (int64, error) {
			return q.AuditLogPurge(ctx, mostRows)
		}},
	}
}
