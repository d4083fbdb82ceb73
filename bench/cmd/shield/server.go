package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"phantom/shield"
	"phantom/verdict"
	"phantom/web"
)

const key = "phs_0123456789012345678901234567890123456789012"

// table is a merchant with so many subscriptions, of which one in a hundred has less than full
// access.
func table(subscriptions int) (*verdict.Table, error) {
	t := verdict.NewTable()
	policy := shield.Default()
	policy.Mode = shield.Enforce
	tenant := shield.Tenant{ID: uuid.New(), Account: "acct_bench", Policy: policy, Version: 1, Revision: 4812}
	err := t.Load("7c1f02aa", []shield.Tenant{tenant}, true, func(add func(uuid.UUID, shield.Row)) error {
		for i := range subscriptions {
			add(tenant.ID, row(i))
		}
		return nil
	})
	hash := sha256.Sum256([]byte(key))
	t.SetKeys(uuid.Nil, []shield.TenantKey{{Merchant: tenant.ID, ID: uuid.New(), Hash: hash[:]}})
	return t, err
}

// name is an id as Stripe makes them.
func name(prefix string, i, length int) string {
	text := fmt.Sprintf("%016x", uint64(i)*0x9e3779b97f4a7c15)
	for len(text) < length {
		text += "Xq"
	}
	return prefix + text[:length]
}

func row(i int) shield.Row {
	r := shield.Row{
		Subscription: name("sub_", i, 24), Customer: name("cus_", i, 14), Product: "prod_N1xYz2AbCdEfGh", Level: shield.Full, Reason: shield.ByPayment,
		Since: 1764000000 + int64(i),
	}
	if i%100 == 0 {
		r.Level, r.Reason, r.InDebt = shield.Limited, shield.ByFailure, true
	}
	return r
}

// serve is a process that answers: hello, the hello-world server of net/http with the time-outs of
// ours, or shield, ours as it is in production.
func serve(what string) error {
	listener, err := web.Listen(context.Background(), "127.0.0.1", 0)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	if what == "hello" {
		mux := http.NewServeMux()
		mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				_, _ = io.ReadAll(r.Body)
			}
			_, _ = io.WriteString(w, "hello, world")
		})
		server := &http.Server{
			ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 60 * time.Second,
			Handler: mux,
		}
		return server.Serve(listener)
	}
	subscriptions, err := strconv.Atoi(strings.TrimPrefix(what, "shield:"))
	if err != nil {
		return err
	}
	t, err := table(subscriptions)
	if err != nil {
		return err
	}
	go func() {
		for {
			t.Synced()
			time.Sleep(time.Second)
		}
	}()
	handler := verdict.New(verdict.Config{Table: t, PublicURL: "http://127.0.0.1"})
	return web.New(web.Config{Verdicts: handler, Log: slog.New(slog.DiscardHandler)}).Serve(context.Background(), listener)
}

// process is a server that runs.
type process struct {
	command *exec.Cmd
	address string
}

func start(what string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{command: exec.Command(self, "serve", what)}
	p.command.Stderr = os.Stderr
	out, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	p.address = "127.0.0.1:" + strings.TrimSpace(line)
	return p, nil
}

func (p *process) stop() error {
	_ = p.command.Process.Signal(syscall.SIGKILL)
	_ = p.command.Wait()
	return nil
}

// cpu is how much the process has used, user and system.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.command.Process.Pid) + "/stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	// They are in clock ticks, a hundred a second.
	return time.Duration(user+system) * 10 * time.Millisecond, err
}
