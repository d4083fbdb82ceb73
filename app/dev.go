package app

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"phantom/db"
	"phantom/db/local"
	"phantom/sandbox"
	"phantom/vault"
)

// StandIn starts, in dev mode alone, a stand-in for each thing that is needed and missing, and says
// so. In every mode it proves the vault, where a key is needed, before a database is touched. The
// returned function ends the stand-ins.
func (c *Config) StandIn(ctx context.Context, log *slog.Logger) (stop func(), err error) {
	var stops []func()
	stopAll := func() {
		for _, end := range slices.Backward(stops) {
			end()
		}
	}
	var folder string
	if c.Dev {
		log.Warn("[SERVER] DEV MODE: not for production, not for real money", "stands_in_for", strings.Join(c.Missing, ","))
	}
	if c.Dev && len(c.Missing) > 0 {
		if folder, err = devFolder(); err != nil {
			return nil, c.devFailure(fmt.Errorf("[SERVER] dev mode needs a folder for its files: %w", err))
		}
	}
	if c.Dev && c.need.Key && c.Ring == nil {
		if err := c.standInKey(folder, log); err != nil {
			return nil, err
		}
	}
	if c.need.Key {
		if err := proveVault(c.Ring, log); err != nil {
			return nil, err
		}
	}
	if c.Dev && c.need.Database && c.DatabaseURL == "" {
		end, err := c.standInDatabase(ctx, folder, log)
		if err != nil {
			return nil, c.devFailure(err)
		}
		stops = append(stops, end)
	}
	if c.Dev && c.need.Stripe && c.Sandbox {
		end, err := c.standInStripe(folder, log)
		if err != nil {
			stopAll()
			return nil, err
		}
		stops = append(stops, end)
	}
	return stopAll, nil
}

// devFailure names what would have to be set to do without dev mode: it may be on only because
// nothing reached the process.
func (c *Config) devFailure(err error) error {
	return fmt.Errorf("%s; or, outside dev mode, set %s", db.Describe(err), strings.Join(c.Missing, ", "))
}

func (c *Config) standInDatabase(ctx context.Context, folder string, log *slog.Logger) (stop func(), err error) {
	server, err := local.Start(ctx, local.Config{Dir: filepath.Join(folder, "postgres"), Log: log})
	var missing *local.NotInstalledError
	if errors.As(err, &missing) {
		err = missing
	}
	if err != nil {
		return nil, fmt.Errorf("[DATABASE] %w", err)
	}
	c.DatabaseURL, c.DatabaseDirectURL, c.alone = server.URL(), server.URL(), !server.Adopted()
	log.Warn("[DATABASE] DEV MODE: private PostgreSQL in place of DATABASE_URL", "url", server.URL(), "adopted", server.Adopted())
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			log.Error("[DATABASE] private PostgreSQL does not stop", "cause", err)
		}
	}, nil
}

// devFolder is .phantom in the working folder. PostgreSQL refuses to run as root and drops to a
// user who cannot enter root's home, so for root it is a folder of the checkout's own below
// /var/lib/phantom.
func devFolder() (string, error) {
	checkout, err := os.Getwd()
	if err != nil {
		return "", err
	}
	if checkout, err = filepath.EvalSymlinks(checkout); err != nil { // one folder by any name
		return "", err
	}
	folder := filepath.Join(checkout, ".phantom")
	if os.Geteuid() == 0 {
		folder = RootFolder(checkout)
	}
	// Others must be able to pass through. The files in it are closed.
	return folder, os.MkdirAll(folder, 0o755) //nolint:gosec // see above
}

// RootFolder is dev mode's for root in a checkout.
func RootFolder(checkout string) string {
	sum := sha256.Sum256([]byte(checkout))
	return filepath.Join("/var/lib/phantom", hex.EncodeToString(sum[:6]))
}

// standInKey keeps a random key in folder, so that what it sealed opens the next time.
func (c *Config) standInKey(folder string, log *slog.Logger) error {
	path := filepath.Join(folder, "encryption_key")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var raw [32]byte
		_, _ = rand.Read(raw[:])
		text = []byte(hex.EncodeToString(raw[:]) + "\n")
		err = writeOnce(path, text)
		if errors.Is(err, fs.ErrExist) { // another process was faster
			text, err = os.ReadFile(path)
		}
	}
	if err != nil {
		return fmt.Errorf("[SECURITY] dev mode cannot keep its key: %w", err)
	}
	key, err := vault.ParseKey(string(text))
	if err != nil {
		return fmt.Errorf("[SECURITY] %s holds no key: %w", path, err)
	}
	log.Warn("[SECURITY] DEV MODE: a random key in place of ENCRYPTION_KEY", "file", path)
	return c.setKey(key)
}

// writeOnce puts a whole file in place or, if there is one already, fs.ErrExist.
func writeOnce(path string, text []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.Write(text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Link(file.Name(), path)
}

// standInStripe runs the sandbox inside this process on a free port of the loopback address.
func (c *Config) standInStripe(folder string, log *slog.Logger) (stop func(), err error) {
	config := sandbox.Config{SecretKey: c.StripeSecretKey, ClientID: c.StripeClientID, StateFile: filepath.Join(folder, "sandbox.json")}
	if c.need.Serves && len(c.WebhookSecrets) == 0 {
		config.Webhook = sandbox.Webhook{URL: fmt.Sprintf("http://localhost:%d/api/webhooks/stripe", c.Port), Secret: "whsec_" + rand.Text()}
		c.WebhookSecrets = []string{config.Webhook.Secret}
	}
	world, err := sandbox.New(config)
	if err != nil {
		return nil, fmt.Errorf("[STRIPE] sandbox: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("[STRIPE] sandbox: %w", err)
	}
	server := world.Server()
	go func() { _ = server.Serve(listener) }()
	passing, end := context.WithCancel(context.Background())
	go world.PassTime(passing, 10*time.Second)
	base := "http://" + listener.Addr().String()
	c.StripeAPIBase, c.StripeConnectBase = base, base
	c.useSandboxProviders(base)
	log.Warn("[STRIPE] DEV MODE: the built-in sandbox in place of Stripe", "url", base)
	return func() {
		end()
		world.Close()
		_ = server.Close()
	}, nil
}
