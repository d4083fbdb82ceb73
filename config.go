package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"phantom/sandbox"
	"phantom/vault"
)

// config is the environment, checked.
type config struct {
	port              int
	publicURL         *url.URL
	databaseURL       string // "": dev mode starts a private one
	databaseDirectURL string
	ring              *vault.Keyring // nil: dev mode makes a random key
	previousKeys      []vault.Key
	stripeSecretKey   string
	stripeClientID    string
	stripeAPIBase     string
	stripeConnectBase string
	jsonLog           bool

	dev     bool // stand-ins may take the place of what is not set
	sandbox bool // Stripe is replaced by the built-in sandbox
}

// needs says which of the required variables a subcommand uses.
type needs struct{ database, key, stripe bool }

var required = []struct {
	name, advice string
	needed       func(needs) bool
}{
	{"DATABASE_URL", "[DATABASE] DATABASE_URL is not set: provide postgres://user:password@host:5432/name", func(n needs) bool { return n.database }},
	{"ENCRYPTION_KEY", "[SECURITY] ENCRYPTION_KEY is not set: provide 64 hex characters (openssl rand -hex 32)", func(n needs) bool { return n.key }},
	{"STRIPE_SECRET_KEY", "[STRIPE] STRIPE_SECRET_KEY is not set: provide the platform's secret key (sk_…)", func(n needs) bool { return n.stripe }},
	{"STRIPE_CLIENT_ID", "[STRIPE] STRIPE_CLIENT_ID is not set: provide the platform's Connect client id (ca_…)", func(n needs) bool { return n.stripe }},
}

// loadConfig reads and checks the environment. Its error is one line that names the variable and what to do, and never quotes
// a secret.
func loadConfig(getenv func(string) string, need needs) (*config, error) {
	env := environment{getenv: getenv}
	values := make(map[string]string)
	var missing []string
	for _, variable := range required {
		value, err := env.secret(variable.name)
		if err != nil {
			return nil, err
		}
		if values[variable.name] = value; value == "" && variable.needed(need) {
			missing = append(missing, variable.name)
		}
	}
	c := &config{
		databaseURL:     values["DATABASE_URL"],
		stripeSecretKey: values["STRIPE_SECRET_KEY"],
		stripeClientID:  values["STRIPE_CLIENT_ID"],
	}
	if err := c.loadMode(env, values); err != nil {
		return nil, err
	}
	if len(missing) > 0 && !c.dev {
		return nil, missingError(missing)
	}
	for _, load := range []func(environment) error{c.loadAddress, c.loadDatabase, c.loadStripe, c.loadLog} {
		if err := load(env); err != nil {
			return nil, err
		}
	}
	if need.key {
		if err := c.loadKeys(env, values["ENCRYPTION_KEY"]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func missingError(names []string) error {
	if len(names) > 1 {
		return fmt.Errorf("[SERVER] %s are not set: provide them (README, Environment), or set PHANTOM_DEV=1 to try PHANTOM with stand-ins",
			strings.Join(names, ", "))
	}
	for _, variable := range required {
		if variable.name == names[0] {
			return errors.New(variable.advice)
		}
	}
	return nil
}

// loadMode decides about dev mode: nothing that production needs is set, or PHANTOM_DEV=1.
func (c *config) loadMode(env environment, values map[string]string) error {
	c.dev = true
	for _, value := range values {
		if value != "" {
			c.dev = false
		}
	}
	switch env.getenv("PHANTOM_DEV") {
	case "1":
		c.dev = true
	case "", "0":
	default:
		return errors.New("[SERVER] PHANTOM_DEV is malformed: provide 1, or leave it unset")
	}
	if c.dev && isLive(c.stripeSecretKey) {
		return errors.New("[STRIPE] dev mode never runs with a live key: unset PHANTOM_DEV, or provide a test key (sk_test_…)")
	}
	return nil
}

func isLive(key string) bool {
	return strings.HasPrefix(key, "sk_live_") || strings.HasPrefix(key, "rk_live_")
}

func (c *config) loadAddress(env environment) error {
	c.port = 8080
	if text := env.getenv("PORT"); text != "" {
		port, err := strconv.Atoi(text)
		if err != nil || port < 1 || port > 65535 {
			return fmt.Errorf("[SERVER] PORT %.20q is not a port: provide a number from 1 to 65535", text)
		}
		c.port = port
	}
	text := env.getenv("PUBLIC_URL")
	if text == "" {
		text = "http://localhost:" + strconv.Itoa(c.port)
	}
	var err error
	c.publicURL, err = parseBase("SERVER", "PUBLIC_URL", text)
	return err
}

func (c *config) loadDatabase(env environment) error {
	var err error
	if c.databaseDirectURL, err = env.secret("DATABASE_DIRECT_URL"); err != nil {
		return err
	}
	for name, value := range map[string]string{"DATABASE_URL": c.databaseURL, "DATABASE_DIRECT_URL": c.databaseDirectURL} {
		if value == "" {
			continue
		}
		// The driver would also take key=value pairs; one form is enough, and safer to tell from a mistake.
		if parsed, err := url.Parse(value); err != nil || parsed.Scheme != "postgres" && parsed.Scheme != "postgresql" {
			return fmt.Errorf("[DATABASE] %s is malformed: provide postgres://user:password@host:5432/name", name)
		}
	}
	if c.databaseURL == "" && c.databaseDirectURL != "" {
		return errors.New("[DATABASE] DATABASE_DIRECT_URL is set without DATABASE_URL: provide both")
	}
	if c.databaseDirectURL == "" {
		c.databaseDirectURL = c.databaseURL
	}
	return nil
}

func (c *config) loadKeys(env environment, current string) error {
	list, err := env.secret("ENCRYPTION_KEYS_PREVIOUS")
	if err != nil {
		return err
	}
	if list != "" {
		for i, text := range strings.Split(list, ",") {
			key, err := vault.ParseKey(strings.TrimSpace(text))
			if err != nil {
				return fmt.Errorf("[SECURITY] ENCRYPTION_KEYS_PREVIOUS, item %d: %w", i+1, err)
			}
			c.previousKeys = append(c.previousKeys, key)
		}
	}
	if current == "" { // dev mode
		return nil
	}
	key, err := vault.ParseKey(current)
	if err != nil {
		return fmt.Errorf("[SECURITY] ENCRYPTION_KEY: %w", err)
	}
	return c.setKey(key)
}

func (c *config) setKey(key vault.Key) error {
	ring, err := vault.NewKeyring(key, c.previousKeys...)
	if err != nil {
		return fmt.Errorf("[SECURITY] ENCRYPTION_KEYS_PREVIOUS: %w", err)
	}
	c.ring = ring
	return nil
}

func (c *config) loadStripe(env environment) error {
	for name, target := range map[string]*string{"STRIPE_API_BASE": &c.stripeAPIBase, "STRIPE_CONNECT_BASE": &c.stripeConnectBase} {
		text := env.getenv(name)
		if text == "" {
			continue
		}
		base, err := parseBase("STRIPE", name, text)
		if err != nil {
			return err
		}
		if isLive(c.stripeSecretKey) && base.Scheme != "https" {
			return fmt.Errorf("[STRIPE] %s is not https: a live key is never sent over a plain connection", name)
		}
		*target = base.String()
	}
	if (c.stripeAPIBase == "") != (c.stripeConnectBase == "") {
		return errors.New("[STRIPE] only one of STRIPE_API_BASE and STRIPE_CONNECT_BASE is set: provide both, or neither for Stripe itself")
	}
	if key := c.stripeSecretKey; key != "" && !isLive(key) && !strings.HasPrefix(key, "sk_test_") && !strings.HasPrefix(key, "rk_test_") {
		return errors.New("[STRIPE] STRIPE_SECRET_KEY is malformed: provide the platform's secret key (sk_live_… or sk_test_…)")
	}
	if id := c.stripeClientID; id != "" && !strings.HasPrefix(id, "ca_") {
		return errors.New("[STRIPE] STRIPE_CLIENT_ID is malformed: provide the platform's Connect client id (ca_…)")
	}
	if c.dev && (c.stripeSecretKey == "" || c.stripeClientID == "") {
		// A sandbox of one's own (phantom sandbox) is used where its address is given.
		c.sandbox = c.stripeAPIBase == ""
		if c.stripeSecretKey == "" {
			c.stripeSecretKey = sandbox.SecretKey
		}
		if c.stripeClientID == "" {
			c.stripeClientID = sandbox.ClientID
		}
	}
	return nil
}

func (c *config) loadLog(env environment) error {
	switch format := env.getenv("LOG_FORMAT"); format {
	case "", "text":
	case "json":
		c.jsonLog = true
	default:
		return fmt.Errorf("[SERVER] LOG_FORMAT %.20q is unknown: provide text or json", format)
	}
	return nil
}

// parseBase reads the address of a server: a scheme, a host and perhaps a path to put ours behind.
func parseBase(tag, name, text string) (*url.URL, error) {
	base, err := url.Parse(text)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Hostname() == "" ||
		base.User != nil || base.RawQuery != "" || base.ForceQuery || base.Fragment != "" {
		return nil, fmt.Errorf("[%s] %s is malformed: provide an address such as https://phantom.example.com", tag, name)
	}
	base.Path = strings.TrimRight(base.Path, "/")
	base.RawPath = ""
	return base, nil
}

// environment reads variables.
type environment struct{ getenv func(string) string }

// secret reads a variable or the file that NAME_FILE names. One trailing newline of a file is removed.
func (e environment) secret(name string) (string, error) {
	value, path := e.getenv(name), e.getenv(name+"_FILE")
	if path == "" {
		return value, nil
	}
	if value != "" {
		return "", fmt.Errorf("[SERVER] %s and %s_FILE are both set: provide one of them", name, name)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("[SERVER] %s_FILE cannot be read: %w", name, err)
	}
	value = strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if value == "" {
		return "", fmt.Errorf("[SERVER] %s_FILE names an empty file: %s", name, path)
	}
	return value, nil
}
