package db_test

import (
	"testing"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/vault"
)

const account = "acct_1PhantomTest"

func accessContext(account string) string  { return "merchants.access_token:" + account }
func refreshContext(account string) string { return "merchants.refresh_token:" + account }

// newMerchant is a row whose access token is "sk_" + account.
func newMerchant(account string) db.MerchantCreateParams {
	access := vault.NewToken(accessContext(account), "sk_"+account)
	refresh := vault.NewToken(refreshContext(account), "rt_"+account)
	return db.MerchantCreateParams{
		ID: uuid.Must(uuid.NewV7()), StripeUserID: account, AccessToken: &access, RefreshToken: &refresh, Scope: "read_write",
	}
}

func reveal(t *testing.T, token *vault.EncryptedToken, context string) string {
	t.Helper()
	if token == nil {
		t.Fatal("token is NULL")
	}
	text, err := token.Reveal(context)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestMerchantIsSealedAndReconnectingUpdates(t *testing.T) {
	t.Parallel()
	ctx, queries := t.Context(), db.New(dbtest.Pool(t))

	first := newMerchant(account)
	id, err := queries.MerchantCreate(ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	merchant, err := queries.MerchantGet(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if got := reveal(t, merchant.AccessToken, accessContext(account)); got != "sk_"+account {
		t.Errorf("access token = %q", got)
	}
	if len(*merchant.IV) != 32 || len(*merchant.Tag) != 32 || len(*merchant.EncryptedToken) != 2*len("sk_"+account) {
		t.Errorf("iv %q, tag %q, encrypted_token %q", *merchant.IV, *merchant.Tag, *merchant.EncryptedToken)
	}

	again := newMerchant(account)
	token := vault.NewToken(accessContext(account), "sk_second")
	again.AccessToken, again.RefreshToken = &token, nil
	sameID, err := queries.MerchantCreate(ctx, again)
	if err != nil {
		t.Fatal(err)
	}
	if sameID != id {
		t.Errorf("reconnecting made row %s beside %s", sameID, id)
	}
	updated, err := queries.MerchantGetByStripeUserID(ctx, account)
	if err != nil {
		t.Fatal(err)
	}
	if got := reveal(t, updated.AccessToken, accessContext(account)); got != "sk_second" {
		t.Errorf("access token after reconnecting = %q", got)
	}
	if updated.RefreshToken != nil {
		t.Error("the old refresh token survived reconnecting without one")
	}
	if !updated.ConnectedAt.After(merchant.ConnectedAt) {
		t.Error("connected_at did not move")
	}

	third := vault.NewToken(accessContext(account), "sk_third")
	if rows, err := queries.MerchantUpdate(ctx, db.MerchantUpdateParams{ID: id, AccessToken: &third, Scope: "read_write"}); err != nil || rows != 1 {
		t.Fatalf("update: %d rows, %v", rows, err)
	}
	if updated, err = queries.MerchantGet(ctx, id); err != nil {
		t.Fatal(err)
	}
	if got := reveal(t, updated.AccessToken, accessContext(account)); got != "sk_third" {
		t.Errorf("access token after the update = %q", got)
	}
}
