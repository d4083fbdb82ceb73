//go:build !linux

package web

import "net"

func refuseConnections(*net.TCPListener) error { return nil }

func connectionsWait(*net.TCPListener) bool { return false }
