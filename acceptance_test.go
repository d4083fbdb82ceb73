package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"phantom/db"
	"phantom/db/dbtest"
)

// The whole of stage 1 with the real binary, PostgreSQL and a browser: boot, handshake, sealed
// rows, nothing in a dump.
func TestAcceptance(t *testing.T) {
	t.Parallel()
	url := dbtest.EmptyURL(t)
	server, base := ready(t, production(t, url))
	if !strings.Contains(server.stdout.String(), bootLine+"\n") {
		t.Errorf("the boot line is missing:\n%s", server.stdout)
	}

	page := clickThrough(t, base)
	if page != success {
		t.Errorf("the browser ended at %q", page)
	}

	pool := dbtest.Open(t, url, dbtest.Ring(t))
	var ciphertext, iv, tag, account string
	if err := pool.QueryRow(t.Context(), "SELECT encrypted_token, iv, tag, stripe_user_id FROM merchants").Scan(&ciphertext, &iv, &tag, &account); err != nil {
		t.Fatal(err)
	}
	for name, shape := range map[string]*regexp.Regexp{
		ciphertext: regexp.MustCompile(`^([0-9a-f]{2}){20,}$`), iv: regexp.MustCompile(`^[0-9a-f]{32}$`), tag: regexp.MustCompile(`^[0-9a-f]{32}$`),
	} {
		if !shape.MatchString(name) {
			t.Errorf("%q is not the hex that was promised", name)
		}
	}
	merchant, err := db.New(pool).MerchantGetByStripeUserID(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	access, err := merchant.AccessToken.Reveal("merchants.access_token:" + account)
	if err != nil {
		t.Fatal(err)
	}
	refresh, err := merchant.RefreshToken.Reveal("merchants.refresh_token:" + account)
	if err != nil {
		t.Fatal(err)
	}
	if merchant.Country == nil || merchant.DefaultCurrency == nil || merchant.Timezone == nil || merchant.BusinessCategory == nil {
		t.Errorf("the account's facts are missing: %v", merchant)
	}

	dump := pgDump(t, url)
	if !strings.Contains(dump, ciphertext) {
		t.Fatal("the dump does not hold the merchants table: it proves nothing")
	}
	logs := server.stdout.String() + server.stderr.String()
	for _, secret := range []string{access, refresh, dbtest.Key} {
		for _, form := range spellings(secret) {
			if strings.Contains(dump, form) {
				t.Errorf("the dump holds a secret as %q", form)
			}
			if strings.Contains(logs, form) {
				t.Errorf("the log holds a secret as %q", form)
			}
		}
	}
}

// spellings are the forms in which a secret might lie about: raw, hex, and base64 at each of its
// three alignments.
func spellings(secret string) []string {
	forms := []string{secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret)))}
	for shift := range 3 {
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString([]byte(strings.Repeat("x", shift) + secret))
			forms = append(forms, text[4:len(text)-4]) // the ends depend on the neighbours
		}
	}
	return forms
}

// clickThrough opens the first page in headless Chromium, clicks the one link and returns the text
// of the page it ends on.
func clickThrough(t *testing.T, base string) string {
	t.Helper()
	path := findProgram(t, "chromium", "chromium-browser", "google-chrome")
	profile, err := os.MkdirTemp("", "phantom-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(profile) })
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.Env("TMPDIR="+profile), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-background-networking", true))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	fail := func(err error) {
		if err != nil {
			t.Fatalf("browser: %v", err)
		}
	}
	fail(chromedp.Do(ctx, chromedp.Navigate(base+"/")))
	links, err := chromedp.Run(ctx, chromedp.Evaluate[int](`document.querySelectorAll("a").length`))
	fail(err)
	fail(chromedp.Do(ctx, chromedp.Click(`//a[text()="Connect Stripe"]`)))
	fail(chromedp.Do(ctx, chromedp.Query(`//*[contains(text(), "Merchant Authorized")]`, chromedp.NodeVisible)))
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
	fail(err)
	if links != 1 {
		t.Errorf("the first page has %d links", links)
	}
	return strings.TrimSpace(text)
}

// findProgram returns the first of several programs that is installed, in PATH or among
// PostgreSQL's own.
func findProgram(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
		for _, pattern := range []string{"/usr/sbin/", "/usr/lib/postgresql/*/bin/", "/usr/pgsql-*/bin/", "/opt/homebrew/opt/postgresql*/bin/"} {
			if found, _ := filepath.Glob(pattern + name); len(found) > 0 {
				return found[len(found)-1]
			}
		}
	}
	t.Fatalf("%s is not installed: run make deps", names[0])
	return ""
}

func pgDump(t *testing.T, url string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), findProgram(t, "pg_dump"), "--dbname", url)
	command.Stderr = os.Stderr
	dump, err := command.Output()
	if err != nil {
		t.Fatalf("pg_dump: %v", err)
	}
	return string(dump)
}
