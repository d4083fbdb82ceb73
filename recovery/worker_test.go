package recovery

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// workerEnv makes the test binary a worker process: it holds a kind, which workers names, and its
// setting in JSON.
const workerEnv = "PHANTOM_RECOVERY_TEST_WORKER"

// workers are the processes that tests start. Each works until it is killed. A file with a build
// tag adds its own.
var workers = map[string]func(setting []byte) error{"post": postWorker}

// workerMain runs the process as a worker if it is to be one.
func workerMain() (code int, ok bool) {
	kind, setting, ok := strings.Cut(os.Getenv(workerEnv), " ")
	if !ok {
		return 0, false
	}
	if err := workers[kind]([]byte(setting)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return 0, true
}

// newWorker prepares a worker process.
func newWorker(t *testing.T, kind string, setting any, stdout, stderr io.Writer) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(setting)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), workerEnv+"="+kind+" "+string(text))
	command.Stdout, command.Stderr = stdout, stderr
	return command
}

// killed says whether a process that has ended was killed, rather than having ended by itself.
func killed(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
