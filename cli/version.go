package cli

import (
	"context"
	"fmt"
)

func printVersion(_ context.Context, call Call) error {
	if err := call.parse(newFlags("version")); err != nil {
		return err
	}
	_, err := fmt.Fprintln(call.Stdout, "phantom", call.Version)
	return err
}
