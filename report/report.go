// Package report tells a merchant what their audit found, on one page that they can print and pass
// on.
//
// [Load] reads all figures in one snapshot of the database, and [Report.WriteHTML] writes the page:
// one file without scripts, links or anything else from outside. It holds customers' addresses, so
// it belongs to its merchant alone.
package report

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/debt"
	"phantom/decline"
	"phantom/figures"
	"phantom/ghost"
	"phantom/money"
	"phantom/oracle"
	"phantom/recovery"
	"phantom/state"
)

// ErrUnknownAccount is returned for an account that was never connected.
var ErrUnknownAccount = errors.New("unknown account")

// largest is how many ghosts the report names.
const largest = 20

// Report is what is known of a merchant's ghosts at one moment. Amounts are in minor units; times
// are UTC.
type Report struct {
	merchant       uuid.UUID
	Account        string
	Livemode       bool
	DisconnectedAt *time.Time
	GeneratedAt    time.Time
	Audit          *Audit // nil: none has finished yet
	// of a newer audit than Audit, that runs or has failed; "" if there is none
	Notice         string
	Customers      int64 // who owe, each counted once
	Hidden         int64 // customers with a hidden ghost, each counted once
	Ghosts, Proven int64
	Currencies     []Currency // the one with the most ghosts first
	Ages, Classes  []Group
	Days           int64   // since each ghost's first failed payment, added up
	HiddenDays     int64   // of these, those of hidden ghosts
	Apart          []Apart // debts of other kinds, which are in no other figure
	// of what is owed, that of customers who have subscribed anew to the same product
	Resubscribed []Sum
	Closed       []Closed
	Largest      []Ghost          // in the order of Currencies, the largest first
	Recovery     *figures.Figures // nil: there has been no hunt
	// nil: the playbook recovers or is off, or the merchant chooses by hand
	Would *Would
	// when charges of the merchant's customers succeed; nil: no night has made a model yet
	Moments *oracle.Picture
	// nil: there is no policy about access, or it is off
	Access *db.ReportAccessRow
}

// Audit is the audit that the figures come from.
type Audit struct {
	FinishedAt time.Time
	Since      *time.Time // it left out what was created before
	Objects    int64
	Failed     string // why a part of the history is missing; "" if none is
	Wasted     int64  // attempts that could never have succeeded
	Fees       []Sum  // that they risked
}

// Currency is what is owed in one currency.
type Currency struct {
	Code              string // usd
	Owed, HiddenOwed  int64  // HiddenOwed is a part of Owed
	AtRisk            int64  // unpaid but under way, when the audit looked; no part of Owed
	Ghosts, Customers int64
	HiddenCustomers   int64
}

// Group is the ghosts that have something in common.
type Group struct {
	Name, Advice string
	Ghosts       int64
	Owed         []Sum // in the order of the report's currencies
}

// Apart is the debts of one kind in one currency.
type Apart struct {
	Words             string // written off
	Owed              Sum
	Ghosts, Customers int64
}

// kindWords are the kinds of debts that are told apart.
var kindWords = map[debt.Kind]string{debt.WrittenOff: "written off", debt.ChargedBack: "charged back"}

func (r *Report) addApart(rows []db.ReportApartRow) {
	for _, row := range rows {
		if words, is := kindWords[row.Kind]; is {
			r.Apart = append(r.Apart, Apart{words, Sum{row.Owed, row.Currency}, row.Ghosts, row.Customers})
		} else if row.ResubscribedOwed > 0 {
			r.Resubscribed = append(r.Resubscribed, Sum{row.ResubscribedOwed, row.Currency})
		}
	}
}

// Sum is an amount of one currency.
type Sum struct {
	Amount   int64
	Currency string
}

func (s Sum) String() string { return money.Format(s.Amount, s.Currency) }

// Closed counts the ghosts that ended for one reason.
type Closed struct {
	Reason string
	Ghosts int64
}

// Ghost is one line of the table of the largest.
type Ghost struct {
	Customer, Subscription, Email, Rule string
	Owed                                Sum
	Hidden, Proven                      bool
	Since                               *time.Time
	Why, Code                           string
	Attempts                            int32
}

// Would is what hunts would begin for by themselves if the playbook recovered.
type Would struct {
	Ghosts int64
	Owed   []Sum // in the order of the report's currencies
}

// Load reads the report of an account, acct_…, in one snapshot. Its error may be
// [ErrUnknownAccount].
func Load(ctx context.Context, pool *pgxpool.Pool, account string) (*Report, error) {
	var r *Report
	err := db.InSnapshot(ctx, pool, func(tx pgx.Tx) (err error) {
		r, err = load(ctx, tx, account)
		return err
	})
	if err != nil {
		return nil, err
	}
	// what nights have made is no part of the snapshot: it does not change within one
	picture, err := oracle.New(pool).Heatmap(ctx, r.merchant, decline.Timed, "")
	if err != nil {
		return nil, err
	}
	if picture.Version > 0 {
		r.Moments = &picture
	}
	return r, nil
}

func load(ctx context.Context, tx pgx.Tx, account string) (*Report, error) {
	queries := db.New(tx)
	merchant, err := queries.ReportMerchant(ctx, account)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrUnknownAccount
	}
	if err != nil {
		return nil, fmt.Errorf("read merchant: %w", err)
	}
	r := &Report{merchant: merchant.ID, Account: account, Livemode: merchant.Livemode, GeneratedAt: merchant.GeneratedAt.UTC(), DisconnectedAt: utc(merchant.DisconnectedAt)}
	atRisk, err := r.loadAudit(ctx, queries, merchant.ID)
	if err != nil {
		return nil, err
	}
	apart, err := queries.ReportApart(ctx, merchant.ID)
	if err != nil {
		return nil, fmt.Errorf("read the other kinds: %w", err)
	}
	r.addApart(apart)
	cells, err := queries.ReportCells(ctx, merchant.ID)
	if err != nil {
		return nil, fmt.Errorf("sum up ghosts: %w", err)
	}
	customers, err := queries.ReportCustomers(ctx, merchant.ID)
	if err != nil {
		return nil, fmt.Errorf("count customers: %w", err)
	}
	r.addUp(cells, customers, atRisk)
	closed, err := queries.ReportClosed(ctx, merchant.ID)
	if err != nil {
		return nil, fmt.Errorf("count closed ghosts: %w", err)
	}
	for _, c := range closed {
		r.Closed = append(r.Closed, Closed{cmp.Or(closedReasons[debt.Closing(c.Reason)], c.Reason), c.Ghosts})
	}
	rows, err := queries.ReportLargest(ctx, db.ReportLargestParams{MerchantID: merchant.ID, Places: largest})
	if err != nil {
		return nil, fmt.Errorf("list the largest ghosts: %w", err)
	}
	r.addLargest(rows)
	figures, err := figures.Read(ctx, queries, merchant.ID)
	if err != nil {
		return nil, err
	}
	if figures.Any() {
		r.Recovery = &figures
	}
	auto, err := recovery.ReadAuto(ctx, tx, merchant.ID)
	if err != nil {
		return nil, err
	}
	if auto != nil && auto.Ghosts > 0 {
		r.Would = &Would{Ghosts: int64(auto.Ghosts)}
		for _, code := range r.order(maps.Keys(auto.Amounts)) {
			r.Would.Owed = append(r.Would.Owed, Sum{auto.Amounts[code], code})
		}
	}
	access, err := queries.ReportAccess(ctx, merchant.ID)
	if err != nil {
		return nil, fmt.Errorf("count who may keep access: %w", err)
	}
	if access.Mode != "off" {
		r.Access = &access
	}
	return r, nil
}

// loadAudit reads the newest audit that came to a result, and what it found that no ghost's row
// says: the money at risk, by currency.
func (r *Report) loadAudit(ctx context.Context, queries *db.Queries, merchant uuid.UUID) (atRisk map[string]int64, err error) {
	newest, err := queries.ReportNewestAudit(ctx, merchant)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the newest audit: %w", err)
	}
	row, err := queries.ReportAudit(ctx, merchant)
	none := errors.Is(err, pgx.ErrNoRows)
	if err != nil && !none {
		return nil, fmt.Errorf("read audit: %w", err)
	}
	if newest.ID != row.ID { // a failed one with a result says so itself
		r.Notice = fmt.Sprintf("An audit that began on %s is still running: the figures will change.", day(newest.CreatedAt))
		if newest.State == state.AuditFailed {
			r.Notice = fmt.Sprintf("The latest audit, of %s, failed: %s.", day(newest.CreatedAt), said(newest.Error))
		}
	}
	if none {
		return nil, nil
	}
	var totals struct { // ghost writes it, at an audit's end
		Currencies map[string]struct {
			AtRisk int64 `json:"at_risk"`
		} `json:"currencies"`
		WastedAttempts int64            `json:"wasted_attempts"`
		FeesRisked     map[string]int64 `json:"fees_risked"`
	}
	if err := json.Unmarshal(row.Totals, &totals); err != nil {
		return nil, fmt.Errorf("read totals of audit %s: %w", row.ID, err)
	}
	r.Audit = &Audit{FinishedAt: row.FinishedAt.UTC(), Since: utc(row.Since), Objects: row.Objects, Failed: said(row.Error), Wasted: totals.WastedAttempts}
	for _, currency := range slices.Sorted(maps.Keys(totals.FeesRisked)) {
		r.Audit.Fees = append(r.Audit.Fees, Sum{totals.FeesRisked[currency], currency})
	}
	atRisk = make(map[string]int64)
	for currency, found := range totals.Currencies {
		atRisk[currency] = found.AtRisk
	}
	return atRisk, nil
}

// addUp makes every total from the same cells, so that they agree with each other.
func (r *Report) addUp(cells []db.ReportCellsRow, customers []db.ReportCustomersRow, atRisk map[string]int64) {
	currencies := make(map[string]*Currency)
	of := func(code string) *Currency {
		if currencies[code] == nil {
			currencies[code] = &Currency{Code: code}
		}
		return currencies[code]
	}
	for _, cell := range cells {
		c := of(cell.Currency)
		c.Owed += cell.Owed
		c.Ghosts += cell.Ghosts
		r.Ghosts += cell.Ghosts
		r.Proven += cell.Proven
		r.Days += cell.Days
		if cell.Hidden {
			c.HiddenOwed += cell.Owed
			r.HiddenDays += cell.Days
		}
	}
	for _, row := range customers {
		if row.Currency == "" {
			r.Customers, r.Hidden = row.Customers, row.Hidden
			continue
		}
		of(row.Currency).Customers, of(row.Currency).HiddenCustomers = row.Customers, row.Hidden
	}
	for code, amount := range atRisk {
		if amount > 0 {
			of(code).AtRisk = amount
		}
	}
	for _, code := range slices.Sorted(maps.Keys(currencies)) {
		r.Currencies = append(r.Currencies, *currencies[code])
	}
	slices.SortStableFunc(r.Currencies, func(a, b Currency) int { return cmp.Compare(b.Ghosts, a.Ghosts) })
	for i, name := range ages {
		r.Ages = append(r.Ages, r.group(name, "", cells, func(cell db.ReportCellsRow) bool { return int(cell.Bucket) == i }))
	}
	for _, class := range classes {
		r.Classes = append(r.Classes, r.group(class.name, class.advice, cells, func(cell db.ReportCellsRow) bool { return cell.DeclineClass == class.code }))
	}
}

func (r *Report) group(name, advice string, cells []db.ReportCellsRow, in func(db.ReportCellsRow) bool) Group {
	g := Group{Name: name, Advice: advice}
	owed := make(map[string]int64)
	for _, cell := range cells {
		if in(cell) {
			g.Ghosts += cell.Ghosts
			owed[cell.Currency] += cell.Owed
		}
	}
	for _, c := range r.Currencies {
		if owed[c.Code] > 0 {
			g.Owed = append(g.Owed, Sum{owed[c.Code], c.Code})
		}
	}
	return g
}

func (r *Report) addLargest(rows []db.ReportLargestRow) {
	for _, row := range rows {
		g := Ghost{
			Customer: row.StripeCustomerID, Subscription: row.StripeSubscriptionID, Email: ghost.Email(row.ID, row.Email), Rule: row.Rule.Words(),
			Owed: Sum{row.Amount, row.Currency}, Hidden: row.Hidden, Proven: row.Access == "proven", Since: utc(row.FirstFailedAt),
			Code: codeName(said(row.DeclineCode)), Attempts: row.AttemptCount,
		}
		for _, class := range classes {
			if class.code == row.DeclineClass {
				g.Why = class.name
			}
		}
		r.Largest = append(r.Largest, g)
	}
	slices.SortStableFunc(r.Largest, func(a, b Ghost) int {
		at := func(g Ghost) int {
			return slices.IndexFunc(r.Currencies, func(c Currency) bool { return c.Code == g.Owed.Currency })
		}
		return cmp.Or(cmp.Compare(at(a), at(b)), cmp.Compare(b.Owed.Amount, a.Owed.Amount))
	})
}

// codeName tells a network's bare number for what it is.
func codeName(code string) string {
	if len(code) > 0 && len(code) <= 3 {
		return "code " + code
	}
	return code
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	moved := t.UTC()
	return &moved
}

func said(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
