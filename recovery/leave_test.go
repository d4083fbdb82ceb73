package recovery

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/playbook"
	"phantom/state"
	"phantom/task"
)

// sleepy is a wall clock that jumps by an hour after its first look, as that of a machine that is
// put to sleep and woken.
func sleepy() func() time.Time {
	var looks atomic.Int64
	return func() time.Time {
		if looks.Add(1) > 1 {
			return time.Now().Add(time.Hour)
		}
		return time.Now()
	}
}

// What stood still between its last look and its sending does not leave. It is planned as before,
// and everything is looked at anew.
func TestNothingLeavesLate(t *testing.T) {
	t.Parallel()
	for _, channel := range []string{playbook.SMS, playbook.Email} {
		t.Run(channel, func(t *testing.T) {
			t.Parallel()
			p := setupPost(t)
			sent, _ := p.plan(person{"cus_1", "a@example.com"}, channel, "reminder")
			stopped, hunt := p.plan(person{"cus_2", "b@example.com"}, channel, "reminder")
			p.world.phones["cus_2"] = "+14155550124"
			for _, id := range []uuid.UUID{sent, stopped} {
				p.at(sleepy())
				p.try(id)
				got, why := p.state(id)
				requests, _, _ := p.world.took()
				row := p.row(id)
				if requests != 0 || got != state.MessagePlanned || row.FirstSentAt != nil || row.SealedParams != nil || row.Status != state.TaskPending {
					t.Fatalf("%d requests, the message is %s (%s), its task %s, first sent %v", requests, got, why, row.Status, row.FirstSentAt)
				}
			}
			p.at(time.Now)
			p.Exec("UPDATE hunts SET state = 'stopped', ended_reason = 'x', ended_at = phantom_now() WHERE id = $1", hunt)
			p.try(sent)
			p.try(stopped)
			if got, why := p.state(sent); got != state.MessageSent {
				t.Errorf("in time: %s, %s", got, why)
			}
			if got, why := p.state(stopped); got != state.MessageSkipped || !strings.Contains(why, "hunt has ended") {
				t.Errorf("stopped meanwhile: %s, %s", got, why)
			}
			if requests, _, _ := p.world.took(); requests != 1 {
				t.Errorf("%d requests", requests)
			}
		})
	}
}

// An email whose first answer was lost does not leave late either, and is not forgotten.
func TestNoRepetitionLeavesLate(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	p.world.faults = func(n int) fault {
		if n == 1 {
			return dropAfter
		}
		return none
	}
	id, _ := p.plan(ada, playbook.Email, "reminder")
	p.try(id)
	p.at(sleepy())
	p.try(id)
	requests, _, _ := p.world.took()
	if got, why := p.state(id); got != state.MessageSending || requests != 1 || p.row(id).FirstSentAt == nil {
		t.Fatalf("%d requests, %s %s", requests, got, why)
	}
	p.at(time.Now)
	p.try(id)
	requests, emails, _ := p.world.took()
	if got, why := p.state(id); got != state.MessageSent || requests != 2 || emails != 1 {
		t.Errorf("%d requests, %d emails, %s %s", requests, emails, got, why)
	}
}

// newest stores a newer version of the playbook than the one that running hunts keep.
func (p *office) newest(change func(*playbook.Playbook)) {
	p.t.Helper()
	chosen := playbook.Default()
	chosen.Mode, chosen.QuietHours = state.ModeRecover, playbook.QuietHours{From: "00:00", To: "00:00", Zone: "customer"}
	chosen.Auto = false // chosen by hand
	change(&chosen)
	body, err := json.Marshal(chosen)
	p.must(err)
	p.Exec("INSERT INTO playbooks (merchant_id, version, body) SELECT merchant_id, max(version) + 1, $1 FROM playbooks GROUP BY merchant_id", body)
}

// Who turns recovering off, or halts everything, stops the messages of running hunts too: nothing
// is sent, nothing of Stripe is read, and once it is on again they go on.
func TestNewestPlaybookStopsMessages(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	reads := p.world.counting()
	id, _ := p.plan(ada, playbook.SMS, "reminder")
	for _, mode := range []state.Mode{state.ModeOff, state.ModeObserve} {
		p.newest(func(playbook *playbook.Playbook) { playbook.Mode = mode })
		claimed := p.claim(id)
		verdict := p.s.Handlers()[playbook.SMS](t.Context(), claimed)
		p.settle(claimed, verdict)
		requests, _, _ := p.world.took()
		got, why := p.state(id)
		if requests != 0 || reads() != 0 || got != state.MessagePlanned || !reflect.DeepEqual(verdict, task.Snooze(15*time.Minute)) {
			t.Errorf("mode %s: %d requests and %d reads, %s %s, then %#v", mode, requests, reads(), got, why, verdict)
		}
		if n := p.Count("SELECT count(*) FROM hunts WHERE state = 'active'"); n != 1 {
			t.Errorf("mode %s: the hunt has ended", mode)
		}
	}
	p.newest(func(*playbook.Playbook) {})
	p.Exec("INSERT INTO halts (scope) VALUES ($1)", p.merchant)
	p.try(id)
	if requests, _, _ := p.world.took(); requests != 0 || reads() != 0 {
		t.Errorf("during a halt: %d requests and %d reads", requests, reads())
	}
	p.Exec("DELETE FROM halts")
	p.try(id)
	if got, why := p.state(id); got != state.MessageSent || reads() == 0 {
		t.Errorf("on again: %s %s", got, why)
	}
}

// What is turned off while Stripe is read is not sent, and neither is an email once more whose
// answer was lost.
func TestNewestPlaybookStopsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	id, _ := p.plan(ada, playbook.Email, "reminder")
	p.world.set(func() {
		p.world.reading = func() { p.newest(func(chosen *playbook.Playbook) { chosen.Mode = state.ModeOff }) }
	})
	p.try(id)
	if requests, _, _ := p.world.took(); requests != 0 {
		t.Fatal("it was sent")
	}
	p.world.set(func() { p.world.reading = nil })
	p.newest(func(*playbook.Playbook) {})
	p.world.set(func() {
		p.world.faults = func(n int) fault {
			if n == 1 {
				return dropAfter
			}
			return none
		}
	})
	p.try(id)
	p.newest(func(chosen *playbook.Playbook) { chosen.Mode = state.ModeOff })
	reads := p.world.counting()
	p.try(id)
	requests, _, _ := p.world.took()
	if got, why := p.state(id); requests != 1 || reads() != 0 || got != state.MessageSending {
		t.Errorf("%d requests and %d reads, %s %s", requests, reads(), got, why)
	}
	p.newest(func(*playbook.Playbook) {})
	p.try(id)
	if got, why := p.state(id); got != state.MessageSent {
		t.Errorf("on again: %s %s", got, why)
	}
}

// Another night than that of a hunt's own version holds at once.
func TestNewestQuietHoursHold(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	p.stand("2027-01-15T12:00:00Z")
	id, _ := p.plan(ada, playbook.Email, "reminder")
	p.newest(func(chosen *playbook.Playbook) {
		chosen.QuietHours = playbook.QuietHours{From: "11:00", To: "14:00", Zone: "UTC"}
	})
	p.try(id)
	if got, why := p.state(id); got != state.MessagePlanned || p.Count("SELECT count(*) FROM messages WHERE planned_for = '2027-01-15 14:00Z'") != 1 {
		t.Errorf("%s %s", got, why)
	}
}

// An SMS keeps to all zones of the customer's country and of their number's; an email to the
// customer's own.
func TestNoSMSAtNightAnywhere(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	p.Exec(`UPDATE playbooks SET body = jsonb_set(body, '{quiet_hours}', '{"from":"21:00","to":"08:00","zone":"customer"}')`)
	for _, test := range []struct{ name, channel, zone, phone, at, until string }{
		{"an email at nine in New York", playbook.Email, "America/New_York", number, "2027-01-15T14:00:00Z", ""},
		{"an SMS at nine in New York", playbook.SMS, "America/New_York", number, "2027-01-15T14:00:00Z", "2027-01-15T18:00:00Z"},
		{"an SMS at one in New York", playbook.SMS, "America/New_York", "+14155550130", "2027-01-15T18:00:00Z", ""},
		{"an American number of a customer in Berlin", playbook.SMS, "Europe/Berlin", "+14155550131", "2027-01-15T09:00:00Z", "2027-01-15T18:00:00Z"},
		{"a German number of a customer in Berlin", playbook.SMS, "Europe/Berlin", "+4915112345678", "2027-01-15T09:00:00Z", ""},
		{"a British number of a customer in Canada", playbook.SMS, "America/St_Johns", "+447400123456", "2027-01-15T21:30:00Z", "2027-01-16T16:00:00Z"},
	} {
		p.stand(test.at)
		who := person{"cus_" + test.name, strings.ReplaceAll(test.name, " ", ".") + "@example.com"}
		p.world.set(func() { p.world.phones[who.customer] = test.phone })
		id, hunt := p.plan(who, test.channel, "payment_failed")
		p.Exec("UPDATE ghost_targets SET zone = $2 WHERE id = (SELECT ghost_id FROM hunts WHERE id = $1)", hunt, test.zone)
		p.Exec("UPDATE hunts SET began_at = phantom_now() WHERE id = $1", hunt)
		p.try(id)
		got, why := p.state(id)
		if test.until == "" && got != state.MessageSent {
			t.Errorf("%s: %s, %s", test.name, got, why)
		}
		if test.until != "" && (got != state.MessagePlanned || p.Count("SELECT count(*) FROM messages WHERE id = $1 AND planned_for = $2::text::timestamptz", id, test.until) != 1) {
			t.Errorf("%s: %s, %s, not put off until %s but %s", test.name, got, why, test.until, p.Text("SELECT planned_for::text FROM messages WHERE id = $1", id))
		}
	}
}
