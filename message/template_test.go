package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/mail"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/resend/resend-go/v2"
	"golang.org/x/net/html"

	"phantom/input"
	"phantom/playbook"
)

// allOurs are our templates in each language.
func allOurs(yield func(Template) bool) {
	for _, language := range Languages {
		for _, channel := range []string{playbook.Email, playbook.SMS} {
			for _, name := range ourNames {
				if t, ok := ourTemplate(channel, name, language); !ok || !yield(t) {
					return
				}
			}
		}
	}
}

func TestOurTemplates(t *testing.T) {
	t.Parallel()
	for ours := range allOurs {
		if err := ours.check(); err != nil {
			t.Errorf("%s %s in %s: %v", ours.Channel, ours.Name, ours.language, err)
		}
		for _, customer := range samples(ours.language) {
			p, err := ours.render(customer)
			if err != nil || strings.Contains(p.Text, "  ") || strings.ContainsAny(p.Text, "{}%") || strings.Contains(p.HTML, "<img") || strings.Contains(p.HTML, "ZgotmplZ") {
				t.Errorf("%s %s in %s: %v\n%s", ours.Channel, ours.Name, ours.language, err, p.Text)
			}
		}
	}
}

// What a template may not do is refused, with the field named, and quickly.
func TestHostileTemplates(t *testing.T) {
	t.Parallel()
	const links = `<a href="{{.PayURL}}"></a><a href="{{.UnsubscribeURL}}"></a>`
	for _, bad := range []string{
		"{{", "{{.}", "{{end}}", "{{.Nothing}}", "{{.CustomerName.First}}", "{{call .PayURL}}", `{{printf "%99999999d" 1}}`, "{{range $i, $x := .Amount}}{{end}}",
		`{{define "a"}}x{{end}}`, `{{define "html"}}x{{end}}`, `{{block "a" .}}{{end}}`, `{{template "html" .}}`, "{{$x := .Amount}}{{$x}}", "{{js .Amount}}", "{{html .Amount}}", "{{index .Amount 0}}",
		"{{len .Amount}}", "{{slice .Amount 1}}", "{{break}}", "{{print 1}}", "{{1}}", "{{nil}}", strings.Repeat("x", maxRendered), "\xff", "\x00", "{{.Amount | printf}}", `<a href="`, "<script>var x = {{.Amount}</script>",
		strings.Repeat("{{if .CustomerName}}{{end}}", maxActions/2+1),
	} {
		for _, field := range []string{"subject", "html", "text"} {
			good := Template{Channel: playbook.Email, Name: "x", Subject: "x", HTML: links, Text: "{{.PayURL}} {{.UnsubscribeURL}}"}
			switch field {
			case "subject":
				good.Subject += bad
			case "html":
				good.HTML += bad
			case "text":
				good.Text += bad
			}
			err := good.check()
			var wrong *input.FieldError
			ok := errors.As(err, &wrong)
			if err == nil && (field != "html" && strings.HasPrefix(bad, "<") || field == "html" && bad == `<a href="x`) {
				continue // no markup there
			}
			if !ok || wrong.Field != field {
				t.Errorf("%s %.40q: %v", field, bad, err)
			}
		}
	}
}

func TestPhones(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text, country, want string
		textable            bool
	}{
		{"+1 (415) 555-0123", "", "+14155550123", true},
		{"(415) 555-0123", "US", "+14155550123", true},
		{"604.555.0123", "CA", "+16045550123", true},
		{"(415) 555-0123", "", "", false},
		{"0170 1234567", "DE", "", false},
		{"+49 170 1234567", "DE", "+491701234567", true},
		{"0049 1512 345678", "", "+491512345678", false},
		{"0049 1512 3456789", "", "+4915123456789", true},
		{"+49 30 1234567", "DE", "+49301234567", false}, // a landline
		{"+44 7400 123456", "", "+447400123456", true},
		{"+44 70 1234 5678", "", "+447012345678", false}, // personal numbering, dear
		{"+44 7797 123456", "", "+447797123456", false},  // Jersey
		{"+1 876 555 0123", "", "+18765550123", false},   // Jamaica
		{"+1 900 555 0123", "", "+19005550123", false},   // premium
		{"+1 800 555 0123", "", "+18005550123", false},   // toll-free
		{"+1 415 155 0123", "", "+14151550123", false},   // no such exchange
		{"+33 6 12 34 56 78", "", "+33612345678", true},  //
		{"+33 8 99 12 34 56", "", "+33899123456", false}, // premium
		{"+39 347 1234567", "", "+393471234567", true},   //
		{"+39 899 123456", "", "+39899123456", false},    // premium
		{"+34 612 345 678", "", "+34612345678", true},    //
		{"+34 803 123 456", "", "+34803123456", false},   // premium
		{"+31 6 12345678", "", "+31612345678", true},     //
		{"+43 664 1234567", "", "+436641234567", true},   //
		{"+41 79 123 45 67", "", "+41791234567", true},   //
		{"+353 85 123 4567", "", "+353851234567", true},  //
		{"+32 470 12 34 56", "", "+32470123456", true},   //
		{"+351 912 345 678", "", "+351912345678", true},  //
		{"+46 70 123 45 67", "", "+46701234567", true},   //
		{"+47 412 34 567", "", "+4741234567", true},      //
		{"+45 20 12 34 56", "", "+4520123456", true},     //
		{"+358 40 1234567", "", "+358401234567", true},   //
		{"+61 412 345 678", "", "+61412345678", true},    //
		{"+64 21 123 4567", "", "+64211234567", true},    //
		{"+881 6 1234 5678", "", "+881612345678", false}, // a satellite
		{"+882 16 1234567", "", "+882161234567", false},  // a satellite
		{"+53 5 1234567", "", "+5351234567", false},      // Cuba
		{"+252 61 1234567", "", "+252611234567", false},  // Somalia
		{"+979 1 2345 6789", "", "+979123456789", false}, // premium everywhere
		{"+1 415 555 0123; x", "", "", false},
		{"+1415555０123", "", "", false},
		{"+14155550123\r\nTo: +1", "", "", false},
		{"", "US", "", false},
	} {
		got, ok := parsePhone(test.text, test.country)
		if ok != (test.want != "") || ok && got != test.want || ok && textable(got) != test.textable {
			t.Errorf("%q: %q %v, textable %v", test.text, got, ok, textable(got))
		}
	}
}

func TestPayPage(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"https://invoice.stripe.com/i/acct_1/live_x?s=ap", "https://pay.stripe.com/x", "https://stripe.com/x"} {
		if !(Config{}).payPage(good) {
			t.Errorf("%s is refused", good)
		}
	}
	for _, bad := range []string{
		"", "http://invoice.stripe.com/x", "https://invoice.stripe.com.evil.example/x", "https://evilstripe.com/", "https://stripe.com@evil.example/", "https://a:b@stripe.com/",
		"javascript:alert(1)", "//stripe.com/x", "https://stripe.com:8443/", "https://stripe.com/\r\nx", "https://stripe.com/ x", "https://stripe.com/\"x", "https://stripe.com/<x", "https:///x", "https://stripe.com\\.evil.example/",
		"https://invoice.stripe.example.com/i/acct_1/test_1",
	} {
		if (Config{}).payPage(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
	// Beside phantom sandbox its pages are taken, and no others.
	for page, want := range map[string]bool{
		"https://invoice.stripe.example.com/i/acct_1/test_1": true, "https://invoice.stripe.com/i/acct_1": true,
		"http://invoice.stripe.example.com/i/acct_1": false, "https://evil.example.com/i": false, "https://invoice.stripe.example.com.evil.example/i": false,
	} {
		if got := (Config{Sandbox: true}).payPage(page); got != want {
			t.Errorf("beside a sandbox %s is taken: %t", page, got)
		}
	}
}

// tags is the structure of a page: the names of its elements in order, with their attributes'
// names.
func tags(page string) string {
	var all []string
	tokens := html.NewTokenizer(strings.NewReader(page))
	for {
		kind := tokens.Next()
		if kind == html.ErrorToken {
			return strings.Join(all, " ")
		}
		if kind == html.TextToken {
			continue
		}
		token := tokens.Token()
		name := token.Type.String() + token.Data
		for _, attribute := range token.Attr {
			name += "," + attribute.Key
		}
		all = append(all, name)
	}
}

// baseline is how a message is built with nothing hostile in it.
type baseline struct {
	template Template
	tags     string
	lines    int
}

var baselines = func() (all []baseline) {
	for t := range allOurs {
		p, err := t.render(samples(t.language)[0])
		if err != nil {
			panic(err)
		}
		all = append(all, baseline{t, tags(p.HTML), strings.Count(p.Text, "\n")})
	}
	return all
}()

// injects tries one text in every field that somebody else writes, and says what it broke.
func injects(b baseline, hostile string) error {
	sample := samples(b.template.language)[0]
	customer := sample
	for field, clean := range map[*string]string{
		&customer.CustomerName: addressee(hostile), &customer.Company: company(hostile), &customer.InvoiceNumber: plain(hostile, 40),
	} {
		if hasControl(clean) {
			return fmt.Errorf("a control character is left in %q", clean)
		}
		if clean != "" { // an empty one leaves lines out
			*field = clean
		}
	}
	if strings.ContainsAny(customer.CustomerName, "<>") || strings.ContainsAny(customer.Company, "<>") {
		return fmt.Errorf("markup is left in %+v", customer)
	}
	if page := sample.PayURL + hostile; (Config{Dev: true}).payPage(page) {
		customer.PayURL = page
	}
	invoice := &invoice{cardBrand: hostile, cardLast4: hostile}
	if brand, last4 := invoice.card(); brand != "" {
		return fmt.Errorf("a card %q %q", brand, last4)
	}
	p, err := b.template.render(customer)
	if err != nil {
		if b.template.Channel == playbook.SMS && utf8.RuneCountInString(customer.PayURL)+utf8.RuneCountInString(customer.Company) > 300 {
			return nil // too long, and not sent
		}
		if customer.PayURL != sample.PayURL {
			return nil // a link that a page does not hold as it is; not sent
		}
		return err
	}
	if hasControl(p.Subject) || strings.ContainsRune(p.Text, 0) || strings.ContainsAny(p.Text, "\r") {
		return fmt.Errorf("subject %q, text %q", p.Subject, p.Text)
	}
	if got := tags(p.HTML); got != b.tags {
		return fmt.Errorf("the page's elements changed: %s", got)
	}
	if got := strings.Count(p.Text, "\n"); got != b.lines {
		return fmt.Errorf("the text has %d lines, not %d", got, b.lines)
	}
	return envelope(hostile, p)
}

// envelope tries a text as an address and as a sender, and looks at the bytes that would leave.
func envelope(hostile string, p Preview) error {
	for _, address := range []string{hostile, hostile + "@example.com", "ada@" + hostile, "ada@example.com" + hostile} {
		if !isMailbox(address) {
			continue
		}
		parsed, err := mail.ParseAddress(address)
		if err != nil || parsed.Address != address || parsed.Name != "" || hasControl(address) || strings.Count(address, "@") != 1 {
			return fmt.Errorf("%q is taken for an address", address)
		}
	}
	if from := hostile + " <billing@example.com>"; !hasControl(from) {
		if _, ok := sender(from); ok && strings.ContainsAny(from, "\r\n\x00") {
			return fmt.Errorf("%q is taken for a sender", from)
		}
	} else if _, ok := sender(from); ok {
		return fmt.Errorf("%q is taken for a sender", from)
	}
	if phone, ok := parsePhone("+1415555"+hostile, "US"); ok && (len(phone) > 16 || strings.Trim(phone[1:], "0123456789") != "") {
		return fmt.Errorf("%q is taken for a number", phone)
	}
	text, err := emailBytes(&resend.SendEmailRequest{Subject: p.Subject, Html: p.HTML, Text: p.Text})
	if err != nil {
		return err
	}
	var back resend.SendEmailRequest
	if err := json.Unmarshal(text, &back); err != nil || back.Subject != p.Subject || back.Html != p.HTML || back.Text != p.Text {
		return fmt.Errorf("the bytes do not read back: %w", err)
	}
	again, err := emailBytes(&back)
	if err != nil || !slices.Equal(again, text) {
		return fmt.Errorf("the bytes are not stable: %w", err)
	}
	return nil
}

var hostileParts = []string{
	"\r\n", "\n", "\r", "\x00", "\u0085", "\u2028", "\u2029", "\u202e", "\ufeff", "\v", "\f", "\x1b", "\xff", "\xc3", "\xed\xa0\x80", "<script>alert(1)</script>", "<", ">", "\"", "'", "`", "&", "&lt;", "&#10;",
	"<img src=x onerror=alert(1)>", "</a>", "</p>", "<!--", "-->", "<![CDATA[", "javascript:", "https://evil.example", "www.evil.example", "//", "\" onmouseover=\"x", "' style='x", "Bcc: a@example.com", "Content-Type: text/html",
	"{{.PayURL}}", "{{", "}}", "%0d%0a", "\\r\\n", "=?utf-8?q?=0D=0A?=", "@", "a", "Ada", " ", "\u00a0", "é", "日本", "😀", "+", "1", "4242", "555", "visa", "?", "#", ";", ",", "<style>", "</style>", "</title>", "\t",
}

// A million texts in every field: `make fuzz-messages`. Otherwise as many as are worth the time.
func TestInjection(t *testing.T) {
	t.Parallel()
	cases := 20_000
	if text := os.Getenv("PHANTOM_CASES"); text != "" {
		var err error
		if cases, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	const hands = 4
	for hand := range hands {
		t.Run(strconv.Itoa(hand), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(uint64(hand), rand.Uint64()))
			for i := range cases / hands {
				var text strings.Builder
				for range 1 + random.IntN(6) {
					if random.IntN(8) == 0 {
						text.WriteRune(rune(random.IntN(0x3000)))
						continue
					}
					text.WriteString(hostileParts[random.IntN(len(hostileParts))])
				}
				if err := injects(baselines[i%len(baselines)], text.String()); err != nil {
					t.Fatalf("%q in %s %s: %v", text.String(), baselines[i%len(baselines)].template.Channel, baselines[i%len(baselines)].template.Name, err)
				}
			}
		})
	}
}

func FuzzFields(f *testing.F) {
	for i, part := range hostileParts {
		f.Add(uint8(i), part)
	}
	f.Fuzz(func(t *testing.T, which uint8, hostile string) {
		if err := injects(baselines[int(which)%len(baselines)], hostile); err != nil {
			t.Fatal(err)
		}
	})
}

// A name is greeted only where it is one. A text that a mail program turns into a link is a
// stranger's message in the merchant's name.
func TestAddressee(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Ada Canary", "J. R. Smith", "St. Mary's", "Müller & Söhne GmbH", "李小龍", "O'Neill Jr."} {
		if got := addressee(name); got != name {
			t.Errorf("%q is greeted as %q", name, got)
		}
	}
	for _, name := range []string{"evil.com", "Claim your prize: evil.com/x", "win at evil.example", "https:evil", "a@b.c", "<b>Ada</b>", "//evil", "пример.рф", "1.io"} {
		if got := addressee(name); got != "" {
			t.Errorf("%q is greeted as %q", name, got)
		}
	}
}
