package main

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
	"net/http"
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

// standIn starts, in dev mode alone, a stand-in for each thing that is needed and missing, and says so. In every mode it proves the
// vault, where a key is needed, before a database is touched. The returned function ends the stand-ins.
func (c *config) standIn(ctx context.Context, log *slog.Logger) (stop func(), err error) {
	var stops []func()
	stopAll := func() {
		for _, end := range slices.Backward(stops) {
			end()
		}
	}
	var folder string
	if c.dev {
		log.Warn("[SERVER] DEV MODE: not for production, not for real money", "stands_in_for", strings.Join(c.missing, ","))
		if folder, err = devFolder(); err != nil {
			return nil, c.devFailure(fmt.Errorf("[SERVER] dev mode needs a folder for its files: %w", err))
		}
	}
	if c.dev && c.need.key && c.ring == nil {
		if err := c.standInKey(folder, log); err != nil {
			return nil, err
		}
	}
	if c.need.key {
		if err := proveVault(c.ring, log); err != nil {
			return nil, err
		}
	}
	if c.dev && c.need.database && c.databaseURL == "" {
		end, err := c.standInDatabase(ctx, folder, log)
		if err != nil {
			return nil, c.devFailure(err)
		}
		stops = append(stops, end)
	}
	if c.dev && c.need.stripe && c.sandbox {
		end, err := c.standInStripe(folder, log)
		if err != nil {
			stopAll()
			return nil, err
		}
		stops = append(stops, end)
	}
	return stopAll, nil
}

// devFailure names what would have to be set to do without dev mode: it may be on only because nothing reached the process.
func (c *config) devFailure(err error) error {
	return fmt.Errorf("%s; or, outside dev mode, set %s", db.Describe(err), strings.Join(c.missing, ", "))
}

func (c *config) standInDatabase(ctx context.Context, folder string, log *slog.Logger) (stop func(), err error) {
	server, err := local.Start(ctx, local.Config{Dir: filepath.Join(folder, "postgres"), Log: log})
	var missing *local.NotInstalledError
	if errors.As(err, &missing) {
		err = missing
	}
	if err != nil {
		return nil, fmt.Errorf("[DATABASE] %w", err)
	}
	c.databaseURL, c.databaseDirectURL, c.alone = server.URL(), server.URL(), !server.Adopted()
	log.Warn("[DATABASE] DEV MODE: private PostgreSQL in place of DATABASE_URL", "url", server.URL(), "adopted", server.Adopted())
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			log.Error("[DATABASE] private PostgreSQL does not stop", "cause", err)
		}
	}, nil
}

// devFolder is .phantom in the working folder. PostgreSQL refuses to run as root and drops to a user who cannot enter root's
// home, so for root it is a folder of the checkout's own below /var/lib/phantom.
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
		folder = rootFolder(checkout)
	}
	return folder, os.MkdirAll(folder, 0o755) //nolint:gosec // others must be able to pass through; the files in it are closed
}

func rootFolder(checkout string) string {
	sum := sha256.Sum256([]byte(checkout))
	return filepath.Join("/var/lib/phantom", hex.EncodeToString(sum[:6]))
}

// standInKey keeps a random key in folder, so that what it sealed opens the next time.
func (c *config) standInKey(folder string, log *slog.Logger) error {
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
func (c *config) standInStripe(folder string, log *slog.Logger) (stop func(), err error) {
	config := sandbox.Config{SecretKey: c.stripeSecretKey, ClientID: c.stripeClientID, StateFile: filepath.Join(folder, "sandbox.json")}
	if c.serves && len(c.webhookSecrets) == 0 {
		config.Webhook = sandbox.Webhook{URL: fmt.Sprintf("http://localhost:%d/api/webhooks/stripe", c.port), Secret: "whsec_" + rand.Text()}
		c.webhookSecrets = []string{config.Webhook.Secret}
	}
	world, err := sandbox.New(config)
	if err != nil {
		return nil, fmt.Errorf("[STRIPE] sandbox: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("[STRIPE] sandbox: %w", err)
	}
	server := newSandboxServer(world)
	go func() { _ = server.Serve(listener) }()
	ended := make(chan struct{})
	go live(world, ended)
	base := "http://" + listener.Addr().String()
	c.stripeAPIBase, c.stripeConnectBase = base, base
	c.useSandboxProviders(base)
	log.Warn("[STRIPE] DEV MODE: the built-in sandbox in place of Stripe", "url", base)
	return func() {
		close(ended)
		world.Close()
		_ = server.Close()
	}, nil
}

// live lets the sandbox's time pass also while nobody asks it, so that its events come when they happen.
func live(world *sandbox.Sandbox, ended <-chan struct{}) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			world.Advance()
		case <-ended:
			return
		}
	}
}

func newSandboxServer(world http.Handler) *http.Server {
	return &http.Server{
		Handler: world, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: time.Minute,
	}
}
