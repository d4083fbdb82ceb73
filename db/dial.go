package db

import (
	"net"
	"time"
)

// lostAfter is how long a database may leave what was sent to it unacknowledged, or not take it,
// before its connection is given up: less than a lease, and more than a statement may wait for a
// lock.
const lostAfter = 30 * time.Second

// newDialer notices a lost network or host within half a minute, whether a connection waits for an
// answer or is idle. TCP alone takes a quarter of an hour, or two hours.
func newDialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control:         giveUpAfter(lostAfter),
	}
}
