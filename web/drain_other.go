//go:build !linux

package web

import "net"

func refuseConnections(*net.TCPListener) error { return nil }
