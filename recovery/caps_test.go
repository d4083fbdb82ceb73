package recovery

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/playbook"
	"phantom/task"
	"phantom/vault"
)

// planMany plans count messages to few persons: each address and number belongs to several
// customers, and each has hunts on both channels.
func (p *office) planMany(count, persons int) {
	p.t.Helper()
	hash, err := p.s.connect.Hasher(p.t.Context(), p.merchant)
	p.must(err)
	var ghosts, hunts, ids []uuid.UUID
	var customers, channels []string
	var hashes [][]byte
	var emails []vault.EncryptedToken
	for i := range count {
		who, customer := i%persons, fmt.Sprint("cus_", i%(5*persons))
		ghost := uuid.Must(uuid.NewV7())
		ghosts, hunts, ids = append(ghosts, ghost), append(hunts, uuid.Must(uuid.NewV7())), append(ids, uuid.Must(uuid.NewV7()))
		customers, hashes = append(customers, customer), append(hashes, hash("customer", customer))
		emails = append(emails, vault.NewToken("ghost_targets.email:"+ghost.String(), fmt.Sprintf("canary%d@example.com", who)))
		channels = append(channels, []string{playbook.Email, playbook.SMS}[i/(5*persons)%2])
		p.world.phones[customer] = fmt.Sprintf("+1415555%04d", who)
	}
	p.Exec(`INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, email, amount, currency, decline_class, rule)
		SELECT $1, id, customer, 'sub_' || id, 'in_' || id, email, 4900, 'usd', 'timed', 'an open invoice'
		FROM (SELECT unnest($2::uuid[]) AS id, unnest($3::text[]) AS customer, unnest($4::sealed_token[]) AS email) AS g`, p.merchant, ghosts, customers, emails)
	p.Exec(`INSERT INTO hunts (merchant_id, id, ghost_id, customer, playbook_version, mode, held_out, livemode, decline_class, currency, amount)
		SELECT $1, id, ghost, hash, 1, 'recover', false, false, 'timed', 'usd', 4900 FROM unnest($2::uuid[], $3::uuid[], $4::bytea[]) AS h (id, ghost, hash)`, p.merchant, hunts, ghosts, hashes)
	p.Exec(`INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, planned_for)
		SELECT $1, id, hunt, 0, channel, 'reminder', phantom_now() FROM unnest($2::uuid[], $3::uuid[], $4::text[]) AS m (id, hunt, channel)`, p.merchant, ids, hunts, channels)
	p.Exec(`INSERT INTO scheduled_tasks (merchant_id, id, kind) SELECT $1, id, channel FROM unnest($2::uuid[], $3::text[]) AS t (id, channel)`, p.merchant, ids, channels)
}

// overCaps counts the persons who have got more than a cap allows, in any window that ends with one
// of their messages.
const overCaps = `
WITH sent AS (SELECT person, channel, sent_at FROM (SELECT unnest(persons) AS person, channel, sent_at FROM messages WHERE sent_at IS NOT NULL) AS s)
SELECT count(*) FROM sent AS last WHERE
    (SELECT count(*) FROM sent s WHERE s.person = last.person AND s.channel = last.channel AND s.sent_at <= last.sent_at AND s.sent_at > last.sent_at - interval '1 day') > 1
    OR (SELECT count(*) FROM sent s WHERE s.person = last.person AND s.sent_at <= last.sent_at AND s.sent_at > last.sent_at - interval '7 days') > 4
    OR (SELECT count(*) FROM sent s WHERE s.person = last.person AND s.sent_at <= last.sent_at AND s.sent_at > last.sent_at - interval '30 days') > 12`

// postSetting is what a worker process that writes messages is told.
type postSetting struct{ Database, Provider string }

func postWorker(text []byte) error {
	var setting postSetting
	if err := json.Unmarshal(text, &setting); err != nil {
		return err
	}
	ring, err := dbtest.NewRing()
	if err != nil {
		return err
	}
	pool, err := db.Open(context.Background(), setting.Database, ring)
	if err != nil {
		return err
	}
	queue, err := task.NewQueue(pool, task.Config{
		ListenURL: setting.Database, Handlers: postService(pool, setting.Provider, os.Stderr).Handlers(),
		Lease: 2 * time.Second, Poll: 100 * time.Millisecond, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	queue.Run(context.Background())
	return nil
}

// mostToOne is the largest number of emails that one address, or of SMS that one number, has got.
func (w *world) mostToOne() (most int) {
	got := map[string]int{}
	w.set(func() {
		for _, email := range w.emails {
			var to struct{ To []string }
			_ = json.Unmarshal([]byte(email.body), &to) // nobody is counted below
			got[strings.Join(to.To, ",")]++
		}
		for _, text := range w.texts {
			got[text.to]++
		}
	})
	for _, n := range got {
		most = max(most, n)
	}
	return most
}

// 2,500 requests (10,000 with PHANTOM_LONG) to write to seven persons, worked off by three
// processes of which one is killed -9 now and then, never pass a cap; nor do those that are left
// over in the 24 days that follow.
func TestCapsHoldUnderHostileLoad(t *testing.T) {
	t.Parallel()
	const persons = 7
	count := 2500
	if os.Getenv("PHANTOM_LONG") != "" {
		count = 10_000
	}
	p := setupPost(t)
	p.planMany(count, persons)
	start := func() *exec.Cmd {
		command := newWorker(t, "post", postSetting{p.pool.Config().ConnString(), p.url}, p.log, p.log)
		p.must(command.Start())
		return command
	}
	end := func(command *exec.Cmd) {
		_ = command.Process.Kill()
		_ = command.Wait()
		if !killed(command.ProcessState) {
			t.Errorf("a worker ended by itself: %v", command.ProcessState)
		}
	}
	processes := []*exec.Cmd{start(), start(), start()}
	defer func() {
		for _, process := range processes {
			end(process)
		}
	}()
	died := 0
	// run waits until nothing is due, and kills a process at each of so many equal parts of the
	// way.
	run := func(due, kills int) {
		t.Helper()
		// The moment between two looks is meant to be random.
		for whole, done := due, 0; due > 0; time.Sleep(time.Duration(20+rand.IntN(60)) * time.Millisecond) {
			due = p.Count("SELECT count(*) FROM scheduled_tasks WHERE status = 'running' OR status = 'pending' AND run_at <= phantom_now()")
			if done < kills && due < whole-done*whole/kills {
				victim := rand.IntN(len(processes))
				end(processes[victim])
				processes[victim] = start()
				done, died = done+1, died+1
			}
		}
	}
	run(count, 8)
	// A process that dies between its mark and its request leaves an SMS that nobody sends: at most
	// once.
	_, emails, texts := p.world.took()
	marked := func(channel string) int {
		return p.Count("SELECT count(*) FROM messages WHERE channel = $1 AND sent_at IS NOT NULL", channel)
	}
	if over, most := p.Count(overCaps), p.world.mostToOne(); over != 0 || most != 1 || emails != persons || texts > persons || marked(playbook.Email) != persons || marked(playbook.SMS) != persons {
		t.Errorf("%d over a cap; %d emails and %d SMS to %d persons, up to %d to one", over, emails, texts, persons, most)
	}
	p.Exec(`DELETE FROM scheduled_tasks WHERE id IN (SELECT id FROM scheduled_tasks WHERE status = 'pending' AND first_sent_at IS NULL
		ORDER BY id DESC OFFSET 700)`)
	for day := range 24 {
		p.Exec("UPDATE messages SET sent_at = sent_at - interval '1 day' - interval '1 second'")
		p.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE status = 'pending' AND id IN (SELECT id FROM scheduled_tasks WHERE status = 'pending' ORDER BY random() LIMIT 50)")
		run(50, (day+1)%2)
		if over := p.Count(overCaps); over != 0 {
			t.Fatalf("%d over a cap", over)
		}
	}
	total, sure := marked(playbook.Email)+marked(playbook.SMS), p.Count("SELECT count(*) FROM messages WHERE state = 'sent'")
	_, allEmails, allTexts := p.world.took()
	if total <= persons*8 || total > persons*12 || allEmails+allTexts > total || allEmails+allTexts < sure || allEmails != marked(playbook.Email) {
		t.Errorf("%d messages in 24 days, %d known as sent, %d emails and %d SMS taken", total, sure, allEmails, allTexts)
	}
	t.Logf("%d requests over three processes, %d killed: %d messages at once, %d in 24 days", count, died, emails+texts, total)
}
