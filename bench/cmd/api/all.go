package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/playbook"
	"phantom/state"
	"phantom/task"
	"phantom/vault"
)

const dryRuns = 30 // at a time

// huntAll tries playbooks out and then hunts all ghosts, while another merchant asks for their
// summary.
func (c *client) huntAll(ctx context.Context, pool *pgxpool.Pool, merchant uuid.UUID) error {
	neighbour, err := c.neighbour(ctx, pool)
	if err != nil {
		return err
	}
	chosen := playbook.Default()
	chosen.Mode, chosen.Steps, chosen.Auto = state.ModeObserve, []playbook.Step{}, false
	if _, err := c.hunts.SetPlaybook(ctx, merchant, chosen); err != nil {
		return err
	}
	before := resident()
	var most int
	took, others, err := neighbour.while(func() error {
		var group sync.WaitGroup
		errs := make([]error, dryRuns)
		for i := range dryRuns {
			group.Go(func() { _, errs[i] = c.hunts.DryRun(ctx, merchant, chosen) })
		}
		group.Wait()
		return errors.Join(errs...)
	}, func() { most = max(most, resident()) })
	if err != nil {
		return err
	}
	fmt.Printf("\n%d dry runs at a time: %.1f s, %d MB more; another merchant's summary meanwhile: median %s, most %s\n", dryRuns, took.Seconds(),
		(most-before)>>10, milliseconds(median(others)), milliseconds(slices.Max(append(others, 0))))

	answer := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodPost, "/api/hunts", strings.NewReader(`{"ghosts":"all"}`))
	request.Header.Set("Authorization", "Bearer "+c.key)
	request.Header.Set("Content-Type", "application/json")
	asked := time.Now()
	if c.handler.ServeHTTP(answer, request); answer.Code != http.StatusAccepted {
		return fmt.Errorf("POST /api/hunts answered %d: %s", answer.Code, answer.Body)
	}
	fmt.Printf("all are asked for: 202 after %s\n", milliseconds(time.Since(asked)))
	all, err := c.hunts.StartAll(ctx, merchant) // the same
	if err != nil {
		return err
	}
	queue, err := task.NewQueue(pool, task.Config{
		ListenURL: pool.Config().ConnString(), Handlers: c.hunts.Handlers(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	before, most = resident(), 0
	took, others, err = neighbour.while(func() error { return queue.RunOne(ctx, merchant, all.ID) }, func() { most = max(most, resident()) })
	if err != nil {
		return err
	}
	if all, err = c.hunts.ReadStart(ctx, merchant, all.ID); err != nil {
		return err
	}
	fmt.Printf("%d hunts of %d ghosts begin in %.0f s (%s), %d MB more; another merchant's summary meanwhile: median %s, most %s\n", all.Hunts, all.LookedAt,
		took.Seconds(), all.State, (most-before)>>10, milliseconds(median(others)), milliseconds(slices.Max(append(others, 0))))
	return nil
}

// neighbour is another merchant's client.
func (c *client) neighbour(ctx context.Context, pool *pgxpool.Pool) (*client, error) {
	access := vault.NewToken("merchants.access_token:acct_2", "sk_test_2")
	merchant, err := db.New(pool).MerchantCreate(ctx, db.MerchantCreateParams{
		ID: uuid.Must(uuid.NewV7()), StripeUserID: "acct_2", AccessToken: &access, Scope: "read_write",
	})
	if err != nil {
		return nil, err
	}
	if err := load(ctx, pool, merchant, 100); err != nil {
		return nil, err
	}
	key, _, err := connect.New(connect.Config{Log: slog.New(slog.DiscardHandler)}, pool).CreateAPIKey(ctx, "acct_2", connect.NewAPIKey{Scope: connect.ScopeWrite})
	return &client{handler: c.handler, key: key}, err
}

// while asks for the summary until do has ended, and says how long that and each answer took.
func (c *client) while(do func() error, each func()) (took time.Duration, answers []time.Duration, err error) {
	began := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- do() }()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case err := <-ended:
			tick.Stop()
			return time.Since(began), answers, err
		case <-tick.C:
		}
		one, _, err := c.get("/api/summary")
		if err != nil {
			return 0, nil, err
		}
		answers = append(answers, one)
		each()
	}
}

// resident is this process's memory in kB.
func resident() (kilobytes int) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	if _, after, found := strings.Cut(string(text), "VmRSS:"); found {
		_, _ = fmt.Sscan(after, &kilobytes)
	}
	return kilobytes
}
