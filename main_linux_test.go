package main

import (
	"os/exec"
	"syscall"
)

// endsWithUs has the system end a process with the thread that starts it, so that none is left
// where a test is killed.
func endsWithUs(c *exec.Cmd) {
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
