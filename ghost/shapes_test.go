package ghost

import (
	"bufio"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76"

	"phantom/connect"
	"phantom/sandbox"
)

// stripeMocks are Stripe's own mock servers by the module that pins them. The first knows the
// OpenAPI document of the API version that stripe-go v76 speaks, and is asked to refuse any other;
// the second knows one since basil. Neither looks at what expand names.
var stripeMocks = []struct{ folder, modules, check string }{
	{".", "../tools.mod", "-strict-version-check"},
	{"testdata/basil", "go.mod", ""},
}

// startMock runs a mock server, which refuses what its document does not allow.
func startMock(t *testing.T, folder, modules, check string) (base string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "stripe-mock")
	build := exec.Command("go", "build", "-modfile="+modules, "-o", binary, "github.com/stripe/stripe-mock")
	build.Dir = folder
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build stripe-mock: %v\n%s", err, out)
	}
	args := []string{"-http-addr", "127.0.0.1:0", "-https-addr", "127.0.0.1:0"}
	if check != "" {
		args = append(args, check)
	}
	command := exec.Command(binary, args...)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if match := regexp.MustCompile(`HTTP at address: (127\.0\.0\.1:\d+)`).FindStringSubmatch(lines.Text()); match != nil {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return "http://" + match[1]
		}
	}
	t.Fatal("stripe-mock names no address")
	return ""
}

// shapes asks stripe-mock about every shape of request that it passes on to the sandbox.
type shapes struct {
	next  http.Handler
	mocks []string
	mutex sync.Mutex
	seen  map[string]string // shape: what a mock said
}

var anID = regexp.MustCompile(`(cus|sub|in|ch|pi|dp|acct)_\w+|\d{9,}`)

func (s *shapes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v1/") {
		shape := anID.ReplaceAllString(r.URL.RequestURI(), "$1")
		s.mutex.Lock()
		if _, known := s.seen[shape]; !known {
			for _, mock := range s.mocks {
				s.seen[shape] += s.ask(r, mock)
			}
		}
		s.mutex.Unlock()
	}
	s.next.ServeHTTP(w, r)
}

func (s *shapes) ask(r *http.Request, mock string) string {
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, mock+r.URL.RequestURI(), nil)
	if err != nil {
		return err.Error()
	}
	request.Header = r.Header.Clone()
	// the mock takes no other kind of key
	request.Header.Set("Authorization", "Bearer sk_test_shapes")
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, 500))
	return response.Status + " " + string(text)
}

// Every request that an audit, a webhook and a refresh make is one that Stripe's document allows.
func TestRequestsAreStripes(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Charges: 3000})
	watch := &shapes{next: b.world, seen: make(map[string]string)}
	for _, m := range stripeMocks {
		watch.mocks = append(watch.mocks, startMock(t, m.folder, m.modules, m.check))
	}
	server := httptest.NewServer(watch)
	defer server.Close()
	b.connect = connect.New(connect.Config{
		SecretKey: sandbox.SecretKey, ClientID: sandbox.ClientID, APIBase: server.URL, ConnectBase: server.URL, Log: b.s.log,
	}, b.pool)
	b.s = New(b.pool, b.connect, b.s.log)
	since := time.Now().AddDate(0, -2, 0)
	id, err := b.s.StartAudit(t.Context(), b.merchant, &since)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.queue().RunOne(t.Context(), b.merchant, id); err != nil {
		t.Fatal(err)
	}
	b.audit()
	invoice := b.turn("fail_renewal", "")
	b.receive(b.event("invoice.payment_failed", invoice))
	b.receive(b.event("charge.dispute.created", b.turn("dispute", "")))
	b.receive(b.event("charge.refunded", b.turn("refund", "")))
	b.runTasks()
	lists := 0
	for _, shape := range slices.Sorted(maps.Keys(watch.seen)) {
		if answer := watch.seen[shape]; answer != "" {
			t.Errorf("GET %s: %s", shape, answer)
		}
		if strings.Contains(shape, "limit=") {
			lists++
		}
	}
	if lists < 12 {
		t.Errorf("only %d shapes of lists were seen: %v", lists, slices.Sorted(maps.Keys(watch.seen)))
	}
	t.Logf("%d shapes of requests, %d of them of lists", len(watch.seen), lists)
	// The mocks can refuse.
	for _, path := range []string{"/v1/invoices?no_such=1", "/v1/charges?limit=abc", "/v1/subscriptions?status=asleep"} {
		for i, mock := range watch.mocks {
			request := httptest.NewRequest(http.MethodGet, path, nil)
			request.Header.Set("Stripe-Version", stripe.APIVersion)
			if watch.ask(request, mock) == "" {
				t.Errorf("mock %d accepts %s: it proves nothing", i, path)
			}
		}
	}
	request := httptest.NewRequest(http.MethodGet, "/v1/invoices", nil)
	request.Header.Set("Stripe-Version", "2025-03-31")
	if watch.ask(request, watch.mocks[0]) == "" {
		t.Error("stripe-mock accepts any version: it proves nothing")
	}
}

// In newer versions of Stripe's API a charge names its invoice by the payment intent alone.
func TestMemoryKnowsInvoicesByTheirIntents(t *testing.T) {
	t.Parallel()
	now := time.Now()
	charges := []charge{ // the newest first
		{id: "ch_2", intent: "pi_2", status: "failed", created: now.Add(-time.Hour).Unix(), declineCode: "insufficient_funds"},
		{id: "ch_1", intent: "pi_1", status: "failed", created: now.Add(-50 * time.Hour).Unix(), declineCode: "insufficient_funds"},
		{id: "ch_0", invoice: "in_0", status: "succeeded", created: now.Add(-900 * time.Hour).Unix()},
	}
	m := remembered([]invoice{{ID: "in_1", payments: []string{"pi_1", "pi_2"}}}, charges, now)
	if len(m.Charges) != 3 || len(m.Failures("in_1")) != 2 || len(m.Failures("pi_1")) != 0 {
		t.Errorf("%+v", m)
	}
}
