package web

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// drainTime bounds how long what is in flight may take after the signal to stop.
const drainTime = 25 * time.Second

// Serve answers on listener, which [Listen] opened, until ctx ends. Then /readyz turns 503, no new
// connection is taken, and what is in flight finishes, 25 seconds at most. No request on a
// connection that a client has made is lost.
func (s *Server) Serve(ctx context.Context, listener *net.TCPListener) error {
	var busy busyConns
	server := &http.Server{
		Handler:           s.Handler(),
		ConnState:         busy.track,
		ConnContext:       withConn,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		// a handshake may wait 23 s for Stripe and the database
		WriteTimeout:                 30 * time.Second,
		IdleTimeout:                  60 * time.Second,
		MaxHeaderBytes:               16 << 10,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
	}
	connections := &drainableListener{TCPListener: listener}
	ended := make(chan error, 1)
	go func() {
		ended <- server.Serve(&boundedListener{Listener: connections, most: maxConnections, plain: s.plainAnswers()})
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	s.config.Log.Info("[SERVER] stopping: requests in flight finish first", "cause", context.Cause(ctx), "limit", drainTime)
	s.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := connections.drain(); err != nil {
		s.config.Log.Warn("[SERVER] new connections are not turned away: one made in this instant may be lost", "cause", err)
	}
	if err := <-ended; !errors.Is(err, errDrained) {
		// every connection that was waiting is the server's now
		return err
	}
	busy.wait(ctx)
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.config.Log.Warn("[SERVER] requests still in flight are cut off", "limit", drainTime)
		err = server.Close()
	}
	return err
}
