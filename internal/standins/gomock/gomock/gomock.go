// Package gomock stands in for what the mock in twilio-go's package client names. Nobody makes one.
package gomock

import "reflect"

// Controller would hold what a test expects.
type Controller struct{ T interface{ Helper() } }

// Call would be one expected call.
type Call struct{}

// Call panics: there is no mock.
func (*Controller) Call(any, string, ...any) []any { panic("gomock: a stand-in without mocks") }

// RecordCallWithMethodType panics: there is no mock.
func (*Controller) RecordCallWithMethodType(any, string, reflect.Type, ...any) *Call {
	panic("gomock: a stand-in without mocks")
}
