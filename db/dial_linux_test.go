package db_test

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"phantom/db"
	"phantom/db/dbtest"
)

// A connection gives up what nobody acknowledges for half a minute.
func TestConnectionsWatchTheirHost(t *testing.T) {
	t.Parallel()
	through, _, _ := dbtest.Proxy(t, dbtest.URL(t))
	conn, err := db.Connect(t.Context(), through)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	raw, err := conn.PgConn().Conn().(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		for option, want := range map[int]int{unix.TCP_USER_TIMEOUT: 30_000, unix.TCP_KEEPIDLE: 10, unix.TCP_KEEPINTVL: 5, unix.TCP_KEEPCNT: 3} {
			if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option); err != nil || got != want {
				t.Errorf("option %d is %d (%v), want %d", option, got, err, want)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
}
