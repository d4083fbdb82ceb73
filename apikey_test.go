package main

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"phantom/db/dbtest"
	"phantom/docs"
)

// apiKeyCommand runs phantom apikey with nothing but DATABASE_URL.
func apiKeyCommand(t *testing.T, url string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := start(t, map[string]string{"DATABASE_URL": url}, append([]string{"apikey"}, args...))
	code = p.wait(t)
	return code, p.stdout.String(), p.stderr.String()
}

// A key from the command line opens the API of a running server, and once revoked is refused at
// once.
func TestAPIKeyCommand(t *testing.T) {
	t.Parallel()
	url := dbtest.EmptyURL(t)
	server, base := ready(t, production(t, url))
	handshake(t, base)
	var account string
	if err := dbtest.Open(t, url, dbtest.Ring(t)).QueryRow(t.Context(), "SELECT stripe_user_id FROM merchants").Scan(&account); err != nil {
		t.Fatal(err)
	}

	code, stdout, stderr := apiKeyCommand(t, url, "create", "--merchant", account)
	if code != 0 || !regexp.MustCompile(`^phk_[A-Za-z0-9_-]{43}\n$`).MatchString(stdout) {
		t.Fatalf("create: %d, %q, %q", code, stdout, stderr)
	}
	key := strings.TrimSpace(stdout)
	shown := regexp.MustCompile(`^key ([0-9a-f-]{36}) of ` + account + `: it is shown this once, keep it safe\n$`).FindStringSubmatch(stderr)
	if shown == nil {
		t.Fatalf("create said %q", stderr)
	}
	ask := func() int {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/summary", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+key)
		response, err := browser(t).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	if status := ask(); status != http.StatusOK {
		t.Errorf("the new key gets %d", status)
	}
	code, stdout, stderr = apiKeyCommand(t, url, "list", "--merchant="+account)
	table := regexp.MustCompile(`^ID +CREATED +LAST USED +REVOKED +EXPIRES +SCOPE +STATUS +NAME\n` + shown[1] + `  \d{4}-\S+Z  \d{4}-\S+Z  - +- +write +active +-\n$`)
	if code != 0 || !table.MatchString(stdout) || stderr != "" {
		t.Errorf("list: %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = apiKeyCommand(t, url, "revoke", "--merchant", account, "--id", shown[1])
	if code != 0 || stdout != "" || stderr != "key "+shown[1]+" of "+account+" is revoked: it is refused from now on\n" {
		t.Errorf("revoke: %d, %q, %q", code, stdout, stderr)
	}
	if status := ask(); status != http.StatusUnauthorized {
		t.Errorf("the revoked key gets %d", status)
	}
	if _, stdout, _ = apiKeyCommand(t, url, "list", "--merchant", account); !regexp.MustCompile(`Z  \d{4}-\S+Z  \d{4}-\S+Z  - +write +revoked +-\n$`).MatchString(stdout) {
		t.Errorf("list afterwards:\n%s", stdout)
	}
	// One with a name, a scope and an end that has come: the list says why it is refused.
	code, stdout, stderr = apiKeyCommand(t, url, "create", "--merchant", account, "--name", "the old dashboard", "--scope", "read", "--expires", "2999-01-31")
	if code != 0 {
		t.Fatalf("create: %d, %q", code, stderr)
	}
	key = strings.TrimSpace(stdout)
	if status := ask(); status != http.StatusOK {
		t.Errorf("the key that reads gets %d", status)
	}
	if _, err := dbtest.Open(t, url, dbtest.Ring(t)).Exec(t.Context(), "UPDATE api_keys SET expires_at = now() WHERE expires_at = '2999-01-31 00:00Z'"); err != nil {
		t.Fatal(err)
	}
	if status := ask(); status != http.StatusUnauthorized {
		t.Errorf("the expired key gets %d", status)
	}
	if _, stdout, _ = apiKeyCommand(t, url, "list", "--merchant", account); !regexp.MustCompile(`\n[0-9a-f-]{36}  \S+Z  \S+Z  - +20\S+Z  read +expired +the old dashboard\n$`).MatchString(stdout) {
		t.Errorf("list of an expired key:\n%s", stdout)
	}
	if logs := server.stdout.String() + server.stderr.String(); strings.Contains(logs, key) || strings.Contains(pgDump(t, url), key[4:]) {
		t.Error("the key stands in the log or in a dump")
	}
	if status, body, err := get(browser(t), base+"/api/openapi.json"); err != nil || status != http.StatusOK || body != string(docs.OpenAPI()) {
		t.Errorf("the API's document: %d, %d bytes, %v", status, len(body), err)
	}
}

// Every misuse ends with exit code 2, what only the database knows with 1, and each with one line
// that says what to do.
func TestAPIKeyMisuse(t *testing.T) {
	t.Parallel()
	url, empty := dbtest.URL(t), dbtest.EmptyURL(t)
	dbtest.Open(t, url, dbtest.Ring(t))
	const usage = "phantom apikey create --merchant acct_… [--name NAME] [--scope read|write|shield] [--expires TIME] | " +
		"list --merchant acct_… | revoke --merchant acct_… --id KEY-ID"
	const id = "01980000-0000-7000-8000-000000000000"
	for name, test := range map[string]struct {
		url  string
		args []string
		line string // the last one: usage may stand before it
	}{
		"no action":         {url, nil, "phantom apikey needs an action: " + usage},
		"unknown action":    {url, []string{"delete"}, `phantom apikey has no action "delete": ` + usage},
		"a flag first":      {url, []string{"--merchant", "acct_1", "create"}, `phantom apikey has no action "--merchant": ` + usage},
		"no merchant":       {url, []string{"create"}, `phantom apikey create: --merchant "" is no account: provide --merchant acct_…`},
		"no account":        {url, []string{"list", "--merchant", "cus_1"}, `phantom apikey list: --merchant "cus_1" is no account: provide --merchant acct_…`},
		"unknown account":   {url, []string{"create", "--merchant", "acct_1"}, "phantom apikey create: acct_1 is not connected here: check the id and DATABASE_URL, or connect it from the server's first page"},
		"unknown to list":   {url, []string{"list", "--merchant", "acct_1"}, "phantom apikey list: acct_1 is not connected here: check the id and DATABASE_URL, or connect it from the server's first page"},
		"unknown to revoke": {url, []string{"revoke", "--merchant", "acct_1", "--id", id}, "phantom apikey revoke: acct_1 is not connected here: check the id and DATABASE_URL, or connect it from the server's first page"},
		"no id":             {url, []string{"revoke", "--merchant", "acct_1"}, `phantom apikey revoke: --id "" is no key's id: phantom apikey list --merchant acct_1 shows them`},
		"unknown flag":      {url, []string{"create", "--account", "acct_1"}, "phantom apikey create: flag provided but not defined: --account: phantom apikey create -h shows what it takes"},
		"id to create":      {url, []string{"create", "--merchant", "acct_1", "--id", id}, "phantom apikey create: flag provided but not defined: --id: phantom apikey create -h shows what it takes"},
		"unknown scope":     {url, []string{"create", "--merchant", "acct_1", "--scope", "admin"}, `phantom apikey create: --scope "admin" is none: provide shield, read or write`},
		"no scope":          {url, []string{"create", "--merchant", "acct_1", "--scope="}, `phantom apikey create: --scope "" is none: provide shield, read or write`},
		"a past end":        {url, []string{"create", "--merchant", "acct_1", "--expires", "2020-01-31"}, `phantom apikey create: --expires "2020-01-31" is no time to come: write it as 2027-01-31 or 2027-01-31T18:00:00Z`},
		"no time":           {url, []string{"create", "--merchant", "acct_1", "--expires", "90d"}, `phantom apikey create: --expires "90d" is no time to come: write it as 2027-01-31 or 2027-01-31T18:00:00Z`},
		"a long name":       {url, []string{"create", "--merchant", "acct_1", "--name", strings.Repeat("é", 65)}, "phantom apikey create: --name is not usable: provide 64 characters at most, without control characters"},
		"a name of lines":   {url, []string{"create", "--merchant", "acct_1", "--name", "a\nb"}, "phantom apikey create: --name is not usable: provide 64 characters at most, without control characters"},
		"a scope to list":   {url, []string{"list", "--merchant", "acct_1", "--scope", "read"}, "phantom apikey list: flag provided but not defined: --scope: phantom apikey list -h shows what it takes"},
		"argument too many": {url, []string{"create", "--merchant", "acct_1", "now"}, `phantom apikey create takes no argument "now": phantom apikey create -h shows what it takes`},
		"no schema":         {empty, []string{"list", "--merchant", "acct_1"}, "[DATABASE] it has no schema: run phantom migrate, and let DATABASE_URL and DATABASE_DIRECT_URL name the same database"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := apiKeyCommand(t, test.url, test.args...)
			lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
			if code != misuseCode(test.line) || stdout != "" || lines[len(lines)-1] != test.line {
				t.Errorf("%d, %q\n%s\nwant\n%s", code, stdout, stderr, test.line)
			}
		})
	}
}

// misuseCode is the exit code of a command with that last line: 2 for how it was called.
func misuseCode(line string) int {
	for _, known := range []string{"is not connected here", "has no schema", "there is no task", "not done"} {
		if strings.Contains(line, known) {
			return 1
		}
	}
	return 2
}
