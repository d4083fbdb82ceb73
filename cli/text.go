package cli

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// shortTime is a time for a table, "-" for none.
func shortTime(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// oneLine keeps a stored text from breaking a table or driving the terminal.
func oneLine(text *string) string {
	if text == nil {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, *text)
}

// counted is a number with the word for one or for many.
func counted[N int | int32 | int64](n N, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}

// given is nil for a flag that was left out.
func given(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
