package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"phantom/app"
	"phantom/db/dbtest"
)

const bootLine = "[SECURITY] Vault self-test passed: AES-256-GCM Active"

// binary is the real program, as make build builds it.
var binary string

func TestMain(m *testing.M) {
	if text := os.Getenv(leaseEnv); text != "" {
		var err error
		if app.Lease, err = time.ParseDuration(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		main()
		os.Exit(0)
	}
	os.Exit(withBinary(m))
}

func withBinary(m *testing.M) int {
	folder, err := os.MkdirTemp("", "phantom-binary-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(folder) }()
	binary = filepath.Join(folder, "phantom")
	build := exec.Command("make", "build", "BIN="+binary, "VERSION=test")
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, output)
		return 1
	}
	return dbtest.Main(m)
}

// environ is the environment of a process: nothing of this one's but PATH.
func environ(variables map[string]string) []string {
	list := []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range variables {
		list = append(list, name+"="+value)
	}
	return list
}

// process is a running binary.
type process struct {
	command        *exec.Cmd
	stdout, stderr *transcript
	exited         chan struct{}
	err            error // of Wait, once exited is closed
}

// start runs the binary and ends it with the test. Adjust may change the command before it starts.
func start(t testing.TB, variables map[string]string, args []string, adjust ...func(*exec.Cmd)) *process {
	t.Helper()
	p := &process{command: exec.Command(binary, args...), stdout: newTranscript(), stderr: newTranscript(), exited: make(chan struct{})}
	p.command.Env = environ(variables)
	p.command.Dir = t.TempDir()
	p.command.Stdout, p.command.Stderr = p.stdout, p.stderr
	for _, change := range adjust {
		change(p.command)
	}
	endsWithUs(p.command)
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // which must live as long as the process
		defer runtime.UnlockOSThread()
		err := p.command.Start()
		started <- err
		if err == nil {
			p.err = p.command.Wait()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.command.Process.Kill()
		<-p.exited
	})
	return p
}

// wait returns the exit code once the process has ended.
func (p *process) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(time.Minute):
		t.Fatalf("the process does not end\n%s%s", p.stdout, p.stderr)
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		t.Fatal(p.err)
	}
	return p.command.ProcessState.ExitCode()
}

func (p *process) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// awaitLine returns once the process has written text to standard output.
func (p *process) awaitLine(t testing.TB, text string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !strings.Contains(p.stdout.String(), text) {
		select {
		case <-p.stdout.changed:
		case <-p.exited:
			if strings.Contains(p.stdout.String(), text) {
				return
			}
			t.Fatalf("the process ended (%v) without saying %q\n%s%s", p.err, text, p.stdout, p.stderr)
		case <-deadline:
			t.Fatalf("the process does not say %q\n%s%s", text, p.stdout, p.stderr)
		}
	}
}

// transcript keeps what a process writes and announces each change.
type transcript struct {
	mutex   sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newTranscript() *transcript { return &transcript{changed: make(chan struct{}, 1)} }

func (s *transcript) Write(text []byte) (int, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.text.Write(text)
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return len(text), nil
}

func (s *transcript) String() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.text.String()
}

// freePort returns a port that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}

// production starts the sandbox as a process of its own and returns the environment of a server
// outside dev mode that uses it and the database at url.
func production(t testing.TB, url string) map[string]string {
	t.Helper()
	sandbox := start(t, nil, []string{"sandbox", "-addr", "127.0.0.1:0"})
	sandbox.awaitLine(t, "\n")
	variables := map[string]string{"PORT": freePort(t), "DATABASE_URL": url, "ENCRYPTION_KEY": dbtest.Key}
	for field := range strings.FieldsSeq(sandbox.stdout.String()) {
		name, value, _ := strings.Cut(field, "=")
		variables[name] = value
	}
	return variables
}

// ready starts the server and waits until it answers.
func ready(t testing.TB, variables map[string]string, adjust ...func(*exec.Cmd)) (*process, string) {
	t.Helper()
	server := start(t, variables, nil, adjust...)
	server.awaitLine(t, "[SERVER] ready")
	return server, "http://localhost:" + variables["PORT"]
}

// browser is an HTTP client with cookies of its own.
func browser(t testing.TB) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Jar: jar, Transport: transport, Timeout: 30 * time.Second}
}

// loopback is this machine as a trusted proxy, for tests that begin more handshakes than one
// address may: each [get] is another client's.
const loopback = "127.0.0.0/8,::1/128"

var clients atomic.Uint32

// get returns status and body.
func get(client *http.Client, url string) (int, string, error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	number := clients.Add(1)
	request.Header.Set("X-Forwarded-For", fmt.Sprintf("198.18.%d.%d", byte(number>>8), byte(number)))
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

const success = `{"status":"success","message":"Merchant Authorized"}`

// handshake clicks the link and follows it to the end.
func handshake(t testing.TB, base string) {
	t.Helper()
	status, body, err := get(browser(t), base+"/api/auth/stripe")
	if err != nil || status != http.StatusOK || body != success {
		t.Fatalf("handshake: %d %q, %v", status, body, err)
	}
}
