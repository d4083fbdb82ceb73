// Command process measures the built binary as a whole: how long from start to ready on a running,
// migrated database, beside `phantom version`; the resident memory at rest; the size. It takes the
// binary's path and ends with 1 if a bar is missed.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"phantom/db"
	"phantom/db/local"
)

const (
	startBar  = 60 * time.Millisecond // beyond phantom version
	memoryBar = 30.0                  // MB resident at rest
	binaryBar = 25.0                  // MB
	key       = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: process PATH-OF-THE-BINARY")
		os.Exit(2)
	}
	met, err := measure(context.Background(), os.Args[1], 11, 3*time.Second)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if !met {
		os.Exit(1)
	}
}

// measure starts the binary so many times, and lets it rest for a while each time.
func measure(ctx context.Context, binary string, rounds int, rest time.Duration) (met bool, err error) {
	folder, err := os.MkdirTemp("", "phantom-bench-")
	if err != nil {
		return false, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	if err := os.Chmod(folder, 0o755); err != nil { // PostgreSQL may run as another user
		return false, err
	}
	database, err := local.Start(ctx, local.Config{Dir: filepath.Join(folder, "postgres"), Unsafe: true})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, database.Stop(ctx)) }()
	if _, err := db.Migrate(ctx, database.URL(), slog.New(slog.DiscardHandler)); err != nil {
		return false, err
	}

	var version, ready []time.Duration
	var memory []float64
	for range rounds {
		started := time.Now()
		if err := exec.CommandContext(ctx, binary, "version").Run(); err != nil {
			return false, err
		}
		version = append(version, time.Since(started))
		took, resident, err := serve(ctx, binary, database.URL(), rest)
		if err != nil {
			return false, err
		}
		ready, memory = append(ready, took), append(memory, resident)
	}
	info, err := os.Stat(binary)
	if err != nil {
		return false, err
	}
	size := float64(info.Size()) / 1e6
	beyond := median(ready) - median(version)
	fmt.Printf("| what | median of %d | bar | |\n| --- | --- | --- | --- |\n", rounds)
	fmt.Printf("| `phantom version` | %.1f ms | | |\n", milliseconds(median(version)))
	fmt.Printf("| start to ready | %.1f ms | | |\n", milliseconds(median(ready)))
	fmt.Printf("| start to ready beyond `phantom version` | %.1f ms | %.0f ms | %s |\n", milliseconds(beyond), milliseconds(startBar), verdict(beyond <= startBar))
	fmt.Printf("| resident at rest, after a request | %.1f MB | %.0f MB | %s |\n", median(memory), memoryBar, verdict(median(memory) < memoryBar))
	fmt.Printf("| binary | %.1f MB | %.0f MB | %s |\n", size, binaryBar, verdict(size < binaryBar))
	return beyond <= startBar && median(memory) < memoryBar && size < binaryBar, nil
}

// serve starts the server, waits until /readyz says so, lets it rest, and returns how long the
// start took and how many MB are resident then.
func serve(ctx context.Context, binary, databaseURL string, rest time.Duration) (took time.Duration, resident float64, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	_ = listener.Close()
	server := exec.CommandContext(ctx, binary)
	server.Env = []string{"PORT=" + port, "DATABASE_URL=" + databaseURL, "ENCRYPTION_KEY=" + key, "STRIPE_SECRET_KEY=sk_test_1", "STRIPE_CLIENT_ID=ca_1"}
	server.Stderr = os.Stderr
	output, err := server.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	started := time.Now()
	if err := server.Start(); err != nil {
		return 0, 0, err
	}
	defer func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		err = errors.Join(err, server.Wait())
	}()
	lines := bufio.NewScanner(output)
	for lines.Scan() && !strings.Contains(lines.Text(), "[SERVER] ready") {
	}
	response, err := http.Get("http://127.0.0.1:" + port + "/readyz")
	if err != nil {
		return 0, 0, err
	}
	took = time.Since(started)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("readyz answered %s", response.Status)
	}
	go func() { // so that the server never blocks on a full pipe
		for lines.Scan() {
		}
	}()
	time.Sleep(rest)
	resident, err = residentMB(server.Process.Pid)
	return took, resident, err
}

// residentMB reads VmRSS, which Linux gives in kB of 1024 bytes.
func residentMB(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kB, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kB * 1024 / 1e6, err
		}
	}
	return 0, errors.New("no VmRSS in /proc: memory is measured on Linux only")
}

func median[T float64 | time.Duration](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}
