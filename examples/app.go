//go:build ignore

// A merchant's app in Go: who may come in, what holds while PHANTOM is away, and events.
//
//	SHIELD_URL=http://127.0.0.1:8081 SHIELD_KEY=phs_… WEBHOOK_SECRET=whsec_… PORT=3000 go run app.go
//
// SHIELD_URL is the server, or phantom edge beside this app.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

var (
	known  sync.Map // what PHANTOM said last of each customer: a bool
	client = http.Client{Timeout: 500 * time.Millisecond}
)

func mayUse(customer string) bool {
	access, err := ask(customer)
	if err == nil {
		known.Store(customer, access)
		return access
	}
	log.Printf("access: %v", err)
	if last, ok := known.Load(customer); ok {
		return last.(bool)
	}
	return true // a fault of ours locks nobody out
}

func ask(customer string) (bool, error) {
	r, err := http.NewRequest("GET", os.Getenv("SHIELD_URL")+"/api/shield/customers/"+url.PathEscape(customer), nil)
	if err != nil {
		return false, err
	}
	r.Header.Set("Authorization", "Bearer "+os.Getenv("SHIELD_KEY"))
	answer, err := client.Do(r)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return false, fmt.Errorf("PHANTOM has answered %d", answer.StatusCode)
	}
	var verdict struct{ Access bool }
	err = json.NewDecoder(answer.Body).Decode(&verdict)
	return verdict.Access, err
}

// isGenuine does what the library github.com/standard-webhooks/standard-webhooks/libraries does.
func isGenuine(header http.Header, body []byte) bool {
	id, at := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || math.Abs(float64(time.Now().Unix()-seconds)) > 300 {
		return false
	}
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("WEBHOOK_SECRET"), "whsec_"))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, given := range strings.Fields(header.Get("webhook-signature")) {
		if hmac.Equal([]byte(given), []byte(want)) {
			return true
		}
	}
	return false
}

func main() {
	for _, name := range []string{"SHIELD_URL", "SHIELD_KEY", "WEBHOOK_SECRET"} {
		if os.Getenv(name) == "" {
			log.Fatalf("Please set %s. POST /api/endpoints answers with the secret.", name)
		}
	}
	http.HandleFunc("POST /hooks", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		var event struct {
			Type string
			Data struct{ Customer string }
		}
		if err != nil || !isGenuine(r.Header, body) || json.Unmarshal(body, &event) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		log.Printf("event %s %s", event.Type, event.Data.Customer)
		if event.Type == "access.changed" {
			mayUse(event.Data.Customer)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	http.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		// Your session says who this is. A header that a visitor can set does not.
		customer := r.Header.Get("X-Customer")
		if customer == "" {
			http.Error(w, "Please sign in.", http.StatusUnauthorized)
			return
		}
		if !mayUse(customer) {
			http.Error(w, "Please look at your billing page.", http.StatusPaymentRequired)
			return
		}
		fmt.Fprintln(w, "Welcome.")
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
