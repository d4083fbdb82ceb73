package oracle

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/connect"
	"phantom/db"
	"phantom/db/dbtest"
	"phantom/decline"
	"phantom/internal/stage"
	"phantom/oracle/model"
	"phantom/oracle/worlds"
)

// shops are a world's merchants as the database has them, with what each has charged.
type shops struct {
	*bench
	merchants map[string]db.Merchant
	charges   map[string][]model.Charge
}

// played connects the merchants of a small world, with the charges as an audit sees them: what
// a customer paid of their own accord looks like any other charge.
func played(t *testing.T, merchants, customers int) *shops {
	t.Helper()
	s := &shops{newBench(dbtest.Pool(t)), make(map[string]db.Merchant), make(map[string][]model.Charge)}
	for _, c := range worlds.History(worlds.Agents(5, worlds.Size{Merchants: merchants, Customers: customers})[0]) {
		if _, known := s.merchants[c.Merchant]; !known {
			s.merchants[c.Merchant] = oracleMerchant(t, s.bench, fmt.Sprint("acct_", len(s.merchants)), c.Category, true)
		}
		name := c.Merchant
		c.Alone, c.Merchant, c.Funding = false, s.merchants[name].ID.String(), model.Word(c.Funding)
		s.charges[name] = append(s.charges[name], c)
	}
	return s
}

var names = map[model.Class]decline.Class{model.Timed: decline.Timed, model.Low: decline.Low, model.Soon: decline.Soon, model.Unknown: decline.Unknown}

func filled[T comparable](v T) *T {
	var none T
	if v == none {
		return nil
	}
	return &v
}

// at moves PHANTOM's clock.
func (s *shops) at(t *testing.T, moment string) {
	t.Helper()
	stage.On(t, s.pool).Exec("CREATE OR REPLACE FUNCTION phantom_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE RETURN " + moment)
}

// audited has an audit see a merchant's charges, and gathers from it.
func (s *shops) audited(t *testing.T, name string) {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	var rows []db.AuditAddChargesParams
	for _, c := range s.charges[name] {
		row := db.AuditAddChargesParams{
			MerchantID: s.merchants[name].ID, AuditID: id, Sequence: c.Invoice, CreatedAt: c.At, Outcome: "succeeded", Brand: filled(c.Brand),
			Customer: &c.Customer, Amount: &c.Amount, Currency: new("usd"), Funding: &c.Funding,
		}
		if c.Decimals == 0 {
			row.Currency = new("jpy")
		}
		if !c.OK {
			class := names[c.Class]
			row.Outcome, row.DeclineClass, row.DeclineCode = "failed", &class, &c.Code
			row.Country, row.Zone = filled(c.Country), new(c.Zone.String())
		}
		rows = append(rows, row)
	}
	if _, err := s.queries.AuditAddCharges(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	if err := Gather(t.Context(), s.pool, s.merchants[name], id, worlds.Play, hashOf); err != nil {
		t.Fatal(err)
	}
}

// leave disconnects a merchant.
func (s *shops) leave(t *testing.T, name string) {
	t.Helper()
	service := connect.New(connect.Config{}, s.pool)
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.Disconnect(t.Context(), tx, s.merchants[name].StripeUserID, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (s *shops) rebuilt(t *testing.T) string {
	t.Helper()
	b, err := Rebuild(t.Context(), s.pool, true)
	if err != nil {
		t.Fatal(err)
	}
	row, err := s.queries.OracleReadModel(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if b.Version != row.Version {
		t.Errorf("it says that it made model %d, and %d is stored", b.Version, row.Version)
	}
	return string(row.Coefficients)
}

// What audits leave in the tables makes the model that the charges themselves make in memory.
func TestAuditsMakeTheModelOfTheirCharges(t *testing.T) {
	t.Parallel()
	s := played(t, 8, 9)
	s.at(t, "timestamptz '"+worlds.Play.Format(time.RFC3339)+"'")
	ledger := model.NewLedger()
	for name := range s.charges {
		s.audited(t, name)
		for _, c := range s.charges[name] {
			ledger.Tell(c)
		}
	}
	ledger.Rebuild(worlds.Play)
	want, err := ledger.Model().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	got := s.rebuilt(t)
	if len(got) < 5000 {
		t.Errorf("a model of %d bytes", len(got))
	}
	if got != string(want) {
		t.Error("the tables make another model")
	}
	for name := range s.charges {
		s.audited(t, name) // again
	}
	if again := s.rebuilt(t); again != got {
		t.Error("an audit that is repeated makes another model")
	}
	m, k, err := New(s.pool).Model(t.Context(), true)
	if err != nil || k.Version != 2 || !k.Shared() {
		t.Fatalf("%+v, %v", k, err)
	}
	if text, _ := m.MarshalBinary(); string(text) != got {
		t.Error("the newest model is read as another")
	}
}

// Of who has left, tables, the next model and older ones have no trace.
func TestWhoLeavesLeavesNoTrace(t *testing.T) {
	t.Parallel()
	s := played(t, 8, 9)
	s.at(t, "timestamptz '"+worlds.Play.Format(time.RFC3339)+"'")
	leaves := ""
	for name := range s.charges {
		if leaves == "" {
			leaves = name
			continue
		}
		s.audited(t, name)
	}
	without := s.rebuilt(t)
	s.audited(t, leaves)
	if with := s.rebuilt(t); with == without || !strings.Contains(with, s.merchants[leaves].ID.String()) {
		t.Fatal("the merchant has told nothing")
	}
	s.leave(t, leaves)
	if n := dbtest.Count(t, s.pool, "SELECT count(*) FROM oracle_model"); n != 0 {
		t.Errorf("%d models with a trace are left", n)
	}
	if n := dbtest.Count(t, s.pool, "SELECT (SELECT count(*) FROM oracle_cells WHERE merchant_id = '"+s.merchants[leaves].ID.String()+"')"+
		" + (SELECT count(*) FROM oracle_paydays WHERE merchant_id = '"+s.merchants[leaves].ID.String()+"')"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	if after := s.rebuilt(t); after != without {
		t.Error("the next model is not as if they had never been there")
	}
}

// Who leaves while their audit ends, or while a model is made, leaves no trace either.
func TestWhoLeavesMeanwhile(t *testing.T) {
	t.Parallel()
	s := played(t, 8, 9)
	leaves := ""
	for name := range s.charges {
		s.audited(t, name)
		leaves = name
	}
	s.leave(t, leaves)
	s.audited(t, leaves)
	if n := dbtest.Count(t, s.pool, "SELECT count(*) FROM oracle_cells WHERE merchant_id = '"+s.merchants[leaves].ID.String()+"'"); n != 0 {
		t.Errorf("an audit that ends later leaves %d cells", n)
	}
	b := Built{told: []uuid.UUID{s.merchants[leaves].ID}} // was read before they left
	if err := b.store(t.Context(), s.pool, true, []byte("x")); !errors.Is(err, errLeft) {
		t.Errorf("a model of who has left is stored: %v", err)
	}
}

// What comes after a hard decline is neither counted nor remembered.
func TestHardDeclinesTellNothing(t *testing.T) {
	t.Parallel()
	s := newBench(dbtest.Pool(t))
	merchant := oracleMerchant(t, s, "acct_1", "media", true)
	id, at := uuid.Must(uuid.NewV7()), worlds.Start
	var rows []db.AuditAddChargesParams
	add := func(customer, sequence string, class decline.Class) {
		at = at.Add(24 * time.Hour)
		row := db.AuditAddChargesParams{MerchantID: merchant.ID, AuditID: id, Sequence: sequence, CreatedAt: at, Outcome: "succeeded", Customer: &customer}
		if class != "" {
			row.Outcome, row.DeclineClass = "failed", &class
		}
		rows = append(rows, row)
	}
	for i := range 6 { // six customers, who would say when they are paid
		customer := fmt.Sprint("cus_", i)
		for n := range 4 {
			sequence := fmt.Sprint("in_", i, n)
			add(customer, sequence, decline.Never)
			add(customer, sequence, "")
			add(customer, sequence+"x", decline.Customer)
			add(customer, sequence+"x", decline.Timed)
		}
	}
	if _, err := s.queries.AuditAddCharges(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	if err := Gather(t.Context(), s.pool, merchant, id, worlds.Play, hashOf); err != nil {
		t.Fatal(err)
	}
	if n := dbtest.Count(t, s.pool, "SELECT (SELECT count(*) FROM oracle_cells) + (SELECT count(*) FROM oracle_paydays)"); n != 0 {
		t.Errorf("%d rows tell of what came after hard declines", n)
	}
}

// What many merchants stand behind shows in the heatmap, and what few do shows as such.
func TestHeatmap(t *testing.T) {
	t.Parallel()
	s := played(t, 12, 30)
	service, one := New(s.pool), ""
	for name := range s.charges {
		one = name
		break
	}
	known := func() (n int) {
		t.Helper()
		p, err := service.Heatmap(t.Context(), s.merchants[one].ID, decline.Timed, "US")
		if err != nil {
			t.Fatal(err)
		}
		for _, hours := range p.Hours {
			for _, shade := range hours {
				if shade.Known {
					n++
				}
			}
		}
		return n
	}
	if n := known(); n != 0 {
		t.Errorf("%d hours are known without a model", n)
	}
	s.audited(t, one)
	s.rebuilt(t)
	if n := known(); n != 0 {
		t.Errorf("%d hours are known of one merchant's charges", n)
	}
	for name := range s.charges {
		s.audited(t, name)
	}
	s.rebuilt(t)
	if n := known(); n < 24 {
		t.Errorf("%d hours are known of the charges of %d merchants", n, len(s.charges))
	}
}

// A night's work is due once a day, where there is something to learn from.
func TestNightly(t *testing.T) {
	t.Parallel()
	s := played(t, 8, 9)
	log := &stage.Log{}
	models := func(want int64) {
		t.Helper()
		for _, livemode := range []bool{true, false} {
			if err := nightly(t.Context(), s.pool, livemode, log.Logger()); err != nil {
				t.Fatal(err)
			}
		}
		if n := dbtest.Count(t, s.pool, "SELECT count(*) FROM oracle_model"); n != want {
			t.Errorf("%d models, want %d", n, want)
		}
	}
	models(0)
	for name := range s.charges {
		s.audited(t, name)
		break
	}
	models(1)
	models(1)
	clock := stage.On(t, s.pool)
	s.at(t, "now() + interval '25 hours'")
	models(2)
	s.at(t, "now() + interval '40 days'")
	models(1) // 30 nights are kept
	clock.Exec("UPDATE oracle_cells SET cell = 'spoilt ' || md5(cell)")
	if b, err := Rebuild(t.Context(), s.pool, true); err != nil || b.Spoilt == 0 || b.Cells != 0 {
		t.Errorf("%+v, %v", b, err)
	}
	clock.Exec("UPDATE oracle_model SET coefficients = 'spoilt'")
	service := New(s.pool)
	for range 2 { // the second time from memory
		if _, k, err := service.Model(t.Context(), true); err != nil || k != (Knowledge{Spoilt: true}) {
			t.Errorf("a model that cannot be read says %+v, %v", k, err)
		}
	}
}
