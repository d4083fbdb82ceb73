//go:build failpoints

package recovery

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/sandbox"
	"phantom/state"
)

// calm ends all that goes wrong, has everybody come back, and lets the world run until nothing is
// left to be done.
func (s *sim) calm() {
	s.say("calm")
	s.killAll()
	s.boot()
	s.draining = true
	s.world.Mend()
	s.must(s.database.run(s.ctx, "DELETE FROM halts"))
	for _, m := range s.merchant {
		if !s.connected(m) {
			s.reconnect(m)
		}
		if m.playbook.Mode == state.ModeOff {
			m.playbook.Mode = state.ModeRecover
			_, err := s.hunts.SetPlaybook(s.ctx, m.id, m.playbook)
			s.must(err)
		}
	}
	end := s.now.Add(time.Duration(s.weather.playbook.WindowDays+9) * 24 * time.Hour)
	for range 10 { // Smart Retries takes two weeks, and a final step waits for it
		for _, m := range s.merchant {
			s.lookAgain(m)
		}
		s.attend(end)
		s.turn(end, 3000)
		if s.tell("SELECT count(*) FROM hunts WHERE state = 'active'") == 0 {
			return
		}
		end = end.Add(2 * 24 * time.Hour)
	}
}

// attend has a person look each day at what is left to one.
func (s *sim) attend(until time.Time) {
	for at := s.now.Add(12 * time.Hour); at.Before(until); at = at.Add(24 * time.Hour) {
		s.plan(at, "a person looks", s.person)
	}
}

// lookAgain is what an audit does each week: nothing may rest on a webhook alone. Mostly it is
// cheaper here.
func (s *sim) lookAgain(m *simMerchant) {
	s.stale = true
	// each is decided some day
	for s.changed(sandbox.Change{Account: m.account, Do: "close_dispute"}) {
	}
	if s.r.IntN(8) == 0 {
		_, err := s.ghosts.StartAudit(s.ctx, m.id, nil)
		s.must(err)
		return
	}
	rows, err := s.database.pool.Query(s.ctx,
		`SELECT DISTINCT stripe_subscription_id FROM ghost_targets g JOIN hunts h ON h.ghost_id = g.id
		WHERE g.merchant_id = $1 ORDER BY 1`, m.id)
	s.must(err)
	subscriptions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	s.must(err)
	for _, id := range subscriptions {
		s.must(s.ghosts.RefreshLater(s.ctx, m.id, id))
	}
}

func (s *sim) changed(c sandbox.Change) bool {
	_, err := s.world.Change(c)
	return err == nil
}

func (s *sim) tell(query string, args ...any) (n int) {
	s.must(s.database.pool.QueryRow(s.ctx, query, args...).Scan(&n))
	return n
}

// person gives up what nobody can know, and has the rest tried again.
func (s *sim) person() {
	for _, t := range s.tasks("needs_review") {
		why := t.reason
		if i := strings.Index(why, "task_"); i >= 0 {
			why = why[:i]
		}
		s.count("left to a person: " + why)
		s.say("left to a person: %s: %s", t, why)
		if t.reason == "" {
			s.breach("I5", "%s is left to a person without a reason", t)
		}
		if Mutates(t.kind) {
			s.cancel(t)
			continue
		}
		_, err := s.queries.TaskRetry(s.ctx, db.TaskRetryParams{MerchantID: t.merchant, ID: t.id})
		s.must(err)
	}
}

func sortedCounts(counts map[string]int) (lines []string) {
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		lines = append(lines, fmt.Sprintf("%7d  %s", counts[what], what))
	}
	return lines
}
