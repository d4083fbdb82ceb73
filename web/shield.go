package web

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"phantom/input"
	"phantom/shield"
)

// What people and back offices do about access. What apps ask, package verdict answers.

// revisionHeader says from which revision on a change is so: an app that sends it as
// Shield-At-Least sees the change.
const revisionHeader = "Shield-Revision"

func (s *Server) getPolicy(ctx context.Context, w http.ResponseWriter, _ *http.Request, merchantID uuid.UUID) error {
	policy, err := s.config.Shield.Policy(ctx, merchantID)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, policy)
	return nil
}

// policyOf reads a request's policy.
func policyOf(r *http.Request) (shield.Policy, error) {
	text, err := jsonBody(r)
	if err != nil {
		return shield.Policy{}, err
	}
	if len(text) == 0 {
		text = []byte("{}")
	}
	return shield.Parse(text)
}

func (s *Server) setPolicy(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	policy, err := policyOf(r)
	if err != nil {
		return err
	}
	stored, revision, err := s.config.Shield.SetPolicy(ctx, merchantID, policy, r.Header.Get("Shield-Confirm"))
	if err != nil {
		return err
	}
	w.Header().Set(revisionHeader, revision)
	writeJSON(w, http.StatusOK, stored)
	return nil
}

func (s *Server) previewPolicy(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	policy, err := policyOf(r)
	if err != nil {
		return err
	}
	preview, err := s.config.Shield.Preview(ctx, merchantID, policy)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, preview)
	return nil
}

func (s *Server) simulatePolicy(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	policy, err := policyOf(r)
	if err != nil {
		return err
	}
	simulation, err := s.config.Shield.Simulate(ctx, merchantID, policy)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, simulation)
	return nil
}

// wish is what a person decides, as the API takes it.
type wish struct {
	Customer     string        `json:"customer"`
	Subscription string        `json:"subscription"`
	Level        shield.Level  `json:"level"`
	Until        shield.Moment `json:"until"`
}

var strictWish = input.Strict{Only: "takes only customer or subscription, level (of an override) and until"}

func (s *Server) decide(kind shield.Kind) merchantHandler {
	return func(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
		text, err := jsonBody(r)
		if err != nil {
			return err
		}
		var given wish
		if err := strictWish.Decode(text, &given); err != nil {
			return err
		}
		wanted := shield.Wish{Customer: given.Customer, Subscription: given.Subscription, Level: given.Level}
		if !given.Until.IsZero() {
			wanted.Until = &given.Until.Time
		}
		decision, revision, err := s.config.Shield.Decide(ctx, merchantID, kind, wanted)
		if err != nil {
			return err
		}
		w.Header().Set(revisionHeader, revision)
		writeJSON(w, http.StatusCreated, decision)
		return nil
	}
}

func (s *Server) takeBack(kind shield.Kind) merchantHandler {
	return func(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
		id, err := pathID(r)
		if err != nil {
			return err
		}
		revision, err := s.config.Shield.TakeBack(ctx, merchantID, kind, id)
		if err != nil {
			return err
		}
		w.Header().Set(revisionHeader, revision)
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
		return nil
	}
}

func (s *Server) listDecisions(kind shield.Kind) merchantHandler {
	return func(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
		before, limit, _, err := pageOf(r, "")
		if err != nil {
			return err
		}
		list, next, err := s.config.Shield.Decisions(ctx, merchantID, kind, before, limit)
		if err != nil {
			return err
		}
		writePage(w, list, next)
		return nil
	}
}

func (s *Server) listTransitions(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	before, limit, customer, err := pageOf(r, "customer")
	if err != nil {
		return err
	}
	list, next, err := s.config.Shield.Transitions(ctx, merchantID, customer, before, limit)
	if err != nil {
		return err
	}
	writePage(w, list, next)
	return nil
}

func (s *Server) listHolds(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	before, limit, _, err := pageOf(r, "")
	if err != nil {
		return err
	}
	list, next, err := s.config.Shield.Holds(ctx, merchantID, before, limit)
	if err != nil {
		return err
	}
	writePage(w, list, next)
	return nil
}

// pageOf reads a list's query, and one filter by an id of Stripe's.
func pageOf(r *http.Request, filter string) (before uuid.UUID, limit int, id string, err error) {
	limit = defaultLimit
	known := []string{"cursor", "limit"}
	if filter != "" {
		known = append(known, filter)
	}
	err = readQuery(r.URL.RawQuery, known, func(name, value string) string {
		switch name {
		case "cursor":
			return setCursor(&before, value)
		case "limit":
			return setLimit(&limit, value)
		}
		if !shield.IsID(value) {
			return "must be an id such as cus_…"
		}
		id = value
		return ""
	})
	return before, limit, id, err
}

// closeHold lets those go on who are held, or spares them.
func (s *Server) closeHold(how func(ctx context.Context, merchantID, id uuid.UUID) (string, error)) merchantHandler {
	return func(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
		if _, err := bodyFields(r); err != nil {
			return err
		}
		id, err := pathID(r)
		if err != nil {
			return err
		}
		revision, err := how(ctx, merchantID, id)
		if err != nil {
			return err
		}
		w.Header().Set(revisionHeader, revision)
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
		return nil
	}
}
