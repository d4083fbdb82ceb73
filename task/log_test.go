package task_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"phantom/state"
	"phantom/task"
)

// What a handler logs names its task, by Run and by RunOne, through contexts derived from its own,
// and in no other place.
func TestLogNamesTheTask(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	config := task.Config{Handlers: map[string]task.Handler{"a": func(ctx context.Context, _ *task.Task) error {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		task.Log(ctx, log).Info("inside", "n", 1)
		return nil
	}}}
	stop := b.run(config)
	id := b.enqueue(task.New{Kind: "a"})
	b.awaitStatus(id, state.TaskSucceeded)
	stop()
	if want := "msg=inside task=" + id.String() + " n=1\n"; !strings.HasSuffix(text.String(), want) {
		t.Errorf("logged %q, want %q", text.String(), want)
	}
	text.Reset()
	config.Log, config.ListenURL = slog.New(slog.DiscardHandler), b.pool.Config().ConnString()
	queue, err := task.NewQueue(b.pool, config)
	if err != nil {
		t.Fatal(err)
	}
	one := b.enqueue(task.New{Kind: "a"})
	if err := queue.RunOne(t.Context(), b.merchant, one); err != nil || !strings.Contains(text.String(), "task="+one.String()) {
		t.Errorf("%v, logged %q", err, text.String())
	}
	text.Reset()
	task.Log(t.Context(), log).Info("outside")
	if strings.Contains(text.String(), "task=") {
		t.Errorf("logged %q", text.String())
	}
}
