package web

import (
	"net"

	"golang.org/x/sys/unix"
)

// refuseConnections makes the kernel drop every SYN to the listener's port. A client that comes now
// tries again and is refused once the port is closed; connections that were made before stay whole.
func refuseConnections(listener *net.TCPListener) error {
	const flagsOffset, syn = 13, 0x02 // in a TCP header, RFC 9293 section 3.1
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flagsOffset},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: syn, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
	}
	raw, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	}); err != nil {
		return err
	}
	return failed
}

// connectionsWait says whether connections that are made wait to be accepted.
func connectionsWait(listener *net.TCPListener) (some bool) {
	raw, err := listener.SyscallConn()
	if err != nil {
		return false
	}
	if err := raw.Control(func(fd uintptr) {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		some = err == nil && ready > 0
	}); err != nil {
		return false
	}
	return some
}
