//go:build unix && !aix && !solaris

package local

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	superuser   = "postgres"
	maintenance = "postgres" // the database that initdb makes for such connections
	port        = "5432"     // only a part of the socket's name; named, so that PGPORT has no say
	sockName    = "/.s.PGSQL." + port
)

// socketFolder derives the folder of the socket: run/ in Dir, or a short one when a socket's path
// would not fit there.
func (s *Server) socketFolder() string {
	if folder := s.path("run"); fits(folder) {
		return folder
	}
	sum := sha256.Sum256([]byte(s.dir))
	name := fmt.Sprintf("phantom-%x", sum[:8])
	// A running server may have been started under another TMPDIR. Its own record says where; the
	// name ties it to Dir.
	if _, recorded := s.postmaster(); filepath.Base(recorded) == name {
		if _, err := os.Lstat(recorded); err == nil {
			return recorded
		}
	}
	if folder := filepath.Join(os.TempDir(), name); filepath.IsAbs(folder) && fits(folder) {
		return folder
	}
	return filepath.Join("/tmp", name)
}

// fits reports whether folder can hold a socket that PostgreSQL and its clients name: 107 bytes on
// Linux, 103 on macOS and the BSDs, and no comma, which separates several folders.
func fits(folder string) bool {
	return len(folder+sockName) < len(syscall.RawSockaddrUnix{}.Path) && !strings.Contains(folder, ",")
}

var errNotPrivate = errors.New("is not private")

// checkSocketFolder returns errNotPrivate unless the folder is one that nobody else can put a
// socket into: below /tmp anybody may have made it first.
func (s *Server) checkSocketFolder(folder string) error {
	info, err := os.Lstat(folder)
	if err != nil {
		return err
	}
	uid, _ := owner(info)
	if !info.IsDir() || info.Mode().Perm() != 0o700 || uid != s.account.uid && uid != uint32(os.Geteuid()) {
		return fmt.Errorf("the folder of the socket, %s (%s, owner %d), %w to user %s: remove it", folder, info.Mode(), uid, errNotPrivate, s.account.name)
	}
	return nil
}

func (s *Server) makeSocketFolder() error {
	if err := os.Mkdir(s.socket, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.checkSocketFolder(s.socket); err != nil {
		return err
	}
	return s.account.own(s.socket)
}

// removeSocket removes the folder of the socket, with what a killed server left in it.
func removeSocket(folder string) {
	os.Remove(folder + sockName)
	os.Remove(folder + sockName + ".lock")
	os.Remove(folder) // if anything else is in it, it stays
}

// postmaster reads data/postmaster.pid: process id (line 1) and folder of the socket (line 5), zero
// if not there. A crash leaves the file behind, so the id may be anybody's by now.
func (s *Server) postmaster() (pid int, socket string) {
	content, _ := os.ReadFile(s.path("data/postmaster.pid"))
	lines := strings.Split(string(content), "\n")
	pid, _ = strconv.Atoi(strings.TrimSpace(lines[0]))
	if len(lines) > 4 {
		socket = lines[4]
	}
	return pid, socket
}

func socketURL(socket, database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(superuser),
		Path:     "/" + database,
		RawQuery: url.Values{"host": {socket}, "port": {port}, "sslmode": {"disable"}}.Encode(),
	}
	return u.String()
}

type state int

const (
	ready  state = iota // the database is there
	silent              // nobody answers
	busy                // a server answers that it is starting, stopping or full
	// a server, or something in its place, will not have us: waiting does not help
	refusing
)

func stateOf(err error) state {
	switch code(err) {
	case "57P01", "57P02", "57P03", "53300":
		// shutting down, crashed, starting up, too many connections
		return busy
	case "":
		if err == nil {
			return ready
		}
		if !errors.Is(err, errNotPrivate) {
			return silent
		}
	}
	return refusing
}

// answered reports whether err, nil included, is a server's answer.
func answered(err error) bool { return err == nil || code(err) != "" }

// connect asks the server behind a socket for its state and makes sure of the database. All states
// but ready come with the reason.
func (s *Server) connect(ctx context.Context, socket string) (state, error) {
	err := s.ask(ctx, socket, s.database)
	if code(err) == "3D000" { // invalid_catalog_name
		err = s.createDatabase(ctx, socket)
	}
	return stateOf(err), err
}

// ask opens a session and ends it.
func (s *Server) ask(ctx context.Context, socket, database string) error {
	if err := s.checkSocketFolder(socket); err != nil {
		return err
	}
	conn, err := dial(ctx, socket, database)
	if err == nil {
		conn.Close(ctx)
	}
	return err
}

func (s *Server) createDatabase(ctx context.Context, socket string) error {
	conn, err := dial(ctx, socket, maintenance)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	// template0, since any session on template1 would be in the way.
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{s.database}.Sanitize()+" TEMPLATE template0").ReadAll()
	return err
}

func dial(ctx context.Context, socket, database string) (*pgconn.PgConn, error) {
	// a stopped process accepts and says nothing
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return pgconn.Connect(ctx, socketURL(socket, database))
}

// code is the SQLSTATE of a server's answer, "" for any other error.
func code(err error) string {
	if answer := new(pgconn.PgError); errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}
