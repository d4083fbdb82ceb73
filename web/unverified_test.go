package web

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// Bodies of all sizes are read whole, and what they held is given back, also after an error.
func TestUnverifiedGivesBack(t *testing.T) {
	t.Parallel()
	u := newUnverified()
	for _, size := range []int{0, 1, firstBytes - 1, firstBytes, firstBytes + 1, 100_000, 1 << 20} {
		text := bytes.Repeat([]byte("x"), size)
		for name, reader := range map[string]io.Reader{
			"at once": bytes.NewReader(text), "with its end": iotest.DataErrReader(bytes.NewReader(text)), "by halves": iotest.HalfReader(bytes.NewReader(text)),
		} {
			body, done, err := u.read(reader)
			if err != nil || !bytes.Equal(body, text) {
				t.Errorf("%d bytes %s: %d, %v", size, name, len(body), err)
			}
			done()
			done()
		}
		failed := errors.New("gone")
		_, done, err := u.read(io.MultiReader(bytes.NewReader(text), iotest.ErrReader(failed)))
		done()
		if !errors.Is(err, failed) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if !u.first.TryAcquire(firstBudget) || !u.more.TryAcquire(moreBudget) {
		t.Error("something is held for ever")
	}
}

// A flood of large bodies holds no more than its share, and refuses no small one.
func TestLargeBodiesRefuseNoSmallOne(t *testing.T) {
	t.Parallel()
	u := newUnverified()
	release := make(chan struct{})
	held := make(chan int)
	var flood sync.WaitGroup
	for range 600 {
		flood.Go(func() {
			body, done, err := u.read(strings.NewReader(strings.Repeat("x", 1<<20)))
			if err != nil && !errors.Is(err, errTooManyBytes) {
				t.Error(err)
			}
			held <- cap(body)
			<-release
			done()
		})
	}
	read, refused := 0, 0
	for range 600 {
		size := <-held
		if read += size; size == 0 {
			refused++
		}
	}
	if read > moreBudget || refused == 0 {
		// it may be all of them: each holds a part of what it needs
		t.Errorf("%d bytes are held, %d bodies refused", read, refused)
	}
	for range 300 {
		body, done, err := u.read(strings.NewReader(strings.Repeat("x", 10_000)))
		if err != nil || len(body) != 10_000 {
			t.Fatalf("a small one: %d, %v", len(body), err)
		}
		done()
	}
	close(release)
	flood.Wait()
	var all []func()
	small := strings.Repeat("x", firstBytes-1)
	for range firstBudget/firstBytes - 1 { // the last one would hold two buffers while it grows
		_, done, err := u.read(strings.NewReader(small))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, done)
	}
	if _, _, err := u.read(strings.NewReader(small)); !errors.Is(err, errTooManyBytes) {
		t.Errorf("one more: %v", err)
	}
	for _, done := range all {
		done()
	}
}

// Senders who announce a body and send nothing hold next to nothing, however many they are.
func TestSilentBodiesHoldNothing(t *testing.T) {
	t.Parallel()
	u := newUnverified()
	release := make(chan struct{})
	var silent sync.WaitGroup
	began := make(chan struct{})
	for range 3000 {
		silent.Go(func() {
			_, done, err := u.read(io.MultiReader(strings.NewReader(strings.Repeat("x", 300)), &waiting{began: began, end: release}))
			done()
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range 3000 {
		<-began
	}
	if !u.first.TryAcquire(firstBudget) || !u.more.TryAcquire(moreBudget) {
		t.Error("who is silent holds a part of the budget")
	}
	u.first.Release(firstBudget)
	u.more.Release(moreBudget)
	close(release)
	silent.Wait()
}

// waiting is a sender who sends nothing until the end.
type waiting struct{ began, end chan struct{} }

func (w *waiting) Read([]byte) (int, error) {
	w.began <- struct{}{}
	<-w.end
	return 0, io.EOF
}
