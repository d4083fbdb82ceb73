package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// question is a way to ask, as bytes on a connection.
type question struct {
	name  string
	of    string // hello or shield
	bytes func(i int) []byte
}

func get(path, headers string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + key + "\r\n" + headers + "\r\n")
}

func post(path, body string) []byte {
	return []byte("POST " + path + " HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + key + "\r\nContent-Type: application/json\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}

func evaluation(customer string) string {
	return `{"subject":{"type":"customer","id":"` + customer + `"},"action":{"name":"access"},"resource":{"type":"feature","id":"login"}}`
}

// questions are all ways; customers are drawn among so many.
func questions(subscriptions int) []question {
	customer := func(i int) string { return name("cus_", i%subscriptions, 14) }
	return []question{
		{"hello", "hello", func(int) []byte { return get("/", "") }},
		{"path", "shield", func(i int) []byte { return get("/api/shield/customers/"+customer(i), "") }},
		{"auth", "shield", func(i int) []byte { return get("/api/shield/auth", "Shield-Customer: "+customer(i)+"\r\n") }},
		{"hello, POST", "hello", func(i int) []byte { return post("/", evaluation(customer(i))) }},
		{"authzen", "shield", func(i int) []byte { return post("/access/v1/evaluation", evaluation(customer(i))) }},
		{"authzen, a batch of 100", "shield", func(i int) []byte {
			var items []string
			for n := range 100 {
				items = append(items, `{"subject":{"type":"customer","id":"`+customer(i+n)+`"}}`)
			}
			return post("/access/v1/evaluations", `{"action":{"name":"access"},"resource":{"type":"feature","id":"login"},"evaluations":[`+strings.Join(items, ",")+`]}`)
		}},
	}
}

// prepared are so many requests, made before they are sent.
func (q question) prepared(n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = q.bytes(rand.IntN(1 << 20))
	}
	return all
}

// client is a connection that asks and waits.
type client struct {
	conn   net.Conn
	reader *bufio.Reader
}

func dial(address string) (*client, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &client{conn, bufio.NewReaderSize(conn, 16<<10)}, nil
}

var errStatus = errors.New("the answer is not 200 or 403")

// ask sends one request and reads its answer to the end.
func (c *client) ask(request []byte) error {
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return err
	}
	if status := string(line[9:12]); status != "200" && status != "403" {
		return fmt.Errorf("%w: %s", errStatus, status)
	}
	length, chunked := 0, false
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if value, is := strings.CutPrefix(string(line), "Content-Length: "); is {
			length, _ = strconv.Atoi(strings.TrimSpace(value))
		}
		chunked = chunked || strings.HasPrefix(string(line), "Transfer-Encoding")
	}
	if chunked {
		return errors.New("the answer comes in chunks")
	}
	_, err = c.reader.Discard(length)
	return err
}

const connections = 16

// load asks for a while over several connections, and says how often.
func load(p *process, q question, d time.Duration) (asked int64, err error) {
	var group sync.WaitGroup
	var total atomic.Int64
	var failed atomic.Pointer[error]
	end := time.Now().Add(d)
	for range connections {
		requests := q.prepared(256)
		group.Go(func() {
			c, err := dial(p.address)
			if err == nil {
				defer func() { _ = c.conn.Close() }()
				n := 0
				for ; err == nil && (n%64 != 0 || time.Now().Before(end)); n++ {
					err = c.ask(requests[n%len(requests)])
				}
				total.Add(int64(n))
			}
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return total.Load(), nil
}

// both starts a hello and a shield.
func both(s size) (map[string]*process, func(), error) {
	all := map[string]*process{}
	stop := func() {
		for _, p := range all {
			_ = p.stop()
		}
	}
	for of, what := range map[string]string{"hello": "hello", "shield": "shield:" + strconv.Itoa(s.subscriptions)} {
		p, err := start(what)
		if err != nil {
			stop()
			return nil, nil, err
		}
		all[of] = p
		if of == "shield" {
			if err := ready(p.address); err != nil {
				stop()
				return nil, nil, err
			}
		}
	}
	return all, stop, nil
}

func ready(address string) error {
	for range 600 {
		response, err := http.Get("http://" + address + "/readyz/shield") //nolint:noctx // a loopback
		if err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("the server is not ready")
}

// requests measures CPU for each request and requests a second, in turns.
func requests(_ context.Context, s size) ([]bar, error) {
	servers, stop, err := both(s)
	if err != nil {
		return nil, err
	}
	defer stop()
	all := questions(s.subscriptions)
	cpu, rate, err := inTurns(servers, all, s)
	if err != nil {
		return nil, err
	}
	of := func(a, b string) float64 { return median(cpu[a]) / max(median(cpu[b]), 1e-9) }
	by := func(a, b string) float64 { return median(rate[a]) / max(median(rate[b]), 1e-9) }
	return []bar{
		{"path: hello's CPU to ours", of("hello", "path"), true, 0.95, ""},
		{"path: our rate to hello's", by("path", "hello"), true, 0.90, ""},
		{"auth: hello's CPU to ours", of("hello", "auth"), true, 0.95, ""},
		{"auth: our rate to hello's", by("auth", "hello"), true, 0.90, ""},
		{"AuthZEN: GET hello's CPU to ours", of("hello", "authzen"), true, 0.85, ""},
		{"AuthZEN: POST hello's CPU to ours", of("hello, POST", "authzen"), true, 0.95, ""},
		{"AuthZEN, 100 at once: hellos that it costs", of("authzen, a batch of 100", "hello"), false, 6, ""},
	}, nil
}

// inTurns asks all questions in each round, and returns for each the CPU in microseconds and how
// many were answered in a second.
func inTurns(servers map[string]*process, all []question, s size) (cpu, rate map[string][]float64, err error) {
	cpu, rate = map[string][]float64{}, map[string][]float64{}
	for round := range s.rounds {
		for turn := range all {
			q := all[(round+turn)%len(all)]
			p := servers[q.of]
			if _, err := load(p, q, time.Duration(s.seconds*float64(time.Second)/10)); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", q.name, err)
			}
			before, err := p.cpu()
			if err != nil {
				return nil, nil, err
			}
			began := time.Now()
			n, err := load(p, q, time.Duration(s.seconds*float64(time.Second)))
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", q.name, err)
			}
			took := time.Since(began)
			after, err := p.cpu()
			if err != nil {
				return nil, nil, err
			}
			cpu[q.name] = append(cpu[q.name], float64((after-before).Microseconds())/float64(n))
			rate[q.name] = append(rate[q.name], float64(n)/took.Seconds())
		}
	}
	fmt.Printf("%d subscriptions, %d connections, medians of %d rounds of %.3g s\n\n| question | CPU, µs | requests a second |\n| --- | --- | --- |\n",
		s.subscriptions, connections, s.rounds, s.seconds)
	for _, q := range all {
		fmt.Printf("| %s | %.1f | %.0f |\n", q.name, median(cpu[q.name]), median(rate[q.name]))
	}
	return cpu, rate, nil
}

// latency measures the slowest percent at a fixed rate.
func latency(_ context.Context, s size) ([]bar, error) {
	servers, stop, err := both(s)
	if err != nil {
		return nil, err
	}
	defer stop()
	all := questions(s.subscriptions)
	p99 := map[string][]float64{}
	for round := range s.rounds {
		for turn := range 5 { // without the batch
			q := all[(round+turn)%5]
			got, err := paced(servers[q.of], q, s)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", q.name, err)
			}
			p99[q.name] = append(p99[q.name], got)
		}
	}
	fmt.Printf("%d requests a second, medians of %d\n\n| question | p99, µs |\n| --- | --- |\n", s.rate, s.rounds)
	for _, q := range all[:5] {
		fmt.Printf("| %s | %.0f |\n", q.name, median(p99[q.name]))
	}
	return []bar{
		{"path: p99 to hello's", median(p99["path"]) / median(p99["hello"]), false, 1.25, ""},
		{"auth: p99 to hello's", median(p99["auth"]) / median(p99["hello"]), false, 1.25, ""},
		{"AuthZEN: p99 to hello's", median(p99["authzen"]) / median(p99["hello"]), false, 1.35, ""},
	}, nil
}

// paced asks at a rate, and returns the p99 in microseconds, from when each was to be sent.
func paced(p *process, q question, s size) (float64, error) {
	n := int(float64(s.rate) * s.seconds)
	each := time.Second * connections / time.Duration(s.rate)
	taken := make([][]float64, connections)
	var group sync.WaitGroup
	var failed atomic.Pointer[error]
	begin := time.Now().Add(20 * time.Millisecond)
	for i := range connections {
		requests := q.prepared(256)
		group.Go(func() {
			c, err := dial(p.address)
			if err != nil {
				failed.Store(&err)
				return
			}
			defer func() { _ = c.conn.Close() }()
			for k := range n / connections {
				at := begin.Add(time.Duration(k)*each + each*time.Duration(i)/connections)
				time.Sleep(time.Until(at))
				sent := time.Now() // sleeping is not exact, and the same for all
				if err := c.ask(requests[k%len(requests)]); err != nil {
					failed.Store(&err)
					return
				}
				taken[i] = append(taken[i], float64(time.Since(sent).Microseconds()))
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	all := slices.Concat(taken...)
	slices.Sort(all)
	return all[len(all)*99/100], nil
}

func median(all []float64) float64 {
	all = slices.Clone(all)
	slices.Sort(all)
	if len(all) == 0 {
		return 0
	}
	return all[len(all)/2]
}
