package sandbox

import (
	"encoding/json"
	"net/http"
	"time"
)

// control serves what is below /sandbox/: the Go functions of the same names, for tests of
// processes. It is neither logged nor struck by faults.
func (s *Sandbox) control(w http.ResponseWriter, r *http.Request) {
	if credential(r) != s.cfg.SecretKey {
		respond(w, http.StatusUnauthorized, errorText("the platform's secret key is needed"))
		return
	}
	switch account := r.URL.Query().Get("account"); r.Method + " " + r.URL.Path {
	case "GET /sandbox/accounts":
		respond(w, http.StatusOK, s.Accounts())
	case "GET /sandbox/requests":
		respond(w, http.StatusOK, s.Requests())
	case "GET /sandbox/truth":
		ghosts := s.Truth(account)
		if ghosts == nil {
			ghosts = []Ghost{}
		}
		respond(w, http.StatusOK, ghosts)
	case "GET /sandbox/peak":
		respond(w, http.StatusOK, map[string]int{"peak": s.PeakRate(account)})
	case "GET /sandbox/ledger":
		respond(w, http.StatusOK, s.Ledger(account))
	case "GET /sandbox/executions":
		respond(w, http.StatusOK, s.AllExecutions())
	case "POST /sandbox/forget-keys":
		s.ForgetKeys()
		respond(w, http.StatusOK, struct{}{})
	case "GET /sandbox/clock", "POST /sandbox/clock":
		s.controlClock(w, r)
	case "GET /sandbox/emails":
		respond(w, http.StatusOK, s.Emails())
	case "GET /sandbox/sms":
		respond(w, http.StatusOK, s.Messages())
	case "POST /sandbox/sms-reply":
		var reply SMSReply
		if !read(w, r, &reply) {
			return
		}
		done, err := s.Reply(reply)
		if err != nil {
			respond(w, http.StatusBadRequest, errorText(err.Error()))
			return
		}
		respond(w, http.StatusOK, done)
	case "DELETE /sandbox/faults":
		s.Mend()
		respond(w, http.StatusOK, struct{}{})
	case "POST /sandbox/faults":
		var f struct {
			Fault
			Delay int64 `json:"delay"`
		}
		if read(w, r, &f) {
			f.Fault.Delay = time.Duration(f.Delay) * time.Millisecond
			s.Fail(f.Fault)
			respond(w, http.StatusOK, struct{}{})
		}
	case "POST /sandbox/changes":
		var c Change
		if !read(w, r, &c) {
			return
		}
		id, err := s.Change(c)
		if err != nil {
			respond(w, http.StatusBadRequest, errorText(err.Error()))
			return
		}
		respond(w, http.StatusOK, map[string]string{"id": id})
	case "POST /sandbox/webhook":
		var h struct {
			Webhook
			Delay int64 `json:"delay"`
		}
		if !read(w, r, &h) {
			return
		}
		h.Webhook.Delay = time.Duration(h.Delay) * time.Millisecond
		if err := s.SetWebhook(h.Webhook); err != nil {
			respond(w, http.StatusBadRequest, errorText(err.Error()))
			return
		}
		respond(w, http.StatusOK, struct{}{})
	default:
		respond(w, http.StatusNotFound, errorText("no such path below /sandbox/"))
	}
}

func (s *Sandbox) controlClock(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		var move struct {
			Seconds int64 `json:"advance_seconds"`
		}
		if !read(w, r, &move) {
			return
		}
		if err := s.AdvanceClock(time.Duration(min(move.Seconds, 1<<33)) * time.Second); err != nil {
			respond(w, http.StatusBadRequest, errorText(err.Error()))
			return
		}
	}
	respond(w, http.StatusOK, map[string]string{"now": s.now().UTC().Format(time.RFC3339)})
}

func errorText(msg string) map[string]string { return map[string]string{"error": msg} }

// read takes a JSON body and refuses fields that it does not know.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		respond(w, http.StatusBadRequest, errorText("read body: "+err.Error()))
		return false
	}
	return true
}

func respond(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error means that the client has left
}
