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
