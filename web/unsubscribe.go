package web

import (
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"html/template"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/text/language"

	"phantom/message"
)

// showUnsubscribe changes nothing: programs that look at mails follow every link in them. To a
// person in a browser it shows one button, see docs/adr/0027.
func (s *Server) showUnsubscribe(w http.ResponseWriter, r *http.Request) {
	s.withToken(w, r, s.config.Messages.CheckUnsubscribe, "ready", "A POST to this address ends emails about payments to you.")
}

// unsubscribe is the one click of RFC 8058. What the body says is not looked at: the token is all
// that counts.
func (s *Server) unsubscribe(w http.ResponseWriter, r *http.Request) {
	s.withToken(w, r, s.config.Messages.Unsubscribe, "unsubscribed", "You get no more emails about payments.")
}

func (s *Server) withToken(w http.ResponseWriter, r *http.Request, do func(context.Context, string) error, status, text string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), s.config.DatabaseTimeout)
	defer cancel()
	err := do(ctx, r.PathValue("token"))
	if err == nil {
		s.databaseAnswered()
	}
	w.Header().Set("Vary", "Accept, Accept-Language")
	switch {
	case wantsPage(r) && err == nil:
		showPage(w, r, http.StatusOK, status == "ready")
	case wantsPage(r): // the same status and the same line in the log, in other words
		answer := &discarded{header: w.Header()}
		s.fail(answer, r, err)
		showPage(w, r, answer.status, false)
	case err != nil:
		s.fail(w, r, err)
	default:
		writeJSON(w, http.StatusOK, map[string]string{"status": status, "message": text})
	}
}

//go:embed unsubscribe.html
var unsubscribeText string

var unsubscribePage = template.Must(template.New("unsubscribe").Parse(unsubscribeText))

// styleHash lets the page's own style through the Content-Security-Policy.
var styleHash = func() string {
	_, text, _ := strings.Cut(unsubscribeText, "<style>")
	text, _, _ = strings.Cut(text, "</style>")
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

// showPage answers a person in a browser, in a language that they read. asks: whether they want no
// more emails is not said yet.
func showPage(w http.ResponseWriter, r *http.Request, status int, asks bool) {
	tags, _, _ := language.ParseAcceptLanguage(r.Header.Get("Accept-Language")) // none if malformed
	name := cmp.Or(message.LanguageOf(tags...), message.English)
	words := message.Page(name)
	says := words.Done
	switch {
	case asks:
		says = words.Ask
	case status == http.StatusNotFound:
		says = words.Gone
	case status != http.StatusOK:
		says = words.Later
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src "+styleHash+"; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
	w.WriteHeader(status)
	_ = unsubscribePage.Execute(w, struct {
		Language, Says string
		Asks           bool
		Words          message.PageWords
	}{name, says, asks, words})
}

// wantsPage says whether a browser asks for a person. Mail programs that click for them take
// anything.
func wantsPage(r *http.Request) bool {
	for one := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		kind, params, err := mime.ParseMediaType(one)
		if err == nil && kind == "text/html" && params["q"] != "0" {
			return true
		}
	}
	return false
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
