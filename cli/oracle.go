package cli

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/app"
	"phantom/db"
	"phantom/decline"
	"phantom/money"
	"phantom/oracle"
	"phantom/oracle/model"
	"phantom/oracle/play"
	"phantom/zone"
)

const oracleHelp = `Usage: phantom oracle ACTION

  status         whether it chooses, why, and how well it foretells
  explain HUNT   what it said about a hunt's charges, and what it would choose
  heatmap        when charges succeed: --merchant acct_…, --class, --country
  rebuild        learn at once what workers learn each night: --mode live|test
  play           answer questions line by line, without a database

docs/oracle.md has more.`

// oracleActions are what phantom oracle does, by its first argument.
var oracleActions = map[string]func(context.Context, Call) error{
	"status": oracleStatus, "explain": oracleExplain, "heatmap": oracleHeatmap, "rebuild": oracleRebuild, "play": oraclePlay,
}

// oracleOf is the subcommand: its first argument says what to do.
func oracleOf(ctx context.Context, call Call) error {
	if call.asksForHelp() {
		fmt.Fprintln(call.Stdout, oracleHelp)
		return flag.ErrHelp
	}
	if len(call.Args) == 0 {
		return misuse("%s", "phantom oracle needs an action: phantom oracle -h lists them")
	}
	act, ok := oracleActions[call.Args[0]]
	if !ok {
		return misuse("phantom oracle has no action %.40q: phantom oracle -h lists them", call.Args[0])
	}
	call.Args = call.Args[1:]
	return act(ctx, call)
}

const playHelp = `Usage: phantom oracle play < LINES

It answers questions about when to charge a failed invoice, and needs no database: JSON objects,
one a line, on standard input; one line for each question on standard output. docs/oracle.md
describes the lines: tell, ask, rebuild and forget.

  {"op":"rebuild","now":"2026-11-04T00:00:00Z"}`

// oraclePlay lets an examiner drive the oracle.
func oraclePlay(_ context.Context, call Call) error {
	if call.asksForHelp() {
		fmt.Fprintln(call.Stdout, playHelp)
		return flag.ErrHelp
	}
	if len(call.Args) > 0 {
		return misuse("phantom oracle play takes no argument %.40q: its input is standard input", call.Args[0])
	}
	err := play.Run(call.Stdin, call.Stdout)
	var line *play.LineError
	if errors.As(err, &line) {
		return wrongInput{fmt.Errorf("phantom oracle play: %w", err)}
	}
	return err
}

// modes are those that a flag names: "" is both.
func modes(mode string) ([]bool, error) {
	switch mode {
	case "":
		return []bool{true, false}, nil
	case "live":
		return []bool{true}, nil
	case "test":
		return []bool{false}, nil
	}
	return nil, fmt.Errorf("--mode is live or test, not %.40q", mode)
}

// oracleStatus shows what each mode's model was made of.
func oracleStatus(ctx context.Context, call Call) error {
	if err := call.parse(newFlags("oracle status")); err != nil {
		return err
	}
	a, err := call.open(ctx, app.Needs{Database: true})
	if err != nil {
		return err
	}
	defer a.Close()
	queries, service := db.New(a.Pool), oracle.New(a.Pool)
	for _, livemode := range []bool{true, false} {
		cells, err := queries.OracleCountCells(ctx, livemode)
		if err != nil {
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
		fmt.Fprintf(call.Stdout, "%s: learned from %s charges after a failure, %s of which succeeded, of %s merchants (%s cells)\n", oracle.Mode(livemode),
			money.Count(cells.Attempts), money.Count(cells.Successes), money.Count(cells.Merchants), money.Count(cells.Cells))
		_, k, err := service.Model(ctx, livemode)
		switch {
		case err != nil:
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		case k.Spoilt:
			fmt.Fprintln(call.Stdout, "  its model cannot be read, or is not sound, and counts for nothing: phantom oracle rebuild makes another")
		case k.BuiltAt == nil && cells.Cells == 0:
			fmt.Fprintln(call.Stdout, "  no model yet: an audit of a whole history gives the first cells")
		case k.BuiltAt == nil:
			fmt.Fprintln(call.Stdout, "  no model yet: the workers make one within ten minutes, phantom oracle rebuild at once")
		default:
			fmt.Fprintf(call.Stdout, "  model %d of %s, of %d merchants and %s charges, %s bytes\n", k.Version,
				k.BuiltAt.UTC().Format(time.RFC3339), k.Merchants, money.Count(k.Attempts), money.Count(int64(k.Bytes)))
			if !k.Shared() {
				fmt.Fprintf(call.Stdout, "  fewer than %d merchants share nothing: each has what is widely known, and their own\n", model.Enough)
			}
		}
		if err := oracleStanding(ctx, service, livemode, call.Stdout); err != nil {
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
	}
	return nil
}

// oracleStanding says whether the oracle of a mode chooses, and what speaks for it.
func oracleStanding(ctx context.Context, service *oracle.Service, livemode bool, w io.Writer) error {
	standing, e, err := service.Evidence(ctx, livemode)
	if err != nil {
		return err
	}
	says := map[oracle.State]string{
		oracle.Shadow:   "in shadow: fixed rules choose the moments of charges, and its answers are kept beside theirs",
		oracle.On:       "on: it chooses for nine customers in ten",
		oracle.Fallback: "in fallback: fixed rules choose again",
	}
	since := ""
	if !standing.Since.IsZero() {
		since = " since " + standing.Since.UTC().Format(time.RFC3339)
	}
	if until := standing.Until(); !until.IsZero() {
		since += " until " + until.UTC().Format(time.RFC3339)
	}
	fmt.Fprintf(w, "  %s%s (%s)\n", says[standing.State], since, standing.Why)
	if standing.State == oracle.On && !standing.Plays(e.Knowledge, e.Now) {
		fmt.Fprintln(w, "  but it has no model that may choose: fixed rules do, until there is one")
	}
	if e.Charges == 0 {
		fmt.Fprintln(w, "  no charge that it has spoken about is settled yet")
		return nil
	}
	fmt.Fprintf(w, "  %s charges of %d merchants settled in 90 days", money.Count(int64(e.Charges)), e.Merchants)
	if standing.State == oracle.Shadow {
		fmt.Fprintf(w, " (%s of %d are needed)", money.Count(int64(oracle.LeastCharges)), oracle.LeastMerchants)
	}
	if s := e.Score; s.Charges > 0 {
		fmt.Fprintf(w, "; of the last 28 days %s: log loss %.4f (%.4f by shares of classes), calibration error %.3f",
			money.Count(int64(s.Charges)), s.LogLoss, s.Base, s.ECE)
	}
	fmt.Fprintln(w)
	if standing.State == oracle.On {
		a := e.All
		fmt.Fprintf(w, "  customers who paid, of those whose window is over: %d of %d where it chose, %d of %d where fixed rules did\n",
			a.Oracle.Recovered, a.Oracle.Customers, a.Heuristic.Recovered, a.Heuristic.Customers)
		if r := e.Replay; r.Worth > 0 {
			fmt.Fprintf(w, "  of %s charges at its moments %.0f %% paid; at those of the fixed rules %.0f %% would have, an estimate worth %.0f charges that decides nothing\n",
				money.Count(int64(r.Charges)), 100*r.Paid, 100*r.Rules, r.Worth)
		}
	}
	return nil
}

const explainHelp = `Usage: phantom oracle explain HUNT

It says of each charge of a hunt what the oracle foretold when it was planned, and which moments it
and the fixed rules would choose for the next one now. Nothing follows from it. GET /api/hunts lists
a merchant's hunts with their ids. Needs DATABASE_URL and ENCRYPTION_KEY.`

// oracleExplain says of a hunt what the oracle said about its charges, and what it says now.
func oracleExplain(ctx context.Context, call Call) error {
	if call.asksForHelp() {
		fmt.Fprintln(call.Stdout, explainHelp)
		return flag.ErrHelp
	}
	if len(call.Args) != 1 {
		return misuse("%s", "phantom oracle explain takes one hunt's id, as GET /api/hunts has them")
	}
	hunt, err := uuid.Parse(call.Args[0])
	if err != nil {
		return misuse("phantom oracle explain: %.40q is no hunt's id, as GET /api/hunts has them", call.Args[0])
	}
	a, err := call.open(ctx, app.Needs{Database: true, Key: true})
	if err != nil {
		return err
	}
	defer a.Close()
	merchant, err := db.New(a.Pool).HuntFind(ctx, hunt)
	if errors.Is(err, pgx.ErrNoRows) {
		return misuse("phantom oracle explain: there is no hunt %s in this database: GET /api/hunts lists a merchant's", hunt)
	}
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	s := a.NewServices()
	story, err := s.Hunts.Hunt(ctx, merchant, hunt)
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	advice, err := s.Hunts.Advice(ctx, merchant, hunt)
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	explain(call.Stdout, story, advice)
	return nil
}

// oracleRebuild does a night's work at once.
func oracleRebuild(ctx context.Context, call Call) error {
	flags := newFlags("oracle rebuild")
	mode := flags.String("mode", "", "live or test; both without it")
	if err := call.parse(flags); err != nil {
		return err
	}
	list, err := modes(*mode)
	if err != nil {
		return fmt.Errorf("phantom oracle rebuild: %w", err)
	}
	a, err := call.open(ctx, app.Needs{Database: true})
	if err != nil {
		return err
	}
	defer a.Close()
	for _, livemode := range list {
		start := time.Now()
		b, err := oracle.Rebuild(ctx, a.Pool, livemode)
		if err != nil {
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
		if b.Version == 0 {
			fmt.Fprintf(call.Stdout, "%s: nothing to learn from yet: an audit of a whole history gives the first cells\n", oracle.Mode(livemode))
			continue
		}
		fmt.Fprintf(call.Stdout, "%s: model %d of %d merchants and %s charges, in %s\n", oracle.Mode(livemode), b.Version, b.Merchants,
			money.Count(b.Attempts), time.Since(start).Round(time.Millisecond))
		if b.Spoilt > 0 {
			fmt.Fprintf(call.Stdout, "  %s cells cannot be read and are left out: the next whole audit of their merchants writes them anew\n", money.Count(int64(b.Spoilt)))
		}
	}
	return nil
}

// oracleHeatmap draws when charges of a merchant's customers succeed.
func oracleHeatmap(ctx context.Context, call Call) error {
	flags := newFlags("oracle heatmap")
	account := flags.String("merchant", "", "the connected account, `acct_…`")
	class := flags.String("class", string(decline.Timed), "of the refusal: timed, low, soon or unknown")
	country := flags.String("country", "", "of the customers, such as `US` (default: the merchant's own)")
	if err := call.parse(flags); err != nil {
		return err
	}
	if !slices.Contains(decline.Soft, decline.Class(*class)) {
		return misuse("phantom oracle heatmap: --class is timed, low, soon or unknown, not %.40q", *class)
	}
	if *country = strings.ToUpper(*country); *country != "" && len(zone.InCountries(*country)) == 0 {
		return misuse("phantom oracle heatmap: --country is a country in two letters, such as US, not %.40q", *country)
	}
	if err := checkAccount("oracle heatmap", *account); err != nil {
		return err
	}
	a, err := call.open(ctx, app.Needs{Database: true})
	if err != nil {
		return err
	}
	defer a.Close()
	merchant, err := merchantNamed(ctx, merchants(a.Pool), "oracle heatmap", *account)
	if err != nil {
		return err
	}
	p, err := oracle.New(a.Pool).Heatmap(ctx, merchant, decline.Class(*class), *country)
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	draw(call.Stdout, p)
	return nil
}

// draw writes a heatmap in marks of ten steps from the least chance to the best.
func draw(w io.Writer, p oracle.Picture) {
	what := p.Class.Words()
	fmt.Fprintf(w, "The chance of a charge two days after a refusal (%s), in %s, %s mode\n", what, cmp.Or(p.Country, "a country that is not known"), oracle.Mode(p.Livemode))
	switch {
	case p.BuiltAt == nil:
		fmt.Fprintln(w, "No model yet: this is what is widely known. An audit and a night make one.")
	case !p.Shared():
		fmt.Fprintf(w, "Model %d of fewer than %d merchants: this is what is widely known, and what the merchant's own charges say.\n", p.Version, model.Enough)
	default:
		fmt.Fprintf(w, "Model %d of %s\n", p.Version, p.BuiltAt.UTC().Format(time.RFC3339))
	}
	least, best := 1.0, 0.0
	for _, hours := range p.Hours {
		for _, s := range hours {
			least, best = min(least, s.P), max(best, s.P)
		}
	}
	mark := func(s model.Shade) string {
		step := int((s.P - least) / max(best-least, 1e-9) * 9.99)
		if text := string("0123456789"[min(max(step, 0), 9)]); s.Known {
			return text
		}
		return "·"
	}
	fmt.Fprintf(w, "\n0 is %.1f %%, 9 is %.1f %%; · is an hour at which fewer than %d merchants have charged\n\n", 100*least, 100*best, model.Enough)
	fmt.Fprintln(w, "     0     3     6     9     12    15    18    21")
	for weekday, hours := range p.Hours {
		fmt.Fprintf(w, "%s ", time.Weekday(weekday).String()[:3])
		for _, s := range hours {
			fmt.Fprintf(w, " %s", mark(s))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "\nBy day of the month, the best first:")
	days := make([]int, len(p.Days))
	for i := range days {
		days[i] = i
	}
	slices.SortStableFunc(days, func(a, b int) int { return cmp.Compare(p.Days[b].P, p.Days[a].P) })
	for _, day := range days[:5] {
		fmt.Fprintf(w, " %d (%.1f %%)", day+1, 100*p.Days[day].P)
	}
	if !p.Days[0].Known {
		fmt.Fprint(w, ", as is widely known")
	}
	fmt.Fprintln(w)
}
