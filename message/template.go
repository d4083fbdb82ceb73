package message

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/input"
	"phantom/playbook"
	"phantom/trail"
)

// Template is the wording of a message. An SMS has a text alone.
type Template struct {
	Channel   string     `json:"channel"`
	Name      string     `json:"name"`
	Subject   string     `json:"subject"`
	HTML      string     `json:"html"`
	Text      string     `json:"text"`
	Own       bool       `json:"own"`        // the merchant's; else ours
	UpdatedAt *time.Time `json:"updated_at"` // null for ours

	language string // of its fields
}

// Preview is a template with a sample customer's data in it.
type Preview struct {
	Subject string `json:"subject"`
	HTML    string `json:"html"`
	Text    string `json:"text"`
	// the same in the other languages that there are words for, by their tags
	Translations map[string]Preview `json:"translations,omitempty"`
}

// Limits of what is rendered.
const (
	maxTemplates   = 100
	maxSubject     = 200     // characters
	maxRendered    = 100_000 // bytes of an email's part; Gmail cuts at 102 kB
	maxSMS         = 480     // characters
	maxActions     = 200     // fields and conditions of a part; thousands take a second to render
	fieldsInAdvice = "CustomerName, Company, Amount, InvoiceNumber, PayURL, UnsubscribeURL, DeclineReason, Method, CardHint, " +
		"Tried, SameMethod, NextAttempt and AccessEnds"
)

// ourNames are the templates that there are without a merchant's doing, on each channel.
var ourNames = []string{"payment_failed", "reminder", "last_notice"}

// ourTemplate returns the template that holds where a merchant has written none.
func ourTemplate(channel, name, language string) (Template, bool) {
	if !slices.Contains(ourNames, name) || channel != playbook.Email && channel != playbook.SMS {
		return Template{}, false
	}
	w := wordsOf(language)
	t := Template{Channel: channel, Name: name, Text: w.SMS[name], language: language}
	if channel == playbook.Email {
		t.Subject, t.HTML, t.Text = w.Emails[name].Title, w.shell("email.html", name, language), w.shell("email.txt", name, language)
	}
	return t, true
}

// shell is one of our emails: the shell with the email's own words in it. The fields of both, in
// {{ }}, stay as they are.
func (w *words) shell(file, name, language string) string {
	page := template.Must(template.New(file).Delims("[[", "]]").ParseFS(ours, "templates/"+file))
	var text strings.Builder
	err := page.Execute(&text, struct {
		*words
		Email    emailWords
		Language string
	}{w, w.Emails[name], language})
	if err != nil {
		panic(err) // a test writes them all
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// Templates lists what a merchant can name in their playbook: their own, and ours where they have
// none of that name.
func (s *Service) Templates(ctx context.Context, merchantID uuid.UUID) ([]Template, error) {
	rows, err := s.queries.TemplateList(ctx, merchantID)
	if err != nil {
		return nil, fmt.Errorf("list templates: %w", err)
	}
	var all []Template
	for _, row := range rows {
		all = append(all, ownTemplate(row))
	}
	for _, channel := range []string{playbook.Email, playbook.SMS} {
		for _, name := range ourNames {
			if !slices.ContainsFunc(all, func(t Template) bool { return t.Channel == channel && t.Name == name }) {
				t, _ := ourTemplate(channel, name, English)
				all = append(all, t)
			}
		}
	}
	return all, nil
}

func ownTemplate(row db.Template) Template {
	_, language := cutLanguage(row.Name)
	return Template{row.Channel, row.Name, row.Subject, row.Html, row.Body, true, &row.UpdatedAt, cmp.Or(language, English)}
}

// template returns the merchant's template of that name, or ours. It fails with [ErrNotFound].
func (s *Service) template(ctx context.Context, merchantID uuid.UUID, channel, name string) (Template, error) {
	row, err := s.queries.TemplateGet(ctx, db.TemplateGetParams{MerchantID: merchantID, Channel: channel, Name: name})
	if err == nil {
		return ownTemplate(row), nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return Template{}, fmt.Errorf("read template: %w", err)
	}
	base, language := cutLanguage(name)
	t, ok := ourTemplate(channel, base, cmp.Or(language, English))
	t.Name = name
	if !ok || language != "" && !isLanguage(language) {
		return t, ErrNotFound
	}
	return t, nil
}

// templateFor returns the template for somebody who reads a language: the merchant's own words in
// it, else the merchant's own in any, else ours in it.
func (s *Service) templateFor(ctx context.Context, merchantID uuid.UUID, channel, name, language string) (Template, error) {
	t, err := s.template(ctx, merchantID, channel, name+"."+language)
	if err == nil && t.Own {
		return t, nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return t, err
	}
	base, err := s.template(ctx, merchantID, channel, name)
	if err != nil || base.Own {
		return base, err
	}
	return t, nil
}

// SetTemplate stores a merchant's wording. One that would not render for every sort of customer
// fails with a [*input.FieldError].
func (s *Service) SetTemplate(ctx context.Context, merchantID uuid.UUID, t Template) (Template, error) {
	if err := t.check(); err != nil {
		return Template{}, err
	}
	count, err := s.queries.TemplateCount(ctx, db.TemplateCountParams{MerchantID: merchantID, Channel: t.Channel, Name: t.Name})
	if err != nil {
		return Template{}, fmt.Errorf("count templates: %w", err)
	}
	if count >= maxTemplates {
		return Template{}, input.Wrong("name", fmt.Sprintf("is one too many: there may be %d templates", maxTemplates))
	}
	var at time.Time
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		before, err := wordingOf(ctx, queries, merchantID, t.Channel, t.Name)
		if err != nil {
			return err
		}
		at, err = queries.TemplatePut(ctx, db.TemplatePutParams{
			MerchantID: merchantID, Channel: t.Channel, Name: t.Name, Subject: t.Subject, Html: t.HTML, Body: t.Text,
		})
		if err != nil {
			return err
		}
		return trail.Record(ctx, tx, trail.Change{
			Merchant: merchantID, Action: "template.put", Object: t.Channel + "/" + t.Name, Before: wordingTold(before), After: wordingTold(&t),
		})
	})
	if err != nil {
		return Template{}, fmt.Errorf("store template: %w", err)
	}
	t.Own, t.UpdatedAt = true, &at
	return t, nil
}

// DeleteTemplate forgets a merchant's wording; ours of that name, if there is one, takes its place.
// It fails with [ErrNotFound], and with a [*input.FieldError] where their playbook, or the version
// of it that a running hunt keeps, could not be followed any more.
func (s *Service) DeleteTemplate(ctx context.Context, merchantID uuid.UUID, channel, name string) error {
	if _, ok := ourTemplate(channel, name, English); !ok {
		newest, err := playbook.Newest(ctx, s.queries, merchantID)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(newest.AllSteps(), func(step playbook.PlacedStep) bool { return step.Channel == channel && step.Template == name }) {
			return input.Wrong("name", "is that of a template in a step of the playbook: change the playbook first")
		}
		used, err := s.queries.TemplateIsUsed(ctx, db.TemplateIsUsedParams{MerchantID: merchantID, Channel: channel, Name: name})
		if err != nil {
			return fmt.Errorf("look for hunts that use it: %w", err)
		}
		if used {
			return input.Wrong("name", "is that of a template which running hunts still use: they keep the playbook that they began with. Wait for their end, or stop them")
		}
	}
	err := db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		before, err := wordingOf(ctx, queries, merchantID, channel, name)
		if err != nil {
			return err
		}
		count, err := queries.TemplateDelete(ctx, db.TemplateDeleteParams{MerchantID: merchantID, Channel: channel, Name: name})
		if err != nil {
			return err
		}
		if count == 0 {
			return ErrNotFound
		}
		return trail.Record(ctx, tx, trail.Change{
			Merchant: merchantID, Action: "template.delete", Object: channel + "/" + name, Before: wordingTold(before),
		})
	})
	if err != nil {
		return fmt.Errorf("delete template: %w", err)
	}
	return nil
}

// wordingOf is a merchant's own template, or nil.
func wordingOf(ctx context.Context, queries *db.Queries, merchantID uuid.UUID, channel, name string) (*Template, error) {
	row, err := queries.TemplateGet(ctx, db.TemplateGetParams{MerchantID: merchantID, Channel: channel, Name: name})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	t := ownTemplate(row)
	return &t, nil
}

// PreviewTemplate renders a stored template for a sample customer, or draft where it is not nil. It
// fails with [ErrNotFound], or with a [*input.FieldError] as SetTemplate does.
func (s *Service) PreviewTemplate(ctx context.Context, merchantID uuid.UUID, channel, name string, draft *Template) (Preview, error) {
	t := draft
	if t == nil {
		stored, err := s.template(ctx, merchantID, channel, name)
		if err != nil {
			return Preview{}, err
		}
		t = &stored
	}
	if err := t.check(); err != nil {
		return Preview{}, err
	}
	p, err := t.render(samples(t.language)[0])
	if err != nil || draft != nil || t.language != English {
		return p, err
	}
	p.Translations = map[string]Preview{}
	for _, language := range Languages[1:] {
		other, err := s.templateFor(ctx, merchantID, channel, name, language)
		if err != nil {
			return Preview{}, err
		}
		if other.language != language { // the merchant's own words, for everybody
			continue
		}
		if p.Translations[language], err = other.render(samples(language)[0]); err != nil {
			return Preview{}, err
		}
	}
	return p, nil
}

// check finds what would not do, no matter who the customer is.
func (t *Template) check() error {
	base, language := cutLanguage(t.Name)
	t.language = cmp.Or(language, English)
	switch {
	case t.Channel != playbook.Email && t.Channel != playbook.SMS:
		return ErrNotFound
	case !playbook.IsTemplateName(base):
		return input.Wrong("name", "must be lower-case letters, digits and underscores, 64 at most, and begin with a letter")
	case strings.Contains(t.Name, ".") && !isLanguage(language):
		return input.Wrong("name", "must end with one of "+strings.Join(Languages, ", ")+" behind the dot: reminder.de is the German reminder")
	case t.Channel == playbook.SMS && (t.Subject != "" || t.HTML != ""):
		return input.Wrong("subject", "and html are of emails: an SMS has a text alone")
	case t.Channel == playbook.Email && strings.TrimSpace(t.Subject) == "":
		return input.Wrong("subject", "must not be empty")
	case t.Channel == playbook.Email && strings.TrimSpace(t.HTML) == "":
		return input.Wrong("html", "must not be empty")
	case strings.TrimSpace(t.Text) == "":
		return input.Wrong("text", "must not be empty")
	}
	for _, part := range []struct{ field, source string }{{"subject", t.Subject}, {"html", t.HTML}, {"text", t.Text}} {
		if strings.Count(part.source, "{{") > maxActions {
			return input.Wrong(part.field, fmt.Sprintf("must hold %d fields and conditions at most", maxActions))
		}
	}
	for _, customer := range samples(t.language) {
		if _, err := t.render(customer); err != nil {
			return err
		}
	}
	return nil
}

// render makes a message. What comes out is fit to be sent: it is of a bearable size, the subject
// is one line, and the links are there. It fails with a [*input.FieldError].
func (t *Template) render(customer fields) (Preview, error) {
	var p Preview
	var err error
	if p.Text, err = renderText("text", t.Text, customer); err != nil {
		return Preview{}, err
	}
	if t.Channel == playbook.SMS {
		p.Text = strings.TrimSpace(p.Text)
		switch {
		case utf8.RuneCountInString(p.Text) > maxSMS:
			return Preview{}, input.Wrong("text", fmt.Sprintf("must not be longer than %d characters with the link in it", maxSMS))
		case hasControl(strings.ReplaceAll(p.Text, "\n", "")):
			return Preview{}, input.Wrong("text", "must hold no control characters")
		case !strings.Contains(p.Text, customer.PayURL):
			return Preview{}, input.Wrong("text", "must show {{.PayURL}} to every customer")
		}
		return p, nil
	}
	if p.Subject, err = renderText("subject", t.Subject, customer); err != nil {
		return Preview{}, err
	}
	if p.HTML, err = renderHTML(t.HTML, customer); err != nil {
		return Preview{}, err
	}
	switch {
	case hasControl(p.Subject) || strings.TrimSpace(p.Subject) == "" || utf8.RuneCountInString(p.Subject) > maxSubject:
		return Preview{}, input.Wrong("subject", fmt.Sprintf("must be one line of 1 to %d characters", maxSubject))
	case strings.ContainsRune(p.HTML, 0) || !utf8.ValidString(p.HTML):
		return Preview{}, input.Wrong("html", "must be UTF-8 without NUL")
	case strings.ContainsRune(p.Text, 0) || !utf8.ValidString(p.Text):
		return Preview{}, input.Wrong("text", "must be UTF-8 without NUL")
	}
	for _, link := range []struct{ name, url string }{{"PayURL", customer.PayURL}, {"UnsubscribeURL", customer.UnsubscribeURL}} {
		if !linksTo(p.HTML, link.url) {
			return Preview{}, input.Wrong("html", "must link to {{."+link.name+"}} (href=\"{{."+link.name+"}}\") for every customer")
		}
		if !strings.Contains(p.Text, link.url) {
			return Preview{}, input.Wrong("text", "must show {{."+link.name+"}} to every customer")
		}
	}
	return p, nil
}

// renderText renders a subject or a text; field is what its errors name.
func renderText(field, source string, customer fields) (string, error) {
	parsed, err := template.New(field).Option("missingkey=error").Parse(source)
	if err != nil {
		return "", parseError(field)
	}
	if err := simple(field, parsed.Templates(), parsed.Tree); err != nil {
		return "", err
	}
	var out limited
	if err := parsed.Execute(&out, customer); err != nil {
		return "", executeError(field, err)
	}
	return out.text.String(), nil
}

func renderHTML(source string, customer fields) (string, error) {
	const field = "html"
	parsed, err := htmltemplate.New(field).Option("missingkey=error").Parse(source)
	if err != nil {
		return "", parseError(field)
	}
	if err := simple(field, parsed.Templates(), parsed.Tree); err != nil {
		return "", err
	}
	var out limited
	if err := parsed.Execute(&out, customer); err != nil {
		return "", executeError(field, err)
	}
	return out.text.String(), nil
}

// The library's own errors quote the template: theirs who gave it, but errors are logged too.
func parseError(field string) error {
	return input.Wrong(field, "is no template: write {{.PayURL}} for a field, and close every {{if}} with {{end}}")
}

func executeError(field string, err error) error {
	if errors.Is(err, errTooLarge) {
		return input.Wrong(field, "is too large")
	}
	return input.Wrong(field, "cannot be rendered: the fields are "+fieldsInAdvice)
}

// simple allows texts, fields and conditions, and nothing with which a few bytes could fill the
// memory or never end: no loops, no templates that call themselves, no printf with a width.
func simple[T any](field string, all []T, tree *parse.Tree) error {
	if len(all) > 1 || tree == nil || tree.Root == nil || !simpleNode(tree.Root) {
		return input.Wrong(field, "may hold fields, if, else, with, and, or, not, eq and ne alone")
	}
	return nil
}

func simpleNode(node parse.Node) bool {
	branch := func(b *parse.BranchNode) bool {
		return simpleNode(b.Pipe) && simpleNode(b.List) && (b.ElseList == nil || simpleNode(b.ElseList))
	}
	switch n := node.(type) {
	case *parse.ListNode:
		for _, child := range n.Nodes {
			if !simpleNode(child) {
				return false
			}
		}
		return true
	case *parse.ActionNode:
		return simpleNode(n.Pipe)
	case *parse.IfNode:
		return branch(&n.BranchNode)
	case *parse.WithNode:
		return branch(&n.BranchNode)
	case *parse.PipeNode:
		if len(n.Decl) > 0 {
			return false
		}
		for _, command := range n.Cmds {
			for _, argument := range command.Args {
				if !simpleNode(argument) {
					return false
				}
			}
		}
		return true
	case *parse.IdentifierNode:
		return slices.Contains([]string{"and", "or", "not", "eq", "ne"}, n.Ident)
	case *parse.FieldNode:
		return len(n.Ident) == 1
	case *parse.TextNode, *parse.CommentNode, *parse.DotNode, *parse.StringNode:
		return true
	default:
		return false
	}
}

var errTooLarge = errors.New("too large")

// limited is a buffer that holds a message and no more.
type limited struct{ text bytes.Buffer }

var _ io.Writer = (*limited)(nil)

func (l *limited) Write(text []byte) (int, error) {
	if l.text.Len()+len(text) > maxRendered {
		return 0, errTooLarge
	}
	return l.text.Write(text)
}

// wordingTold is what the log says of a template: never its words. Nil is PHANTOM's own.
func wordingTold(t *Template) any {
	if t == nil {
		return nil
	}
	text, _ := json.Marshal([]string{t.Subject, t.HTML, t.Text}) // strings always marshal
	return trail.Digest(text)
}
