package dbtest

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// ClockEnv names the environment variable that sets the clock of a test's world, such as
// 2028-02-29T23:30:00Z. From there it ticks. So a suite can be run at any hour, on any day: make
// clocks.
const ClockEnv = "PHANTOM_TEST_CLOCK"

// ahead is how far the world's clock is ahead of this machine's. A process that a test starts reads
// it again and is off by how long that took: it asks the database for the time.
var ahead, errClock = readClock(os.Getenv(ClockEnv))

func readClock(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, fmt.Errorf("%s must be a time such as 2028-02-29T23:30:00Z", ClockEnv)
	}
	return time.Until(at).Truncate(time.Microsecond), nil
}

// Now is the clock of a test's world, for its sandbox: that of phantom_now() in its database.
func Now() time.Time { return time.Now().Add(ahead) }

// Ahead is how far that is ahead of this machine's clock.
func Ahead() time.Duration { return ahead }

// setClock makes phantom_now() tell the time of the test's world.
func setClock(t testing.TB, url string) {
	t.Helper()
	if ahead == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, fmt.Sprintf(`CREATE OR REPLACE FUNCTION phantom_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
		RETURN now() + interval '%d microseconds'`, ahead.Microseconds()))
	if err != nil {
		t.Fatal(err)
	}
}
