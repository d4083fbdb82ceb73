package verdict

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"sync"

	"github.com/go-faster/jx"

	"phantom/shield"
)

// AuthZEN is the OpenID AuthZEN Authorization API 1.0.
// https://openid.net/specs/authorization-api-1_0.html

// entity is a subject or a resource.
type entity struct {
	given    bool
	kind, id string
}

// evaluation is one question.
type evaluation struct {
	subject, resource entity
	action            string
	hasAction         bool
}

// with is a question with what it lacks of another.
func (e evaluation) with(base evaluation) evaluation {
	if !e.subject.given {
		e.subject = base.subject
	}
	if !e.resource.given {
		e.resource = base.resource
	}
	if !e.hasAction {
		e.action, e.hasAction = base.action, base.hasAction
	}
	return e
}

// wrong says what a question lacks.
func (e evaluation) wrong() string {
	switch {
	case !e.subject.given || e.subject.kind == "" || e.subject.id == "":
		return "subject must have a type and an id"
	case !e.hasAction || e.action == "":
		return "action must have a name"
	case !e.resource.given || e.resource.kind == "" || e.resource.id == "":
		return "resource must have a type and an id"
	}
	return ""
}

var errShape = errors.New("is not as it must be")

// evaluate answers one question.
func (h *Handler) evaluate(w http.ResponseWriter, r *http.Request) {
	echo(w, r)
	if !onlyPost(w, r) {
		return
	}
	entry, v, refused := h.enter(r)
	if refused != nil {
		refused.write(w)
		return
	}
	body, done, ok := readJSON(w, r)
	if !ok {
		return
	}
	defer done()
	d := jx.GetDecoder()
	defer jx.PutDecoder(d)
	d.ResetBytes(body)
	var e evaluation
	if err := e.decode(d, nil); err != nil || !atEnd(d) {
		fail(w, http.StatusBadRequest, "invalid_request", "The body must be a JSON object as the Authorization API has it.")
		return
	}
	if wrong := e.wrong(); wrong != "" {
		fail(w, http.StatusBadRequest, "invalid_request", "The "+wrong+".")
		return
	}
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	*b, _ = h.decide((*b)[:0], entry, v, e, h.mark(w.Header(), v))
	send(w, jsonType, *b)
}

// mostEvaluations is how many questions a batch may hold.
const mostEvaluations = 100

// The semantics of a batch.
const (
	executeAll         = "execute_all"
	denyOnFirstDeny    = "deny_on_first_deny"
	permitOnFirstAllow = "permit_on_first_permit"
)

// evaluateMany answers a batch. Without questions of its own it is one.
func (h *Handler) evaluateMany(w http.ResponseWriter, r *http.Request) {
	echo(w, r)
	if !onlyPost(w, r) {
		return
	}
	entry, v, refused := h.enter(r)
	if refused != nil {
		refused.write(w)
		return
	}
	body, done, ok := readJSON(w, r)
	if !ok {
		return
	}
	defer done()
	d := jx.GetDecoder()
	defer jx.PutDecoder(d)
	d.ResetBytes(body)
	batch := batches.Get().(*batch)
	defer batches.Put(batch)
	*batch = emptyBatch
	var base evaluation
	if err := base.decode(d, batch); err != nil || !atEnd(d) {
		// Once more, and slowly: one question may be broken, and the others are not.
		d.ResetBytes(body)
		*batch, base = emptyBatch, evaluation{}
		batch.apart = true
		if err := base.decode(d, batch); err != nil || !atEnd(d) {
			fail(w, http.StatusBadRequest, "invalid_request", "The body must be a JSON object as the Authorization API has it.")
			return
		}
	}
	expired := h.mark(w.Header(), v)
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	switch {
	case batch.semantic != executeAll && batch.semantic != denyOnFirstDeny && batch.semantic != permitOnFirstAllow:
		fail(w, http.StatusBadRequest, "invalid_request", "The options.evaluations_semantic must be execute_all, deny_on_first_deny or permit_on_first_permit.")
		return
	case batch.count > mostEvaluations:
		fail(w, http.StatusBadRequest, "invalid_request", "The evaluations may be 100 at most.")
		return
	case batch.count == 0:
		if wrong := base.wrong(); wrong != "" {
			fail(w, http.StatusBadRequest, "invalid_request", "The "+wrong+".")
			return
		}
		*b, _ = h.decide((*b)[:0], entry, v, base, expired)
		send(w, jsonType, *b)
		return
	}
	dst := append((*b)[:0], `{"evaluations":[`...)
	for i := range batch.count {
		if i > 0 {
			dst = append(dst, ',')
		}
		var decision bool
		if dst, decision = h.decideOne(dst, entry, v, batch.items[i], base, expired); batch.ends(decision) {
			break
		}
	}
	*b = append(dst, `]}`...)
	send(w, jsonType, *b)
}

var (
	batches    = sync.Pool{New: func() any { return new(batch) }}
	emptyBatch = batch{semantic: executeAll}
)

// batch is what a batch has beside its defaults.
type batch struct {
	semantic string
	apart    bool // each question is told from where the next one begins
	count    int
	items    [mostEvaluations]item
}

// item is a question of a batch. A broken one costs itself alone.
type item struct {
	evaluation
	broken bool
}

func (b *batch) ends(decision bool) bool {
	return b.semantic == denyOnFirstDeny && !decision || b.semantic == permitOnFirstAllow && decision
}

func (h *Handler) decideOne(dst []byte, entry *tenant, v *view, i item, base evaluation, expired bool) ([]byte, bool) {
	e := i.with(base)
	wrong := e.wrong()
	if i.broken {
		wrong = "evaluation must be a JSON object as the Authorization API has it"
	}
	if wrong != "" {
		return append(append(append(dst, `{"decision":false,"context":{"error":{"status":400,"message":"The `...), wrong...), `."}}}`...), false
	}
	return h.decide(dst, entry, v, e, expired)
}

// decide writes a decision.
func (h *Handler) decide(dst []byte, entry *tenant, v *view, e evaluation, expired bool) ([]byte, bool) {
	a, why := h.ask(v, e, expired)
	if why == "" {
		h.count(byAuthZEN, entry, v, e.subject.id, a)
	} else {
		h.asked[byAuthZEN].Add(1)
	}
	dst = append(dst, `{"decision":`...)
	dst = strconv.AppendBool(dst, a.access)
	dst = append(dst, `,"context":{`...)
	if why != "" {
		return append(append(append(dst, `"reason":"`...), why...), `"}}`...), a.access
	}
	dst = append(append(dst, `"known":`...), strconv.FormatBool(a.known)...)
	dst = append(append(dst, `,"level":"`...), a.level...)
	if a.reason != "" {
		dst = append(append(dst, `","reason":"`...), a.reason...)
	}
	dst = append(append(dst, `","revision":"`...), v.revision...)
	return append(dst, `"}}`...), a.access
}

// ask says what a question comes to. why is given where it is about nothing that PHANTOM knows of:
// then the decision is no.
func (h *Handler) ask(v *view, e evaluation, expired bool) (a answer, why string) {
	switch {
	case e.subject.kind != "customer":
		return a, "subject_type_unknown"
	case e.action != "access":
		return a, "action_unknown"
	case !shield.IsID(e.subject.id):
		return a, "subject_id_malformed"
	}
	switch e.resource.kind {
	case "feature":
		a, v = h.levelOf(v, e.subject.id, expired)
		a.access = v.Policy.Allows(a.level, e.resource.id)
	case "product":
		a, why = h.levelOfPart(v, e.subject.id, expired, func(s sub, products []string) bool { return products[s.product] == e.resource.id })
	case "subscription":
		a, why = h.levelOfPart(v, e.subject.id, expired, func(s sub, _ []string) bool { return s.is(e.resource.id) })
	default:
		return a, "resource_type_unknown"
	}
	return a, why
}

// levelOfPart is the best level of a customer's subscriptions that are asked about. A customer of
// whom nothing is known has the policy's default.
func (h *Handler) levelOfPart(v *view, customer string, expired bool, wanted func(s sub, products []string) bool) (a answer, why string) {
	s, v, record := h.table.held(v, customer)
	defer s.mutex.RUnlock()
	return v.partOf(record, expired, h.table.products.list(), wanted)
}

// partOf is the best level of a record's subscriptions that are asked about.
func (v *view) partOf(record []byte, expired bool, products []string, wanted func(s sub, products []string) bool) (a answer, why string) {
	a = v.answerOf(record, expired)
	if record == nil {
		return a, ""
	}
	if _, does := v.failing(); expired && does {
		return a, ""
	}
	r := reading{record}
	h0, n := r.readHead()
	found := false
	for range n {
		s := r.readSub()
		if !wanted(s, products) {
			continue
		}
		level := s.level
		if v.Policy.Mode != shield.Enforce {
			level = shield.Full
		}
		if !found || a.level.Below(level) {
			a.level, a.reason = level, s.reason
		}
		found = true
	}
	if !found {
		return answer{known: true, inDebt: h0.inDebt}, "resource_unknown"
	}
	a.access = a.level.Access()
	return a, ""
}

// echo gives a request's id back.
func echo(w http.ResponseWriter, r *http.Request) {
	id := r.Header["X-Request-Id"]
	if len(id) != 1 || len(id[0]) > 128 {
		return
	}
	for i := range len(id[0]) {
		if c := id[0][i]; c < ' ' || c > '~' {
			return
		}
	}
	w.Header()["X-Request-Id"] = id
}

// readJSON reads a body that is declared to be JSON. done gives its memory back.
func readJSON(w http.ResponseWriter, r *http.Request) (body []byte, done func(), ok bool) {
	if !isJSON(r.Header["Content-Type"]) {
		fail(w, http.StatusBadRequest, "invalid_request", "Send the body as Content-Type: application/json.")
		return nil, nil, false
	}
	if r.ContentLength > mostPermitted {
		tooLarge(w)
		return nil, nil, false
	}
	b := bodies.Get().(*[]byte)
	var err error
	*b, err = readAll((*b)[:0], r.Body)
	switch {
	case err != nil:
		bodies.Put(b)
		fail(w, http.StatusBadRequest, "invalid_request", "The body did not arrive whole.")
		return nil, nil, false
	case len(*b) > mostPermitted:
		bodies.Put(b)
		tooLarge(w)
		return nil, nil, false
	}
	return *b, func() { bodies.Put(b) }, true
}

func tooLarge(w http.ResponseWriter) {
	w.Header()["Connection"] = closing
	fail(w, http.StatusRequestEntityTooLarge, "request_too_large", "The request's body is too large.")
}

func isJSON(values []string) bool {
	if len(values) != 1 {
		return false
	}
	if values[0] == "application/json" {
		return true
	}
	kind, _, err := mime.ParseMediaType(values[0])
	return err == nil && kind == "application/json"
}

// readAll reads into dst, and no more than one byte beyond what is permitted.
func readAll(dst []byte, from io.Reader) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := from.Read(dst[len(dst):min(cap(dst), mostPermitted+1)])
		dst = dst[:len(dst)+n]
		if errors.Is(err, io.EOF) || len(dst) > mostPermitted {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

// atEnd says whether nothing follows what was read. The decoder calls an end and rubbish alike
// invalid.
func atEnd(d *jx.Decoder) bool { return errors.Is(d.Skip(), io.EOF) }

// decode reads a question; into, if not nil, takes what a batch has besides. Fields that nobody
// knows are left out.
func (e *evaluation) decode(d *jx.Decoder, into *batch) error {
	if d.Next() != jx.Object {
		return errShape
	}
	return d.ObjBytes(func(d *jx.Decoder, key []byte) error {
		switch string(key) {
		case "subject":
			return e.subject.decode(d)
		case "resource":
			return e.resource.decode(d)
		case "action":
			return e.decodeAction(d)
		case "evaluations":
			if into != nil {
				return into.decode(d)
			}
		case "options":
			if into != nil {
				return into.decodeOptions(d)
			}
		}
		return d.Skip()
	})
}

func (e *evaluation) decodeAction(d *jx.Decoder) error {
	if d.Next() != jx.Object {
		return errShape
	}
	e.hasAction = true
	return d.ObjBytes(func(d *jx.Decoder, key []byte) (err error) {
		if string(key) != "name" {
			return d.Skip()
		}
		e.action, err = word(d)
		return err
	})
}

// word reads a string, of which most are one of ours.
func word(d *jx.Decoder) (string, error) {
	text, err := d.StrBytes()
	if err != nil {
		return "", err
	}
	switch string(text) {
	case "customer":
		return "customer", nil
	case "access":
		return "access", nil
	case "feature":
		return "feature", nil
	case "product":
		return "product", nil
	case "subscription":
		return "subscription", nil
	}
	return string(text), nil
}

func (t *entity) decode(d *jx.Decoder) error {
	if d.Next() != jx.Object {
		return errShape
	}
	t.given = true
	return d.ObjBytes(func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "type":
			t.kind, err = word(d)
		case "id":
			t.id, err = d.Str()
		default:
			err = d.Skip()
		}
		return err
	})
}

func (b *batch) decodeOptions(d *jx.Decoder) error {
	if d.Next() != jx.Object {
		return errShape
	}
	return d.ObjBytes(func(d *jx.Decoder, key []byte) (err error) {
		if string(key) != "evaluations_semantic" {
			return d.Skip()
		}
		b.semantic, err = d.Str()
		return err
	})
}

func (b *batch) decode(d *jx.Decoder) error {
	if d.Next() != jx.Array {
		return errShape
	}
	return d.Arr(func(d *jx.Decoder) error {
		if b.count++; b.count > mostEvaluations {
			return d.Skip()
		}
		i := &b.items[b.count-1]
		if !b.apart {
			return i.decode(d, nil)
		}
		raw, err := d.Raw()
		if err != nil {
			return err
		}
		inner := jx.GetDecoder()
		defer jx.PutDecoder(inner)
		inner.ResetBytes(raw)
		i.broken = i.decode(inner, nil) != nil
		return nil
	})
}

// about is the PDP's metadata.
func (h *Handler) about(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	url := h.config.PublicURL
	send(w, jsonType, []byte(`{"policy_decision_point":"`+url+`","access_evaluation_endpoint":"`+url+authZENPath+
		`","access_evaluations_endpoint":"`+url+authZENsPath+`"}`))
}
