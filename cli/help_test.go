package cli

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"
)

func call(args ...string) (stdout string, err error) {
	var out, log bytes.Buffer
	err = Run(context.Background(), Call{Args: args, Getenv: func(string) string { return "" }, Stdout: &out, Stderr: &log})
	return out.String(), err
}

// Every command and action says what it does and takes, on a screen of 80 columns, and needs
// neither a database nor a key for it.
func TestHelpOfEveryCommand(t *testing.T) {
	t.Parallel()
	for _, name := range Commands() {
		words := strings.Fields(name)
		for _, args := range [][]string{append([]string{"help"}, words...), append(words, "-h"), append(words, "--help")} {
			text, err := call(args...)
			if err != nil || !strings.Contains(text, "phantom") || !strings.Contains(text, "Usage:") {
				t.Errorf("phantom %v: %v\n%s", args, err, text)
			}
			for line := range strings.Lines(text) {
				line = strings.TrimSuffix(line, "\n")
				if utf8.RuneCountInString(line) > 100 || strings.TrimRight(line, " ") != line {
					t.Errorf("phantom %v prints %q", args, line)
				}
			}
		}
	}
	for name, example := range examples {
		text, err := call(append([]string{"help"}, strings.Fields(name)...)...)
		if err != nil || name != "serve" && !strings.Contains(text, example) {
			t.Errorf("phantom help %s does not show its example: %v\n%s", name, err, text)
		}
		for word := range strings.FieldsSeq(example) {
			if strings.HasPrefix(word, "-") && !strings.Contains(text, "  "+word) {
				t.Errorf("the example of %s has the flag %s, which it does not take", name, word)
			}
		}
	}
}

// A command that is called in a wrong way says what is right, and exits with 2.
func TestMisuseIsExitCode2(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"nothing", "help nothing", "tasks", "tasks nothing", "apikey", "apikey create", "apikey create --merchant x", "audit --nothing", "audit --since x", "audit --merchant x", "audit now", "stop --merchant x", "report --merchant x",
		"log --limit 0", "log --merchant x", "oracle", "oracle nothing", "oracle explain", "shield", "shield nothing", "demo --days 0", "edge", "connect",
		"connect --key-file /nowhere", "disconnect", "disconnect --merchant x", "completion", "completion csh", "healthcheck now", "tasks show", "tasks list --status x", "work --x",
	} {
		if stdout, err := call(strings.Fields(args)...); err == nil || ExitCode(err) != 2 || stdout != "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("phantom %s: %d, %v, %q", args, ExitCode(err), err, stdout)
		}
	}
}

func TestCompletionKnowsTheCommands(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		text, err := call("completion", shell)
		for _, name := range Commands() {
			for _, word := range strings.Fields(name) {
				if err != nil || !strings.Contains(text, word) {
					t.Errorf("%s does not complete %s: %v", shell, word, err)
				}
			}
		}
	}
}

// What ends a process is one line for people, and JSON where the log is.
func TestComplain(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{"": "broken\n", "text": "broken\n", "json": `"level":"ERROR","msg":"broken"}` + "\n"} {
		var log bytes.Buffer
		Complain(Call{Getenv: func(name string) string { return map[string]string{"LOG_FORMAT": format}[name] }, Stderr: &log}, errors.New("broken"))
		if got := log.String(); format == "json" && !strings.HasSuffix(got, want) || format != "json" && got != want {
			t.Errorf("%q: %q", format, got)
		}
	}
}

// A container is healthy while its server is ready.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	if out, err := call("healthcheck", "--url", server.URL); err != nil || out != "ready\n" {
		t.Errorf("%q, %v", out, err)
	}
	status = http.StatusServiceUnavailable
	if out, err := call("healthcheck", "--url", server.URL); err == nil || ExitCode(err) != 1 || out != "" {
		t.Errorf("of a server that is not ready: %q, %v", out, err)
	}
	server.Close()
	if _, err := call("healthcheck", "--url", server.URL); err == nil || ExitCode(err) != 1 {
		t.Errorf("of no server: %v", err)
	}
}
