package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"phantom/db/dbtest"
)

// side is what a host is cut from.
type side string

const (
	database side = "database"
	stripe   side = "stripe"
)

// network puts worker processes on hosts of their own, whose ways to the database and to Stripe can
// be cut in one direction or both, silently.
type network interface {
	// addresses are what the database and Stripe are to listen on.
	addresses() (database, stripe string)
	// reach is where a host finds a server that listens on an address.
	reach(host int, s side, address string) string
	// on has a command run on a host.
	on(host int) func(*exec.Cmd)
	// cut loses what a host sends to one side, what it is sent from there, or both.
	cut(host int, s side, to, from bool)
	// heal undoes the cuts of a host.
	heal(host int)
}

// namespaces are hosts with TCP of their own. A router between them and the database forwards
// nothing where it is told so: neither end notices.
type namespaces struct {
	t     *testing.T
	name  string // of all of them
	net   int    // 10.net.host.2
	rules map[int][][]string
}

const namespacePrefix = "phantom-soak-"

// newNamespaces makes so many hosts. Why says what is missing where none can be made.
func newNamespaces(t *testing.T, hosts int) (made *namespaces, why error) {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil, errors.New("only root makes network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, err
	}
	sweepNamespaces()
	n := &namespaces{t: t, name: namespacePrefix + strconv.Itoa(os.Getpid()), net: 200 + os.Getpid()%50, rules: map[int][][]string{}}
	t.Cleanup(func() { removeNamespaces(n.name) })
	router, root := n.name+"-router", "ph"+strconv.Itoa(os.Getpid())
	steps := [][]string{
		{"netns", "add", router},
		{"link", "add", root, "type", "veth", "peer", "name", "uplink", "netns", router},
		{"addr", "add", n.address(0, 1) + "/24", "dev", root},
		{"addr", "add", n.address(0, 2) + "/24", "dev", root},
		{"link", "set", root, "up"},
		{"-n", router, "addr", "add", n.address(0, 254) + "/24", "dev", "uplink"},
		{"-n", router, "link", "set", "uplink", "up"},
		{"netns", "exec", router, "sh", "-c", "cd /proc/sys/net/ipv4 && echo 1 > ip_forward && echo 0 > conf/all/rp_filter && echo 0 > conf/uplink/rp_filter"},
		{"route", "add", fmt.Sprintf("10.%d.0.0/16", n.net), "via", n.address(0, 254)},
	}
	for i := range hosts {
		host, link, third := n.host(i), "h"+strconv.Itoa(i), i+1
		steps = append(steps, [][]string{
			{"netns", "add", host},
			{"-n", router, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", host},
			{"-n", router, "addr", "add", n.address(third, 1) + "/24", "dev", link},
			{"-n", router, "link", "set", link, "up"},
			{"-n", host, "addr", "add", n.address(third, 2) + "/24", "dev", "eth0"},
			{"-n", host, "link", "set", "lo", "up"},
			{"-n", host, "link", "set", "eth0", "up"},
			{"-n", host, "route", "add", "default", "via", n.address(third, 1)},
		}...)
	}
	for _, step := range steps {
		if err := ip(step...); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func ip(args ...string) error {
	if output, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w %s", strings.Join(args, " "), err, output)
	}
	return nil
}

// removeNamespaces ends what runs in them, and removes them with their links.
func removeNamespaces(name string) {
	list, _ := exec.Command("ip", "netns", "list").Output()
	for line := range strings.Lines(string(list)) {
		one, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(one, name+"-") {
			continue
		}
		pids, _ := exec.Command("ip", "netns", "pids", one).Output()
		for pid := range strings.FieldsSeq(string(pids)) {
			if id, err := strconv.Atoi(pid); err == nil {
				_ = syscall.Kill(id, syscall.SIGKILL)
			}
		}
		_ = ip("netns", "del", one)
	}
}

// sweepNamespaces removes what killed tests have left.
func sweepNamespaces() {
	list, _ := exec.Command("ip", "netns", "list").Output()
	for line := range strings.Lines(string(list)) {
		rest, is := strings.CutPrefix(line, namespacePrefix)
		owner, _, _ := strings.Cut(rest, "-")
		if pid, err := strconv.Atoi(owner); is && err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			removeNamespaces(namespacePrefix + owner)
		}
	}
}

func (n *namespaces) host(i int) string { return fmt.Sprintf("%s-%d", n.name, i) }

func (n *namespaces) address(third, last int) string {
	return fmt.Sprintf("10.%d.%d.%d", n.net, third, last)
}

func (n *namespaces) addresses() (database, stripe string) { return n.address(0, 1), n.address(0, 2) }

func (n *namespaces) reach(_ int, _ side, address string) string { return address }

func (n *namespaces) on(host int) func(*exec.Cmd) {
	return func(c *exec.Cmd) {
		c.Args = append([]string{"ip", "netns", "exec", n.host(host)}, append([]string{c.Path}, c.Args[1:]...)...)
		c.Path, _ = exec.LookPath("ip")
	}
}

func (n *namespaces) cut(host int, s side, to, from bool) {
	n.t.Helper()
	far, stripe := n.addresses()
	if s == "stripe" {
		far = stripe
	}
	near := n.address(host+1, 2)
	if to {
		n.rule(host, "from", near, "to", far, "blackhole")
	}
	if from {
		n.rule(host, "from", far, "to", near, "blackhole")
	}
}

func (n *namespaces) rule(host int, rule ...string) {
	n.t.Helper()
	if err := ip(append([]string{"-n", n.name + "-router", "rule", "add"}, rule...)...); err != nil {
		n.t.Fatal(err)
	}
	n.rules[host] = append(n.rules[host], rule)
}

func (n *namespaces) heal(host int) {
	n.t.Helper()
	for _, rule := range n.rules[host] {
		if err := ip(append([]string{"-n", n.name + "-router", "rule", "del"}, rule...)...); err != nil {
			n.t.Fatal(err)
		}
	}
	delete(n.rules, host)
}

// proxies are what is left without namespaces: every process on this host, behind wires.
type proxies struct {
	t     *testing.T
	wires map[string]*dbtest.Wire
	cuts  map[int][]*dbtest.Wire
}

func newProxies(t *testing.T) *proxies {
	t.Helper()
	return &proxies{t: t, wires: map[string]*dbtest.Wire{}, cuts: map[int][]*dbtest.Wire{}}
}

func (p *proxies) addresses() (database, stripe string) { return "127.0.0.1", "127.0.0.1" }

func (p *proxies) reach(host int, s side, address string) string {
	name := fmt.Sprint(host, s)
	if p.wires[name] == nil {
		p.wires[name] = dbtest.NewWire(p.t, func() (net.Conn, error) { return net.Dial("tcp", address) })
	}
	return p.wires[name].Address()
}

func (p *proxies) on(int) func(*exec.Cmd) { return func(*exec.Cmd) {} }

func (p *proxies) cut(host int, s side, to, from bool) {
	wire := p.wires[fmt.Sprint(host, s)]
	wire.Cut(to, from)
	p.cuts[host] = append(p.cuts[host], wire)
}

func (p *proxies) heal(host int) {
	for _, wire := range p.cuts[host] {
		wire.Heal()
	}
	delete(p.cuts, host)
}
