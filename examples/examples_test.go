// Package examples runs the examples of apps and proxies that ask PHANTOM.
package examples

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"phantom/shield"
	"phantom/verdict"
)

const (
	key    = "phs_of_the_example"
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// patience is for how long the right answer is waited for: who asks lets everybody in where PHANTOM
// does not answer within half a second, as on a machine that is busy.
const patience = 10 * time.Second

// phantom is a server that answers about access, and that can go away. It knows cus_full,
// cus_blocked and cus_late, who has access at first.
type phantom struct {
	table  *verdict.Table
	tenant shield.Tenant
	away   atomic.Bool
	server *httptest.Server
}

func newPhantom(t *testing.T) *phantom {
	t.Helper()
	policy := shield.Default()
	policy.Mode = shield.Enforce
	p := &phantom{table: verdict.NewTable(), tenant: shield.Tenant{ID: uuid.New(), Account: "acct_1", Policy: policy, Version: 1, Revision: 1}}
	if err := p.table.Load("0a1b2c3d", []shield.Tenant{p.tenant}, true, func(add func(uuid.UUID, shield.Row)) error {
		add(p.tenant.ID, shield.Row{Subscription: "sub_1", Customer: "cus_full", Level: shield.Full, Reason: shield.ByPayment})
		add(p.tenant.ID, shield.Row{Subscription: "sub_2", Customer: "cus_blocked", Level: shield.Blocked, Reason: shield.ByFailure})
		add(p.tenant.ID, shield.Row{Subscription: "sub_3", Customer: "cus_late", Level: shield.Grace, Reason: shield.ByFailure})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte(key))
	p.table.SetKeys(uuid.Nil, []shield.TenantKey{{Merchant: p.tenant.ID, ID: uuid.New(), Hash: hash[:]}})
	handler := verdict.New(verdict.Config{Table: p.table})
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		p.table.Synced()
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(p.server.Close)
	return p
}

func (p *phantom) block(customer, subscription string) {
	p.table.Apply(p.tenant.ID, 2, []shield.Row{{Subscription: subscription, Customer: customer, Level: shield.Blocked, Reason: shield.ByFailure}})
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// output is what a program says, which is read while it runs.
type output struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.text.String()
}

// run starts a program that listens on port, and ends it with the test.
func run(t *testing.T, port string, env []string, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c, out, ended := exec.CommandContext(ctx, program, args...), &output{}, make(chan struct{})
	c.Env, c.Stdout, c.Stderr, c.WaitDelay = append(os.Environ(), env...), out, out, 5*time.Second
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = c.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s has ended: %s", program, out)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %s", program, out)
		}
	}
}

// ask makes a request of a customer's, and returns the status.
func ask(t *testing.T, port, path, customer string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Customer", customer)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func find(t *testing.T, programs ...string) string {
	t.Helper()
	for _, program := range programs {
		if path, err := exec.LookPath(program); err == nil {
			return path
		}
	}
	if programs[0] == "node" && os.Getenv("CI") == "true" {
		t.Fatal("CI needs node for this test")
	}
	t.Skipf("%s is not installed", programs[0])
	return ""
}

// Each app lets in and keeps out as PHANTOM says, goes by what it knows while PHANTOM is away, and
// takes only events that are genuine.
func TestApps(t *testing.T) {
	t.Parallel()
	for name, command := range map[string][]string{
		"app.mjs": {"node", "app.mjs"}, "app.py": {"python3", "app.py"}, "app.rb": {"ruby", "app.rb"}, "app.go": {"go", "run", "app.go"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program, p, port := find(t, command[0]), newPhantom(t), freePort(t)
			if command[0] == "go" { // so that the program itself gets the signal that ends it
				program, command = filepath.Join(t.TempDir(), "app"), []string{""}
				if out, err := exec.Command("go", "build", "-o", program, name).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			if command[0] == "ruby" && exec.Command(program, "-e", `require "webrick"; require "base64"`).Run() != nil {
				t.Skip("webrick is not installed")
			}
			run(t, port, []string{"SHIELD_URL=" + p.server.URL, "SHIELD_KEY=" + key, "WEBHOOK_SECRET=" + secret, "PORT=" + port}, program, command[1:]...)
			wants := func(when, customer string, want int) {
				t.Helper()
				for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
					status, _ := ask(t, port, "/", customer)
					if status == want {
						return
					}
					if time.Now().After(end) {
						t.Errorf("%s: %s is answered %d, want %d", when, customer, status, want)
						return
					}
				}
			}
			wants("at first", "cus_full", 200)
			wants("at first", "cus_blocked", 402)
			wants("at first", "cus_late", 200)
			wants("at first", "cus_nobody_knows", 200)
			wants("at first", "", 401)

			p.away.Store(true)
			wants("away", "cus_full", 200)
			wants("away", "cus_blocked", 402)
			wants("away", "cus_new", 200)
			p.away.Store(false)

			p.block("cus_late", "sub_3")
			event := `{"type": "access.changed", "data": {"customer": "cus_late"}}`
			now := time.Now()
			for _, test := range []struct {
				name, body, id string
				at             time.Time
				spoil          func(http.Header)
				want           int
			}{
				{"no signature", event, "msg_1", now, func(h http.Header) { h.Del("webhook-signature") }, 400},
				{"another body", event, "msg_1", now, func(h http.Header) { h.Set("webhook-signature", sign(t, "msg_1", now, event+" ")) }, 400},
				{"another id", event, "msg_1", now, func(h http.Header) { h.Set("webhook-id", "msg_2") }, 400},
				{"an old one", event, "msg_1", now.Add(-time.Hour), nil, 400},
				{"no time", event, "msg_1", now, func(h http.Header) { h.Set("webhook-timestamp", "now") }, 400},
				{"v1a alone", event, "msg_1", now, func(h http.Header) {
					h.Set("webhook-signature", strings.Replace(h.Get("webhook-signature"), "v1,", "v1a,", 1))
				}, 400},
				{"genuine, with v1a before it", event, "msg_1", now, func(h http.Header) {
					h.Set("webhook-signature", "v1a,AAAA "+h.Get("webhook-signature"))
				}, 204},
				{"genuine", event, "msg_1", now, nil, 204},
				{"another type", `{"type": "endpoint.test", "data": {}}`, "msg_3", now, nil, 204},
			} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1:"+port+"/hooks", strings.NewReader(test.body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("webhook-id", test.id)
				r.Header.Set("webhook-timestamp", strconv.FormatInt(test.at.Unix(), 10))
				r.Header.Set("webhook-signature", sign(t, test.id, test.at, test.body))
				if test.spoil != nil {
					test.spoil(r.Header)
				}
				response, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				if response.StatusCode != test.want {
					t.Errorf("an event, %s: %d, want %d", test.name, response.StatusCode, test.want)
				}
			}
			p.away.Store(true)
			wants("away, after the event", "cus_late", 402)
		})
	}
}

func sign(t *testing.T, id string, at time.Time, body string) string {
	t.Helper()
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := hook.Sign(id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// A real nginx lets in and keeps out as PHANTOM says, and lets everybody in while PHANTOM is away
// or refuses nginx's own key.
func TestNginx(t *testing.T) {
	t.Parallel()
	nginx := find(t, "nginx", "/usr/sbin/nginx")
	p := newPhantom(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the app sees a key")
		}
		_, _ = w.Write([]byte("app:" + r.Header.Get("Shield-Level")))
	}))
	defer app.Close()
	start := func(phantomAddress, withKey string) (port string) {
		t.Helper()
		port = freePort(t)
		text, err := os.ReadFile("nginx.conf")
		if err != nil {
			t.Fatal(err)
		}
		folder := t.TempDir()
		// What needs root, and what another nginx on this machine uses, goes to a folder.
		config := "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\n" + strings.NewReplacer(
			"127.0.0.1:8081", phantomAddress, "127.0.0.1:3000", strings.TrimPrefix(app.URL, "http://"), "127.0.0.1:8080", "127.0.0.1:"+port,
			"phs_your_key", withKey, "http {", "http {\n    access_log off;\n    client_body_temp_path body;\n    proxy_temp_path proxy;\n"+
				"    fastcgi_temp_path fastcgi;\n    uwsgi_temp_path uwsgi;\n    scgi_temp_path scgi;\n",
		).Replace(string(text))
		if err := os.WriteFile(filepath.Join(folder, "nginx.conf"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, port, nil, nginx, "-p", folder, "-c", "nginx.conf", "-e", "stderr")
		return port
	}
	address := strings.TrimPrefix(p.server.URL, "http://")
	good, wrongKey, nobody := start(address, key), start(address, "phs_wrong"), start("127.0.0.1:"+freePort(t), key)
	for _, test := range []struct {
		name, port, path, customer string
		status                     int
		body                       string
	}{
		{"full", good, "/", "cus_full", 200, "app:full"},
		{"grace", good, "/any/path?x=1", "cus_late", 200, "app:grace"},
		{"blocked", good, "/", "cus_blocked", 403, "billing page"},
		{"blocked, at the billing page", good, "/billing/", "cus_blocked", 200, "app:"},
		{"unknown", good, "/", "cus_nobody_knows", 200, "app:full"},
		{"no customer", good, "/", "", 200, "app:"},
		{"no id", good, "/", "a b", 200, "app:"},
		{"a wrong key", wrongKey, "/", "cus_blocked", 200, "app:"},
		{"nobody there", nobody, "/", "cus_blocked", 200, "app:"},
	} {
		for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			status, body := ask(t, test.port, test.path, test.customer)
			if status == test.status && strings.Contains(body, test.body) {
				break
			}
			if time.Now().After(end) {
				t.Errorf("%s: %d %s", test.name, status, body)
				break
			}
		}
	}
	p.away.Store(true)
	if status, body := ask(t, good, "/", "cus_blocked"); status != 200 || body != "app:" {
		t.Errorf("away: %d %s", status, body)
	}
}

// The other proxies' configurations name what PHANTOM has.
func TestProxiesNameTheRoute(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"nginx.conf", "traefik.yml", "envoy.yaml"} {
		text, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) || !strings.Contains(string(text), "/api/shield/auth") || !strings.Contains(string(text), "phs_your_key") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
