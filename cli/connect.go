package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"phantom/app"
	"phantom/connect"
	"phantom/db"
	"phantom/trail"
)

// connectOwn connects an account by a key of its own, without a Connect platform.
func connectOwn(ctx context.Context, call Call) error {
	flags := newFlags("connect")
	keyFile := flags.String("key-file", "", "the `file` with a secret or restricted key of the account, sk_… or rk_…")
	secretFile := flags.String("webhook-secret-file", "", "the `file` with the signing secret of the account's endpoint, whsec_… (default: the one of before)")
	readOnly := flags.Bool("read-only", false, "the key may change nothing: audits and levels of access, and no hunts that charge")
	readWrite := flags.Bool("read-write", false, "the key may charge again, after one that only read")
	if err := call.parse(flags); err != nil {
		return err
	}
	if *readOnly && *readWrite {
		return misuse("phantom connect: --read-only and --read-write exclude each other: provide one of them")
	}
	own := connect.OwnKey{ReadOnly: *readOnly, ReadWrite: *readWrite}
	var err error
	if own.Key, err = secretIn(*keyFile, "--key-file", "sk_… or rk_…", connect.IsSecretKey); err != nil {
		return err
	}
	if *secretFile != "" {
		if own.WebhookSecret, err = secretIn(*secretFile, "--webhook-secret-file", "whsec_…", connect.IsWebhookSecret); err != nil {
			return err
		}
	}
	a, err := call.open(ctx, app.Needs{Database: true, Key: true, Stripe: true, MerchantKey: own.Key})
	if err != nil {
		return err
	}
	defer a.Close()
	o, err := a.NewServices().Connect.ConnectOwn(trail.By(ctx, trail.Operator("connect")), own)
	printPermissions(call.Stdout, o.Checked)
	if err != nil {
		return app.OwnKeyAdvice("phantom connect", o, err)
	}
	printOwn(call.Stdout, a.PublicURL.String(), o, own)
	return nil
}

// secretIn reads a file that holds one secret. Its error never quotes what is in it.
func secretIn(path, flag, shape string, is func(string) bool) (string, error) {
	if path == "" {
		return "", misuse("phantom connect needs %s: provide a file with %s in it", flag, shape)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", misuse("phantom connect: %s: %w", flag, err)
	}
	secret := strings.TrimSpace(string(text))
	if !is(secret) {
		return "", misuse("phantom connect: %s holds no such secret: provide a file with %s in it, and nothing else", flag, shape)
	}
	return secret, nil
}

func printPermissions(w io.Writer, checked []connect.Permission) {
	for _, p := range checked {
		verdict := "may be read"
		if !p.Granted {
			verdict = "is MISSING"
			if p.Named != "" {
				verdict += " (" + p.Named + ")"
			}
		}
		fmt.Fprintf(w, "%-14s %s\n", p.Resource, verdict)
	}
}

func printOwn(w io.Writer, public string, o connect.Own, own connect.OwnKey) {
	mode, may := "test mode", "hunts may charge once the playbook says so"
	if o.Livemode {
		mode = "live mode"
	}
	if o.ReadOnly {
		may = "hunts charge nothing, because the key only reads"
	}
	verb := "is connected"
	if o.Before {
		verb = "has its new key"
	}
	fmt.Fprintf(w, "\n%s %s, in %s: %s.\n\nNext:\n", o.Account, verb, mode, may)
	fmt.Fprintf(w, "  phantom audit --merchant %s      finds who owes (a running server has begun it)\n", o.Account)
	fmt.Fprintf(w, "  phantom apikey create --merchant %s\n", o.Account)
	if own.WebhookSecret == "" {
		address := strings.TrimSuffix(public, "/") + "/api/webhooks/stripe/" + o.MerchantID.String()
		fmt.Fprintf(w, "  add a webhook endpoint at Stripe (Developers, Webhooks) for events of your account, with the\n"+
			"  address %s\n  and the events that README.md lists; at a desk: stripe listen --forward-to ADDRESS.\n"+
			"  Then run this command again with --webhook-secret-file.\n", address)
	}
}

// disconnect forgets an account's tokens by its operator's word.
func disconnect(ctx context.Context, call Call) error {
	flags := newFlags("disconnect")
	account := flags.String("merchant", "", "the connected account, `acct_…`")
	if err := call.parse(flags); err != nil {
		return err
	}
	if err := checkAccount("disconnect", *account); err != nil {
		return err
	}
	a, err := call.open(ctx, app.Needs{Database: true})
	if err != nil {
		return err
	}
	defer a.Close()
	err = merchants(a.Pool).DisconnectNow(trail.By(ctx, trail.Operator("disconnect")), *account)
	switch {
	case errors.Is(err, connect.ErrUnknownAccount):
		return unknownAccount("disconnect", *account)
	case err != nil:
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	_, err = fmt.Fprintf(call.Stdout, "%s is disconnected: its tokens are forgotten and its tasks parked. "+
		"At Stripe, revoke the key or the application too.\n", *account)
	return err
}
