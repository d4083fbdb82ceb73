package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// The peers' programs, where they are installed.
var opaProgram, openfgaProgram string

// peers measures how OPA and OpenFGA answer the same question: may this customer use this feature?
// Each has its customers in memory, and is asked by its own HTTP API.
func peers(_ context.Context, s size) ([]bar, error) {
	if opaProgram == "" && openfgaProgram == "" {
		fmt.Println("peers: not asked for: -opa and -openfga name their programs")
		return nil, nil
	}
	folder, err := os.MkdirTemp("", "phantom-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	servers, stop, err := both(s)
	if err != nil {
		return nil, err
	}
	defer stop()
	customer := func(i int) string { return name("cus_", i%s.subscriptions, 14) }
	all := []question{questions(s.subscriptions)[4]}
	if opaProgram != "" {
		if servers["opa"], err = startOPA(folder, s.subscriptions); err != nil {
			return nil, fmt.Errorf("opa: %w", err)
		}
		all = append(all, question{"opa", "opa", func(i int) []byte {
			return post("/v1/data/access/allow", `{"input":{"customer":"`+customer(i)+`","feature":"login"}}`)
		}})
	}
	if openfgaProgram != "" {
		var store string
		known := min(s.subscriptions, mostTuples)
		if servers["openfga"], store, err = startOpenFGA(known); err != nil {
			return nil, fmt.Errorf("openfga: %w", err)
		}
		all = append(all, question{"openfga", "openfga", func(i int) []byte {
			return post("/stores/"+store+"/check", `{"tuple_key":{"user":"customer:`+customer(i%known)+`","relation":"allowed","object":"feature:login"}}`)
		}})
	}
	cpu, rate, err := inTurns(servers, all, s)
	if err != nil {
		return nil, err
	}
	var bars []bar
	for _, peer := range []struct {
		name string
		want float64
	}{{"openfga", 5}, {"opa", 2.5}} {
		if len(cpu[peer.name]) > 0 {
			bars = append(bars, bar{"AuthZEN: its CPU to ours, " + peer.name, median(cpu[peer.name]) / median(cpu["authzen"]), true, peer.want, ""},
				bar{"AuthZEN: our rate to its, " + peer.name, median(rate["authzen"]) / median(rate[peer.name]), true, peer.want, ""})
		}
	}
	return bars, nil
}

// mostTuples bounds how many customers OpenFGA knows: its memory looks at all that it has for each
// that is written, and took over ten minutes for 100,000. Fewer make it quicker, not slower.
const mostTuples = 5_000

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

// startPeer starts a program, and waits until it answers at its address.
func startPeer(address, path, program string, args ...string) (*process, error) {
	p := &process{command: exec.Command(program, args...), address: address}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	for range 600 {
		response, err := http.Get("http://" + address + path) //nolint:noctx // a loopback
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return p, nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, errors.Join(errors.New("it does not answer"), p.stop())
}

func startOPA(folder string, customers int) (*process, error) {
	levels := make(map[string]string, customers)
	for i := range customers {
		levels[row(i).Customer] = string(row(i).Level)
	}
	data, err := json.Marshal(map[string]any{
		"levels": levels, "features": map[string]any{"limited": map[string]bool{"login": true, "export": true, "billing": true}, "blocked": map[string]bool{"billing": true}},
	})
	if err != nil {
		return nil, err
	}
	const policy = `package access

default allow := false

allow if data.levels[input.customer] in {"full", "notice", "grace"}

allow if data.features[data.levels[input.customer]][input.feature]

allow if not data.levels[input.customer]
`
	if err := os.WriteFile(filepath.Join(folder, "data.json"), data, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(folder, "policy.rego"), []byte(policy), 0o600); err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	return startPeer(address, "/health", opaProgram, "run", "--server", "--addr", address, "--log-level", "error", "--disable-telemetry",
		filepath.Join(folder, "data.json"), filepath.Join(folder, "policy.rego"))
}

func startOpenFGA(customers int) (p *process, store string, err error) {
	address, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	grpc, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	p, err = startPeer(address, "/healthz", openfgaProgram, "run", "--datastore-engine", "memory", "--http-addr", address, "--grpc-addr", grpc,
		"--playground-enabled=false", "--metrics-enabled=false", "--log-level", "none", "--http-upstream-timeout", "30s")
	if err != nil {
		return nil, "", err
	}
	send := func(path, body string) (answer map[string]any, err error) {
		response, err := http.Post("http://"+address+path, "application/json", bytes.NewReader([]byte(body))) //nolint:noctx // a loopback
		if err != nil {
			return nil, err
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode >= 300 {
			return nil, errors.Join(err, fmt.Errorf("%s: %d %s", path, response.StatusCode, text))
		}
		return answer, json.Unmarshal(text, &answer)
	}
	fill := func() error {
		made, err := send("/stores", `{"name":"bench"}`)
		if err != nil {
			return err
		}
		store, _ = made["id"].(string)
		if _, err := send("/stores/"+store+"/authorization-models", `{"schema_version":"1.1","type_definitions":[{"type":"customer"},{"type":"feature",
			"relations":{"allowed":{"this":{}}},"metadata":{"relations":{"allowed":{"directly_related_user_types":[{"type":"customer"}]}}}}]}`); err != nil {
			return err
		}
		const atOnce = 100
		for from := 0; from < customers; from += atOnce {
			var keys bytes.Buffer
			for i := from; i < min(from+atOnce, customers); i++ {
				if i > from {
					_ = keys.WriteByte(',')
				}
				_, _ = keys.WriteString(`{"user":"customer:` + row(i).Customer + `","relation":"allowed","object":"feature:login"}`)
			}
			if _, err := send("/stores/"+store+"/write", `{"writes":{"tuple_keys":[`+keys.String()+`]}}`); err != nil {
				return fmt.Errorf("after "+strconv.Itoa(from)+": %w", err)
			}
		}
		return nil
	}
	if err := fill(); err != nil {
		return nil, "", errors.Join(err, p.stop())
	}
	return p, store, nil
}
