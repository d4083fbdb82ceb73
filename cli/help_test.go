package cli

import (
	"bytes"
	"context"
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
	for name := range examples {
		if words := strings.Fields(name); !strings.Contains(examples[name], "phantom") || words[0] == "" {
			t.Errorf("the example of %s: %s", name, examples[name])
		}
	}
}

// Whoever calls a command in a wrong way is told what is right, by exit code 2.
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
