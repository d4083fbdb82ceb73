// Package errors stands in for the one function that twilio-go calls.
package errors

import "fmt"

// Wrap puts message before err, and is nil where err is.
func Wrap(err error, message string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", message, err)
}
