package message

import (
	"net/mail"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// mailboxShape is what real addresses look like. RFC 5322 allows more, comments and quotes among
// it, which nobody has and which programs on the way read differently.
var mailboxShape = regexp.MustCompile(`^[A-Za-z0-9!#$%&'*+/=?^_{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_{|}~-]+)*@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]$`)

// isMailbox accepts one address, without a name.
func isMailbox(text string) bool {
	return len(text) <= 254 && strings.IndexByte(text, '@') <= 64 && mailboxShape.MatchString(text)
}

// sender reads a From: an address, or "Name <address>".
func sender(text string) (name string, ok bool) {
	if len(text) > 320 || hasControl(text) {
		return "", false
	}
	parsed, err := mail.ParseAddress(text)
	if err != nil || !isMailbox(parsed.Address) || hasControl(parsed.Name) || utf8.RuneCountInString(parsed.Name) > 64 {
		return "", false
	}
	return parsed.Name, true
}

// hasControl reports what must never be in a header or a subject: line ends, NUL and other control
// characters, the line and paragraph separators, marks that turn the direction of writing, and what
// is no UTF-8.
func hasControl(text string) bool {
	return !utf8.ValidString(text) || strings.ContainsFunc(text, isControl)
}

func isControl(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) || r == utf8.RuneError || r == '\ufeff'
}

// plain makes one line of what somebody else has written: a customer's or a company's name. Control
// characters are spaces, and it is cut to most characters.
func plain(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if isControl(r) || unicode.IsSpace(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	runes := []rune(strings.Join(strings.Fields(text), " "))
	return strings.TrimSpace(string(runes[:min(len(runes), most)]))
}

// linked is what mail programs make a link of. "J. R. Smith" and "St. Mary" are none.
var linked = regexp.MustCompile(`[\pL\pN]\.\pL{2,}`)

// addressee is a customer's name for a greeting, "" where it is rather a message of its own: it
// holds markup or a link.
func addressee(text string) string {
	name := plain(text, 60)
	if strings.ContainsAny(name, "<>{}[]|\\@/:") || linked.MatchString(name) {
		return ""
	}
	return name
}

// company is a merchant's public name, without what only markup is made of.
func company(text string) string {
	return plain(strings.Map(func(r rune) rune {
		if strings.ContainsRune("<>{}\\", r) {
			return -1
		}
		return r
	}, text), 80)
}

// sandboxPages is where invoices of the sandbox say that they are paid. Nobody can have that name.
const sandboxPages = "invoice.stripe.example.com"

// payPage checks the link to pay: Stripe's own page, by https. In dev mode it may lead anywhere,
// and beside a sandbox to its pages.
func (c Config) payPage(text string) bool {
	page, err := url.Parse(text)
	if err != nil || len(text) > 2000 || hasControl(text) || strings.ContainsAny(text, " \"'<>`\\") || page.User != nil || page.Host == "" {
		return false
	}
	if c.Dev {
		return page.Scheme == "https" || page.Scheme == "http"
	}
	host := page.Hostname()
	return page.Scheme == "https" && page.Port() == "" &&
		(host == "stripe.com" || strings.HasSuffix(host, ".stripe.com") || c.Sandbox && host == sandboxPages)
}
