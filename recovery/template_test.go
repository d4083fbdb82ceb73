package recovery

import (
	"errors"
	"strings"
	"testing"

	"phantom/input"
	"phantom/message"
	"phantom/playbook"
	"phantom/state"
)

// A running hunt keeps the version of the playbook that it began with, and the template that this
// names.
func TestTemplatesOfRunningHuntsStay(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	wording := message.Template{Channel: playbook.SMS, Name: "mine", Text: "{{.Company}}: {{.PayURL}}"}
	_, err := p.s.messages.SetTemplate(t.Context(), p.merchant, wording)
	p.must(err)
	chosen := playbook.Default()
	chosen.Mode, chosen.Steps = state.ModeRecover, []playbook.Step{{AfterDays: 0, Channel: playbook.Email, Template: "reminder"}, {AfterDays: 1, Channel: playbook.SMS, Template: "mine"}}
	old, err := p.s.SetPlaybook(t.Context(), p.merchant, chosen)
	p.must(err)
	_, hunt := p.plan(ada, playbook.Email, "reminder")
	p.Exec("UPDATE hunts SET playbook_version = $1", old.Version)
	refused := func(rule string) {
		t.Helper()
		var wrong *input.FieldError
		if err := p.s.messages.DeleteTemplate(t.Context(), p.merchant, playbook.SMS, "mine"); !errors.As(err, &wrong) || wrong.Field != "name" || !strings.Contains(wrong.Rule, rule) {
			t.Errorf("%v, want %q", err, rule)
		}
	}
	refused("change the playbook first")
	chosen.Steps = chosen.Steps[:1]
	_, err = p.s.SetPlaybook(t.Context(), p.merchant, chosen)
	p.must(err)
	refused("running hunts")
	p.must(p.s.Stop(t.Context(), p.merchant, hunt))
	p.must(p.s.messages.DeleteTemplate(t.Context(), p.merchant, playbook.SMS, "mine"))
}
