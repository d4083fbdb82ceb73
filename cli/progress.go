package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"phantom/app"
)

// progress draws how far a command is, for somebody at a terminal, each time it is told.
func progress(w io.Writer, command, unit string) func(done, total int64) {
	bar := progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(command), progressbar.OptionShowCount(),
		progressbar.OptionShowIts(), progressbar.OptionSetItsString(unit), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetVisibility(app.IsTerminal(w)), progressbar.OptionOnCompletion(func() { fmt.Fprintln(w) }))
	return func(done, total int64) {
		if bar.GetMax64() != total {
			bar.ChangeMax64(total)
		}
		_ = bar.Set64(min(done, total))
	}
}
