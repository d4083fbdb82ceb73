package web

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"phantom/message"
)

// showUnsubscribe changes nothing: programs that look at mails follow every link in them.
func (s *Server) showUnsubscribe(w http.ResponseWriter, r *http.Request) {
	s.withToken(w, r, s.config.Messages.CheckUnsubscribe, "ready", "A POST to this address ends emails about payments to you.")
}

// unsubscribe is the one click of RFC 8058. What the body says is not looked at: the token is all
// that counts.
func (s *Server) unsubscribe(w http.ResponseWriter, r *http.Request) {
	s.withToken(w, r, s.config.Messages.Unsubscribe, "unsubscribed", "You get no more emails about payments.")
}

func (s *Server) withToken(w http.ResponseWriter, r *http.Request, do func(context.Context, string) error, status, message string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), s.config.DatabaseTimeout)
	defer cancel()
	if err := do(ctx, r.PathValue("token")); err != nil {
		s.fail(w, r, err)
		return
	}
	s.databaseAnswered()
	writeJSON(w, http.StatusOK, map[string]string{"status": status, "message": message})
}

// incomingSMS takes a customer's answer from Twilio. A success has no body: Twilio takes TwiML or
// nothing, and our answers are JSON.
func (s *Server) incomingSMS(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), s.config.DatabaseTimeout)
	defer cancel()
	merchantID, form, done, err := s.smsForm(r)
	defer done()
	if err == nil {
		err = s.config.Messages.ReceiveSMS(ctx, merchantID, form, r.Header.Get("X-Twilio-Signature"))
	}
	switch {
	case errors.Is(err, errTooManyBytes):
		writeOverloaded(w)
	case errors.Is(err, message.ErrSignature):
		if !s.strange.Swap(true) {
			s.config.Log.Warn("[SECURITY] an incoming SMS is refused: if it was Twilio's, check PUBLIC_URL and the number's webhook")
		}
		writeError(w, http.StatusBadRequest, "invalid_signature", "The X-Twilio-Signature header does not fit the request.")
	case err != nil:
		s.fail(w, r, err)
	default:
		s.databaseAnswered()
		s.strange.Store(false)
		w.WriteHeader(http.StatusNoContent)
	}
}

// smsForm reads the parts of the request that are signed. What has another form is signed by
// nobody.
func (s *Server) smsForm(r *http.Request) (merchantID uuid.UUID, form url.Values, done func(), err error) {
	done = func() {}
	merchantID, err = uuid.Parse(r.PathValue("merchant_id"))
	kind, _, kindErr := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || merchantID.String() != r.PathValue("merchant_id") || kindErr != nil || kind != "application/x-www-form-urlencoded" ||
		r.URL.RawQuery != "" || len(r.Header.Values("X-Twilio-Signature")) != 1 {
		return uuid.Nil, nil, done, message.ErrSignature
	}
	text, done, err := s.readUnverified(r)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) || errors.Is(err, errTooManyBytes) {
		return uuid.Nil, nil, done, err
	}
	if err != nil {
		return uuid.Nil, nil, done, message.ErrSignature
	}
	if form, err = url.ParseQuery(string(text)); err != nil {
		return uuid.Nil, nil, done, message.ErrSignature
	}
	return merchantID, form, done, nil
}
