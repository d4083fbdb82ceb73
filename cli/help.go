package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// examples are one use of each command that takes flags.
var examples = map[string]string{
	"serve":          "phantom",
	"work":           "WORKERS=50 phantom work",
	"connect":        "phantom connect --key-file stripe.key --webhook-secret-file whsec",
	"disconnect":     "phantom disconnect --merchant acct_1Example",
	"audit":          "phantom audit --merchant acct_1Example --since 2026-01-31",
	"migrate":        "phantom migrate --runtime phantom_app",
	"report":         "phantom report --merchant acct_1Example -o report.html",
	"doctor":         "phantom doctor --json",
	"log":            "phantom log --merchant acct_1Example --limit 20",
	"stop":           "phantom stop --merchant acct_1Example",
	"purge":          "phantom purge --dry-run",
	"demo":           "phantom demo --seed 2 -o demo.html",
	"sandbox":        "phantom sandbox --merchants 3",
	"edge":           "phantom edge --upstream https://phantom.example --key-file shield.key",
	"healthcheck":    "phantom healthcheck",
	"completion":     "phantom completion bash > /etc/bash_completion.d/phantom",
	"apikey create":  "phantom apikey create --merchant acct_1Example --name dashboard --scope read",
	"tasks list":     "phantom tasks list --status needs_review",
	"oracle heatmap": "phantom oracle heatmap --merchant acct_1Example",
}

// help says what a command does, and what it takes.
func (call Call) help(flags *flag.FlagSet) {
	w := call.Stdout
	name, _, _ := strings.Cut(flags.Name(), " ")
	fmt.Fprintf(w, "phantom %s: %s.\n\n", name, call.summary)
	fmt.Fprintf(w, "Usage: phantom %s", flags.Name())
	if flags.Name() == "completion" {
		fmt.Fprint(w, " bash|zsh|fish")
	}
	some := false
	flags.VisitAll(func(*flag.Flag) { some = true })
	if some {
		fmt.Fprint(w, " [flags]")
	}
	fmt.Fprintln(w)
	if some {
		fmt.Fprintln(w, "\nFlags:")
	}
	flags.VisitAll(func(f *flag.Flag) {
		placeholder, usage := flag.UnquoteUsage(f)
		dashes := "--"
		if len(f.Name) == 1 {
			dashes = "-"
		}
		fmt.Fprint(w, strings.TrimRight("  "+dashes+f.Name+" "+placeholder, " "))
		if f.DefValue != "" && f.DefValue != "0" && f.DefValue != "false" && !strings.Contains(usage, "(default") {
			usage += " (default: " + f.DefValue + ")"
		}
		fmt.Fprintf(w, "\n%s", wrapped(usage, "        ", 80))
	})
	if example := examples[flags.Name()]; example != "" {
		fmt.Fprintf(w, "\nExample:\n  %s\n", example)
	}
}

// printUsage shows the actions of a command, "phantom tasks list … | show ID", one a line.
func (call Call) printUsage(usage string) {
	w, words := call.Stdout, strings.Fields(usage)
	fmt.Fprintf(w, "phantom %s: %s.\n\nUsage:\n", words[1], call.summary)
	for _, action := range strings.Split(strings.TrimPrefix(usage, "phantom "+words[1]+" "), " | ") {
		fmt.Fprintf(w, "  phantom %s %s\n", words[1], action)
	}
	fmt.Fprintf(w, "\nphantom help %s ACTION says what an action takes.\n", words[1])
}

// wrapped breaks a text into indented lines of so many columns.
func wrapped(text, indent string, columns int) string {
	var b strings.Builder
	line := indent
	for _, word := range strings.Fields(text) {
		if len(line) > len(indent) && len([]rune(line))+1+len([]rune(word)) > columns {
			b.WriteString(line + "\n")
			line = indent
		}
		if len(line) > len(indent) {
			line += " "
		}
		line += word
	}
	b.WriteString(line + "\n")
	return b.String()
}

// healthcheck asks this machine's server. The image has no other program that could.
func healthcheck(ctx context.Context, call Call) error {
	flags := newFlags("healthcheck")
	port := call.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	address := flags.String("url", "http://"+net.JoinHostPort("localhost", port)+"/readyz", "what is asked for: `URL`")
	if err := call.parse(flags); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, *address, nil)
	if err != nil {
		return misuse("phantom healthcheck: --url %.80q is no address", *address)
	}
	response, err := (&http.Client{Timeout: 4 * time.Second}).Do(request)
	if err != nil {
		return fmt.Errorf("phantom healthcheck: the server does not answer at %s", *address)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("phantom healthcheck: the server is not ready: it answers %d", response.StatusCode)
	}
	_, err = fmt.Fprintln(call.Stdout, "ready")
	return err
}

// completion prints what completes the commands and their actions in a shell.
func completion(_ context.Context, call Call) error {
	flags := newFlags("completion")
	if err := call.parseFlags(flags); err != nil {
		return err
	}
	var names []string
	actions := map[string][]string{}
	for _, name := range Commands() {
		first, action, _ := strings.Cut(name, " ")
		if len(names) == 0 || names[len(names)-1] != first {
			names = append(names, first)
		}
		if action != "" {
			actions[first] = append(actions[first], action)
		}
	}
	names = append(names, "help")
	var b strings.Builder
	switch flags.Arg(0) {
	case "bash", "zsh":
		if flags.Arg(0) == "zsh" {
			b.WriteString("autoload -U +X bashcompinit && bashcompinit\n")
		}
		b.WriteString("_phantom() {\n  local words=\"" + strings.Join(names, " ") + "\"\n  if [ \"$COMP_CWORD\" -gt 1 ]; then\n    case \"${COMP_WORDS[1]}\" in\n")
		for _, name := range names {
			if len(actions[name]) > 0 {
				b.WriteString("      " + name + ") words=\"" + strings.Join(actions[name], " ") + "\" ;;\n")
			}
		}
		b.WriteString("      help) ;;\n      *) words=\"\" ;;\n    esac\n  fi\n" +
			"  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\ncomplete -o default -F _phantom phantom\n")
	case "fish":
		b.WriteString("complete -c phantom -f -n __fish_use_subcommand -a '" + strings.Join(names, " ") + "'\n")
		for _, name := range names {
			if len(actions[name]) > 0 {
				b.WriteString("complete -c phantom -f -n '__fish_seen_subcommand_from " + name + "' -a '" + strings.Join(actions[name], " ") + "'\n")
			}
		}
	default:
		return misuse("phantom completion needs a shell: phantom completion bash, zsh or fish")
	}
	_, err := io.WriteString(call.Stdout, b.String())
	return err
}
