package oracle

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"phantom/oracle/model"
)

const (
	// after which what is known is read anew, while what was known answers, unless
	// Service.KnownFor says otherwise
	knownFor = 30 * time.Second
	// for the first reading; a question waits so long, and then is answered by the fixed rules
	firstReading = time.Second
	mostReading  = time.Minute
)

// known is what a question is answered with.
type known struct {
	model *model.Model // nil: nothing was read yet
	Knowledge
	Standing
	read time.Time
}

// known never waits for a connection that the caller's transaction may keep others from getting,
// but for the first time, and then not long.
func (s *Service) known(ctx context.Context, livemode bool) known {
	s.mutex.Lock()
	k := s.latest[livemode]
	s.mutex.Unlock()
	if time.Since(k.read) < cmp.Or(s.KnownFor, knownFor) {
		return k
	}
	reading := s.reading.DoChan(strconv.FormatBool(livemode), func() (_ any, err error) {
		// a model that cannot be read must not end the process
		defer func() {
			if broken := recover(); broken != nil {
				err = fmt.Errorf("read a model: %v", broken)
			}
		}()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mostReading)
		defer cancel()
		return nil, s.refresh(ctx, livemode)
	})
	if !k.read.IsZero() {
		return k
	}
	select {
	case <-reading:
	case <-ctx.Done():
	case <-time.After(firstReading):
		s.mutex.Lock() // the next question does not wait again: this reading goes on
		if s.latest[livemode].read.IsZero() {
			s.latest[livemode] = known{read: time.Now()}
		}
		s.mutex.Unlock()
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.latest[livemode]
}

// refresh reads anew what questions are answered with.
func (s *Service) refresh(ctx context.Context, livemode bool) error {
	k := known{}
	var err error
	if k.model, k.Knowledge, err = s.Model(ctx, livemode); err == nil {
		k.Standing, err = s.Standing(ctx, livemode)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err != nil { // what was known goes on answering
		k = s.latest[livemode]
	}
	k.read = time.Now()
	s.latest[livemode] = k
	return err
}
