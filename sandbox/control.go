package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// controls are the paths below /sandbox/: the Go functions of the same names, for tests of
// processes. What they return is the answer; an error is the caller's.
var controls = map[string]func(*Sandbox, *http.Request) (any, error){
	"GET /sandbox/accounts": func(s *Sandbox, _ *http.Request) (any, error) { return s.Accounts(), nil },
	"GET /sandbox/requests": func(s *Sandbox, _ *http.Request) (any, error) { return s.Requests(), nil },
	"GET /sandbox/truth": func(s *Sandbox, r *http.Request) (any, error) {
		ghosts := s.Truth(accountOf(r))
		if ghosts == nil {
			ghosts = []Ghost{}
		}
		return ghosts, nil
	},
	"GET /sandbox/peak": func(s *Sandbox, r *http.Request) (any, error) {
		return map[string]int{"peak": s.PeakRate(accountOf(r))}, nil
	},
	"GET /sandbox/ledger":     func(s *Sandbox, r *http.Request) (any, error) { return s.Ledger(accountOf(r)), nil },
	"GET /sandbox/executions": func(s *Sandbox, _ *http.Request) (any, error) { return s.AllExecutions(), nil },
	"POST /sandbox/forget-keys": func(s *Sandbox, _ *http.Request) (any, error) {
		s.ForgetKeys()
		return struct{}{}, nil
	},
	"GET /sandbox/clock": func(s *Sandbox, _ *http.Request) (any, error) { return s.readClock(), nil },
	"POST /sandbox/clock": func(s *Sandbox, r *http.Request) (any, error) {
		var move struct {
			Seconds int64 `json:"advance_seconds"`
		}
		if err := read(r, &move); err != nil {
			return nil, err
		}
		err := s.AdvanceClock(time.Duration(min(move.Seconds, 1<<33)) * time.Second)
		return s.readClock(), err
	},
	"GET /sandbox/emails": func(s *Sandbox, _ *http.Request) (any, error) { return s.Emails(), nil },
	"GET /sandbox/sms":    func(s *Sandbox, _ *http.Request) (any, error) { return s.Messages(), nil },
	"POST /sandbox/sms-reply": func(s *Sandbox, r *http.Request) (any, error) {
		var reply SMSReply
		if err := read(r, &reply); err != nil {
			return nil, err
		}
		return s.Reply(reply)
	},
	"DELETE /sandbox/faults": func(s *Sandbox, _ *http.Request) (any, error) {
		s.Mend()
		return struct{}{}, nil
	},
	"POST /sandbox/faults": func(s *Sandbox, r *http.Request) (any, error) {
		var f struct {
			Fault
			Delay int64 `json:"delay"`
		}
		if err := read(r, &f); err != nil {
			return nil, err
		}
		f.Fault.Delay = time.Duration(f.Delay) * time.Millisecond
		s.Fail(f.Fault)
		return struct{}{}, nil
	},
	"POST /sandbox/changes": func(s *Sandbox, r *http.Request) (any, error) {
		var c Change
		if err := read(r, &c); err != nil {
			return nil, err
		}
		id, err := s.Change(c)
		return map[string]string{"id": id}, err
	},
	"POST /sandbox/webhook": func(s *Sandbox, r *http.Request) (any, error) {
		var h struct {
			Webhook
			Delay int64 `json:"delay"`
		}
		if err := read(r, &h); err != nil {
			return nil, err
		}
		h.Webhook.Delay = time.Duration(h.Delay) * time.Millisecond
		return struct{}{}, s.SetWebhook(h.Webhook)
	},
}

func accountOf(r *http.Request) string { return r.URL.Query().Get("account") }

// control serves what is below /sandbox/. It is neither logged nor struck by faults.
func (s *Sandbox) control(w http.ResponseWriter, r *http.Request) {
	if credential(r) != s.cfg.SecretKey {
		respond(w, http.StatusUnauthorized, errorText("the platform's secret key is needed"))
		return
	}
	answer, known := controls[r.Method+" "+r.URL.Path]
	if !known {
		respond(w, http.StatusNotFound, errorText("no such path below /sandbox/"))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	body, err := answer(s, r)
	if err != nil {
		respond(w, http.StatusBadRequest, errorText(err.Error()))
		return
	}
	respond(w, http.StatusOK, body)
}

func (s *Sandbox) readClock() map[string]string {
	return map[string]string{"now": s.now().UTC().Format(time.RFC3339)}
}

func errorText(msg string) map[string]string { return map[string]string{"error": msg} }

// read takes a JSON body and refuses fields that it does not know.
func read(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	return nil
}

func respond(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error means that the client has left
}
