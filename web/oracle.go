package web

import (
	"context"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/decline"
	"phantom/oracle"
	"phantom/oracle/model"
)

// heatmap is the answer of GET /api/oracle/heatmap.
type heatmap struct {
	Livemode bool          `json:"livemode"`
	Model    *learned      `json:"model"` // null: none yet
	Class    decline.Class `json:"class"`
	Category *string       `json:"category"`
	Country  *string       `json:"country"`
	Hours    [7][24]shade  `json:"hours"` // from Sunday
	Days     [31]shade     `json:"days"`
}

// learned is what a model was made of.
type learned struct {
	Version int64     `json:"version"`
	BuiltAt time.Time `json:"built_at"`
	Shared  bool      `json:"shared"` // merchants stand behind it enough to share
}

type shade struct {
	P     float64 `json:"p"`
	Known bool    `json:"known"`
}

// oracleState is the answer of GET /api/oracle.
type oracleState struct {
	Livemode bool         `json:"livemode"`
	State    oracle.State `json:"state"`
	Since    *time.Time   `json:"since"` // null: always
	Why      string       `json:"why"`
	Model    *learned     `json:"model"`  // null: none yet
	Recent   foretold     `json:"recent"` // the merchant's own charges of 28 days
}

// foretold is how well chances were foretold.
type foretold struct {
	Charges          int      `json:"charges"`
	LogLoss          *float64 `json:"log_loss"` // the next three are null where there was no charge
	BaseLogLoss      *float64 `json:"base_log_loss"`
	CalibrationError *float64 `json:"calibration_error"`
}

func (s *Server) getOracle(ctx context.Context, w http.ResponseWriter, _ *http.Request, merchantID uuid.UUID) error {
	state, err := s.config.Oracle.Of(ctx, merchantID)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, oracleStateOf(state))
	return nil
}

func oracleStateOf(o oracle.Own) oracleState {
	state := oracleState{Livemode: o.Livemode, State: o.State, Why: o.State.Words(), Recent: foretold{Charges: o.Score.Charges}}
	if !o.Since.IsZero() {
		state.Since = new(o.Since.UTC())
	}
	if o.BuiltAt != nil {
		state.Model = &learned{o.Version, o.BuiltAt.UTC(), o.Shared()}
	}
	if o.Score.Charges > 0 {
		rounded := func(x float64) *float64 { return new(math.Round(x*1e4) / 1e4) }
		state.Recent.LogLoss, state.Recent.BaseLogLoss, state.Recent.CalibrationError = rounded(o.Score.LogLoss), rounded(o.Score.Base), rounded(o.Score.ECE)
	}
	return state
}

// billingDate is a line of GET /api/oracle/billing-dates.
type billingDate struct {
	Ghost        uuid.UUID `json:"ghost"`
	Customer     string    `json:"customer"`
	Subscription string    `json:"subscription"`
	Billed       int       `json:"billed"`
	Better       int       `json:"better"`
	P            float64   `json:"p"`
	PBetter      float64   `json:"p_better"`
	Invoices     int       `json:"invoices"`
	Failed       int       `json:"failed"`
}

func (s *Server) listBillingDates(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	after, limit := uuid.Nil, defaultLimit
	err := readQuery(r.URL.RawQuery, []string{"cursor", "limit"}, func(name, value string) string {
		if name == "cursor" {
			return setCursor(&after, value)
		}
		return setLimit(&limit, value)
	})
	if err != nil {
		return err
	}
	found, last, err := s.config.Oracle.BillingDates(ctx, merchantID, after, limit)
	if err != nil {
		return err
	}
	all := make([]billingDate, 0, len(found))
	for _, f := range found {
		all = append(all, billingDate{
			Ghost: f.Ghost, Customer: f.Customer, Subscription: f.Subscription, Billed: f.Billed, Better: f.Better,
			P: math.Round(f.P*1000) / 1000, PBetter: math.Round(f.PBetter*1000) / 1000, Invoices: f.Invoices, Failed: f.Failed,
		})
	}
	writePage(w, all, last)
	return nil
}

var countryShape = regexp.MustCompile(`^[A-Z]{2}$`)

func (s *Server) oracleHeatmap(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	class, country := decline.Timed, ""
	err := readQuery(r.URL.RawQuery, []string{"class", "country"}, func(name, value string) string {
		switch name {
		case "class":
			if class = decline.Class(value); !slices.Contains(decline.Soft, class) {
				return "must be one of " + strings.Join(db.Texts(decline.Soft), ", ")
			}
		case "country":
			if country = value; !countryShape.MatchString(value) {
				return "must be a country in two capital letters, such as US"
			}
		}
		return ""
	})
	if err != nil {
		return err
	}
	picture, err := s.config.Oracle.Heatmap(ctx, merchantID, class, country)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, heatmapOf(picture))
	return nil
}

func heatmapOf(p oracle.Picture) heatmap {
	h := heatmap{Livemode: p.Livemode, Class: p.Class, Category: orNull(p.Category), Country: orNull(p.Country)}
	if p.BuiltAt != nil {
		h.Model = &learned{p.Version, *p.BuiltAt, p.Shared()}
	}
	rounded := func(s model.Shade) shade { return shade{math.Round(s.P*1000) / 1000, s.Known} }
	for weekday := range h.Hours {
		for hour, s := range p.Hours[weekday] {
			h.Hours[weekday][hour] = rounded(s)
		}
	}
	for day, s := range p.Days {
		h.Days[day] = rounded(s)
	}
	return h
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
