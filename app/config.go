// Package app is what the subcommands share: the environment, the stand-ins of dev mode, the wiring
// of the other packages, and the workers.
package app

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"

	"phantom/connect"
	"phantom/db"
	"phantom/sandbox"
	"phantom/vault"
)

// Config is the environment, checked.
type Config struct {
	Port              int
	PublicURL         *url.URL
	DatabaseURL       string // "": dev mode starts a private one
	DatabaseDirectURL string
	Ring              *vault.Keyring // nil: dev mode makes a random key
	previousKeys      []vault.Key
	StripeSecretKey   string
	StripeClientID    string
	StripeMerchantKey string // of a merchant's own account: it does without a Connect platform
	StripeAPIBase     string
	StripeConnectBase string
	ResendBase        string   // "" is Resend itself
	TwilioBase        string   // "" is Twilio itself
	StripeRateLimit   int      // requests a second and account; 0 = none
	Workers           int      // tasks at a time
	PoolSize          int      // connections to the database at most; 0 = by workers
	WebhookSecrets    []string // any of them signs
	ConnectAccounts   []string // that may connect; none: any may
	TrustedProxies    []netip.Prefix
	jsonLog, noColor  bool
	AccessLog         bool         // each request has a line
	metricsAddr       string       // "": no metrics are kept
	metrics           *instruments // nil where none are kept

	need Needs
	// what need asks for and the environment lacks: in dev mode, what stand-ins replace
	Missing []string
	Dev     bool // stand-ins may take the place of what is missing
	Sandbox bool // Stripe is replaced by the built-in sandbox
	alone   bool // the database is dev mode's private one, and no other process works with it
}

// Needs says what a subcommand uses. Database, Key and Stripe ask for variables.
type Needs struct {
	Database, Key, Stripe bool
	// a key of a merchant's own, with which Stripe does without a platform's; "" is that of
	// STRIPE_MERCHANT_KEY, if there is one
	MerchantKey string
	Serves      bool // it answers requests, and brings the schema up to date before
	// its database is one that a server works with: in dev mode, beside the command
	Served bool
}

var required = []struct {
	name, advice string
	needed       func(Needs) bool
}{
	{"DATABASE_URL", "[DATABASE] DATABASE_URL is not set: provide postgres://user:password@host:5432/name", func(n Needs) bool { return n.Database }},
	{"ENCRYPTION_KEY", "[SECURITY] ENCRYPTION_KEY is not set: provide 64 hex characters (openssl rand -hex 32)", func(n Needs) bool { return n.Key }},
	{"STRIPE_SECRET_KEY", "[STRIPE] STRIPE_SECRET_KEY is not set: provide the platform's secret key (sk_…), or STRIPE_MERCHANT_KEY_FILE for one account without a platform", func(n Needs) bool { return n.Stripe && n.MerchantKey == "" }},
	{"STRIPE_CLIENT_ID", "[STRIPE] STRIPE_CLIENT_ID is not set: provide the platform's Connect client id (ca_…)", func(n Needs) bool { return n.Stripe && n.MerchantKey == "" }},
}

// Load reads and checks what a subcommand needs of the environment. Its error is one line that
// names the variable and what to do, and never quotes a secret.
func Load(getenv func(string) string, need Needs) (*Config, error) {
	env := environment{getenv: getenv}
	values := make(map[string]string)
	c := &Config{need: need}
	if err := c.loadMerchantKey(env, values); err != nil {
		return nil, err
	}
	need = c.need
	for _, variable := range required {
		value, err := env.secret(variable.name)
		if err != nil && (variable.needed(need) || need.Stripe && strings.HasPrefix(variable.name, "STRIPE_")) {
			return nil, err
		}
		if values[variable.name] = value; value == "" && variable.needed(need) {
			c.Missing = append(c.Missing, variable.name)
		}
	}
	c.DatabaseURL, c.StripeSecretKey, c.StripeClientID = values["DATABASE_URL"], values["STRIPE_SECRET_KEY"], values["STRIPE_CLIENT_ID"]
	if err := c.loadMode(env, values); err != nil {
		return nil, err
	}
	if len(c.Missing) > 0 && !c.Dev {
		return nil, missingError(c.Missing)
	}
	loads := []func(environment) error{c.loadLog}
	if need.Database {
		loads = append(loads, c.loadDatabase)
	}
	if need.Key {
		loads = append(loads, func(env environment) error { return c.loadKeys(env, values["ENCRYPTION_KEY"]) })
	}
	if need.Stripe {
		loads = append(loads, c.loadAddress, c.loadStripe, c.loadProviders, c.loadWebhook, c.loadAccounts, c.loadProxies, c.loadRateLimit, c.loadWorkers, c.loadMetrics)
	}
	for _, load := range loads {
		if err := load(env); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// loadMerchantKey reads the one key that does without a platform. With it the platform's variables
// are not asked for, but both or none of them are set.
func (c *Config) loadMerchantKey(env environment, values map[string]string) error {
	if !c.need.Stripe {
		return nil
	}
	key := c.need.MerchantKey
	if key == "" {
		var err error
		if key, err = env.secret("STRIPE_MERCHANT_KEY"); err != nil {
			return err
		}
		values["STRIPE_MERCHANT_KEY"] = key
	}
	if key != "" && !connect.IsSecretKey(key) {
		return errors.New("[STRIPE] STRIPE_MERCHANT_KEY is malformed: provide a secret or restricted key of the merchant's account (sk_… or rk_…)")
	}
	c.StripeMerchantKey, c.need.MerchantKey = key, key
	return nil
}

// Live says whether this process works with a live key.
func (c *Config) Live() bool {
	return connect.IsLive(c.StripeSecretKey) || connect.IsLive(c.StripeMerchantKey)
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
func (c *Config) loadMode(env environment, values map[string]string) error {
	c.Dev = true
	for _, value := range values {
		if value != "" {
			c.Dev = false
		}
	}
	switch env.getenv("PHANTOM_DEV") {
	case "1":
		c.Dev = true
	case "0":
		c.Dev = false
	case "":
	default:
		return errors.New("[SERVER] PHANTOM_DEV is malformed: provide 1 or 0, or leave it unset")
	}
	if c.Dev && c.Live() {
		return errors.New("[STRIPE] dev mode never runs with a live key: unset PHANTOM_DEV, or provide a test key (sk_test_…)")
	}
	return nil
}

// Host is the address to listen on: in dev mode the stand-ins are for nobody outside this machine.
func (c *Config) Host() string {
	if c.Dev {
		return "localhost"
	}
	return ""
}

func (c *Config) loadAddress(env environment) error {
	c.Port = 8080
	if text := env.getenv("PORT"); text != "" {
		port, err := strconv.Atoi(text)
		if err != nil || port < 1 || port > 65535 {
			return fmt.Errorf("[SERVER] PORT %.20q is not a port: provide a number from 1 to 65535", text)
		}
		c.Port = port
	}
	text := env.getenv("PUBLIC_URL")
	if text == "" {
		text = "http://localhost:" + strconv.Itoa(c.Port)
	}
	var err error
	if c.PublicURL, err = parseBase("SERVER", "PUBLIC_URL", text); err != nil {
		return err
	}
	if c.Live() && c.PublicURL.Scheme != "https" {
		return errors.New("[SERVER] PUBLIC_URL must begin with https:// where the key is a live one: provide the address that the server is reached under, " +
			"for phantom work too; the links in messages to customers lead there")
	}
	return nil
}

func (c *Config) loadDatabase(env environment) error {
	var err error
	if c.DatabaseDirectURL, err = env.secret("DATABASE_DIRECT_URL"); err != nil {
		return err
	}
	for _, variable := range []struct{ name, value string }{{"DATABASE_URL", c.DatabaseURL}, {"DATABASE_DIRECT_URL", c.DatabaseDirectURL}} {
		if variable.value == "" {
			continue
		}
		if err := db.CheckURL(variable.value); err != nil {
			return fmt.Errorf("[DATABASE] %s: %w", variable.name, err)
		}
	}
	if err := env.number("DATABASE", "DATABASE_POOL", &c.PoolSize, maxPool); err != nil {
		return err
	}
	size, err := db.PoolOf(c.DatabaseURL)
	if err != nil && c.DatabaseURL != "" {
		return fmt.Errorf("[DATABASE] DATABASE_URL: %w", err)
	}
	if size > 0 {
		if c.PoolSize > 0 {
			return errors.New("[DATABASE] DATABASE_POOL and pool_max_conns in DATABASE_URL are both set: keep one of them")
		}
		c.PoolSize = size
	}
	if c.DatabaseURL == "" && c.DatabaseDirectURL != "" {
		return errors.New("[DATABASE] DATABASE_DIRECT_URL is set without DATABASE_URL: provide both")
	}
	if c.DatabaseDirectURL == "" {
		c.DatabaseDirectURL = c.DatabaseURL
	}
	return nil
}

// maxPool is more than one PostgreSQL takes.
const maxPool = 1000

func (c *Config) loadKeys(env environment, current string) error {
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

func (c *Config) setKey(key vault.Key) error {
	ring, err := vault.NewKeyring(key, c.previousKeys...)
	if err != nil {
		return fmt.Errorf("[SECURITY] ENCRYPTION_KEYS_PREVIOUS: %w", err)
	}
	c.Ring = ring
	return nil
}

var (
	clientIDShape = regexp.MustCompile(`^ca_[A-Za-z0-9_]+$`)
)

func (c *Config) loadStripe(env environment) error {
	for _, variable := range []struct {
		name   string
		target *string
	}{{"STRIPE_API_BASE", &c.StripeAPIBase}, {"STRIPE_CONNECT_BASE", &c.StripeConnectBase}} {
		text := env.getenv(variable.name)
		if text == "" {
			continue
		}
		base, err := parseBase("STRIPE", variable.name, text)
		if err != nil {
			return err
		}
		if c.Live() && base.Scheme != "https" {
			return fmt.Errorf("[STRIPE] %s is not https: a live key is never sent over a plain connection", variable.name)
		}
		*variable.target = base.String()
	}
	if (c.StripeAPIBase == "") != (c.StripeConnectBase == "") {
		return errors.New("[STRIPE] only one of STRIPE_API_BASE and STRIPE_CONNECT_BASE is set: provide both, or neither for Stripe itself")
	}
	if c.StripeMerchantKey != "" && (c.StripeSecretKey == "") != (c.StripeClientID == "") {
		return errors.New("[STRIPE] only one of STRIPE_SECRET_KEY and STRIPE_CLIENT_ID is set: provide both for a Connect platform, or neither beside a merchant's own key")
	}
	if c.StripeSecretKey != "" && !connect.IsSecretKey(c.StripeSecretKey) {
		return errors.New("[STRIPE] STRIPE_SECRET_KEY is malformed: provide the platform's secret key (sk_live_… or sk_test_…)")
	}
	if c.StripeClientID != "" && !clientIDShape.MatchString(c.StripeClientID) {
		return errors.New("[STRIPE] STRIPE_CLIENT_ID is malformed: provide the platform's Connect client id (ca_…)")
	}
	if c.StripeSecretKey != "" && c.StripeMerchantKey != "" && connect.IsLive(c.StripeSecretKey) != connect.IsLive(c.StripeMerchantKey) {
		return errors.New("[STRIPE] STRIPE_SECRET_KEY and STRIPE_MERCHANT_KEY are of different modes (live and test): provide both of one, or only one of them")
	}
	madeUp := c.StripeMerchantKey == "" || sandbox.IsOwnKey(c.StripeMerchantKey)
	if c.Dev && madeUp && (c.StripeSecretKey == "" || c.StripeClientID == "") {
		// A sandbox of one's own (phantom sandbox) is used where its address is given.
		c.Sandbox = c.StripeAPIBase == ""
		if c.StripeSecretKey == "" {
			c.StripeSecretKey = sandbox.SecretKey
		}
		if c.StripeClientID == "" {
			c.StripeClientID = sandbox.ClientID
		}
	}
	return nil
}

// loadProviders reads where messages go, if not to Resend and Twilio themselves.
func (c *Config) loadProviders(env environment) error {
	for _, variable := range []struct {
		tag, name string
		target    *string
	}{{"RESEND", "RESEND_API_BASE", &c.ResendBase}, {"TWILIO", "TWILIO_API_BASE", &c.TwilioBase}} {
		text := env.getenv(variable.name)
		if text == "" {
			continue
		}
		base, err := parseBase(variable.tag, variable.name, text)
		if err != nil {
			return err
		}
		if !c.Dev && base.Scheme != "https" {
			return fmt.Errorf("[%s] %s is not https: a merchant's key is never sent over a plain connection", variable.tag, variable.name)
		}
		*variable.target = base.String()
	}
	if c.StripeAPIBase != "" && (c.Dev || c.StripeSecretKey == sandbox.SecretKey || sandbox.IsOwnKey(c.StripeMerchantKey)) {
		c.useSandboxProviders(c.StripeAPIBase)
	}
	return nil
}

// useSandboxProviders sends messages to the sandbox at base, where no other place is named: anyone
// who tries PHANTOM on made-up customers means to write to nobody.
func (c *Config) useSandboxProviders(base string) {
	c.ResendBase = cmp.Or(c.ResendBase, base+"/resend")
	c.TwilioBase = cmp.Or(c.TwilioBase, base+"/twilio")
}

// loadRateLimit stays below what Stripe allows: some 100 reading requests a second, 25 in test
// mode.
func (c *Config) loadRateLimit(env environment) (err error) {
	c.StripeRateLimit = 20
	if c.Live() {
		c.StripeRateLimit = 80
	}
	return env.number("STRIPE", "STRIPE_RATE_LIMIT", &c.StripeRateLimit, 10_000)
}

// MaxWorkers is the highest WORKERS.
const MaxWorkers = 1000

func (c *Config) loadWorkers(env environment) error {
	c.Workers = 10
	return env.number("WORKER", "WORKERS", &c.Workers, MaxWorkers)
}

func (c *Config) loadMetrics(env environment) error {
	c.metricsAddr = env.getenv("METRICS_ADDR")
	if c.metricsAddr == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(c.metricsAddr)
	if number, portErr := strconv.Atoi(port); err != nil || portErr != nil || number < 0 || number > 65535 {
		return fmt.Errorf("[SERVER] METRICS_ADDR %.80q is no address: provide host:port, such as 127.0.0.1:9090, or :9090 for all of this machine's", c.metricsAddr)
	}
	return nil
}

// listed are the items of a list with commas, none of an empty one.
func listed(text string) []string {
	if text == "" {
		return nil
	}
	items := strings.Split(text, ",")
	for i, item := range items {
		items[i] = strings.TrimSpace(item)
	}
	return items
}

// loadWebhook reads one secret, or two while it rolls. An empty one between commas would let
// everybody sign, and is refused.
func (c *Config) loadWebhook(env environment) error {
	list, err := env.secret("STRIPE_WEBHOOK_SECRET")
	if err != nil {
		return err
	}
	for i, secret := range listed(list) {
		if !connect.IsWebhookSecret(secret) {
			return fmt.Errorf("[STRIPE] STRIPE_WEBHOOK_SECRET, item %d, is malformed: provide the endpoint's signing secret (whsec_…)", i+1)
		}
		c.WebhookSecrets = append(c.WebhookSecrets, secret)
	}
	return nil
}

// loadAccounts reads who may connect.
func (c *Config) loadAccounts(env environment) error {
	for i, account := range listed(env.getenv("CONNECT_ACCOUNTS")) {
		if !connect.IsAccount(account) {
			return fmt.Errorf("[STRIPE] CONNECT_ACCOUNTS, item %d, is no account: provide ids of Stripe accounts (acct_…) with commas, or leave it unset and any may connect", i+1)
		}
		c.ConnectAccounts = append(c.ConnectAccounts, account)
	}
	return nil
}

// loadProxies reads whose X-Forwarded-For is believed. A server that believes everybody believes
// what a client makes up.
func (c *Config) loadProxies(env environment) error {
	for i, text := range listed(env.getenv("TRUSTED_PROXIES")) {
		network, err := netip.ParsePrefix(text)
		if err != nil || network.Bits() == 0 || network.Addr().Is4In6() {
			return fmt.Errorf("[SERVER] TRUSTED_PROXIES, item %d, is no network of proxies: provide CIDRs with commas, such as 10.0.0.0/8,fd00::/8", i+1)
		}
		c.TrustedProxies = append(c.TrustedProxies, network.Masked())
	}
	return nil
}

func (c *Config) loadLog(env environment) error {
	c.noColor = env.getenv("NO_COLOR") != "" // https://no-color.org
	switch env.getenv("ACCESS_LOG") {
	case "", "0":
	case "1":
		c.AccessLog = true
	default:
		return errors.New("[SERVER] ACCESS_LOG is malformed: provide 1 or 0, or leave it unset")
	}
	switch format := env.getenv("LOG_FORMAT"); format {
	case "", "text":
	case "json":
		c.jsonLog = true
	default:
		return fmt.Errorf("[SERVER] LOG_FORMAT %.20q is unknown: provide text or json", format)
	}
	return nil
}

// parseBase reads the address of a server: a scheme, a host, perhaps a port, and nothing behind
// them.
func parseBase(tag, name, text string) (*url.URL, error) {
	base, err := url.Parse(text)
	if err == nil && base.Path == "/" {
		base.Path = ""
	}
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Hostname() == "" || !isPort(base.Port(), base.Host) ||
		base.User != nil || base.Path != "" || base.RawQuery != "" || base.ForceQuery || base.Fragment != "" {
		return nil, fmt.Errorf("[%s] %s is malformed: provide an address such as https://phantom.example.com", tag, name)
	}
	return base, nil
}

// isPort accepts a port, or none where the host does not end in a colon.
func isPort(port, host string) bool {
	if port == "" {
		return !strings.HasSuffix(host, ":")
	}
	number, err := strconv.Atoi(port)
	return err == nil && number >= 1 && number <= 65535
}

// environment reads variables.
type environment struct{ getenv func(string) string }

// number reads a variable that is a number from 0 to most, and leaves what is there where the
// variable is unset.
func (e environment) number(tag, name string, into *int, most int) error {
	text := e.getenv(name)
	if text == "" {
		return nil
	}
	number, err := strconv.Atoi(text)
	if err != nil || number < 0 || number > most {
		return fmt.Errorf("[%s] %s %.20q is not usable: provide a number from 0 to %d", tag, name, text, most)
	}
	*into = number
	return nil
}

// secret reads a variable or the file that NAME_FILE names. One trailing newline of a file is
// removed.
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
		// Without the path: it is the secret itself, where somebody mistook the one variable for
		// the other.
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return "", fmt.Errorf("[SERVER] %s_FILE names a file that cannot be read: %w", name, err)
	}
	value = strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if value == "" {
		return "", fmt.Errorf("[SERVER] %s_FILE names an empty file", name)
	}
	return value, nil
}
