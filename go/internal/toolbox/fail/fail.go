// Package fail holds the one error type that crosses the border to Python.
package fail

import (
	"errors"
	"fmt"
)

// Codes of errors; Python decides by them, people read the message.
const (
	PathNotFound     = "PathNotFound"
	InvalidYAML      = "InvalidYAML"
	BuildFailed      = "BuildFailed"
	SubstituteFailed = "SubstituteFailed"
	LimitExceeded    = "LimitExceeded"
	NeedsNetwork     = "NeedsNetwork"
	InvalidArgument  = "InvalidArgument"
	UnknownCall      = "UnknownCall"
	Panic            = "Panic"
	Timeout          = "Timeout"
	Internal         = "Internal"
)

// Error says what went wrong, and where if that is known. File is relative to
// the root of the call; Object is Kind/namespace/name.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	File    string `json:"file,omitempty"`
	Object  string `json:"object,omitempty"`
	// Identities are those that key services would have had to be shown.
	Identities []Identity `json:"identities,omitempty"`
}

// Identity is that of somebody at a cloud; the scope is what it has to be good for, in the provider's words.
type Identity struct {
	Provider string `json:"provider"`
	Scope    string `json:"scope"`
}

func (e *Error) Error() string { return e.Message }

// New makes an error with a formatted message.
func New(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// In names the file.
func (e *Error) In(file string) *Error {
	e.File = file
	return e
}

// Of names the object.
func (e *Error) Of(object string) *Error {
	e.Object = object
	return e
}

// From gives every error a code; one that has none gets the given.
func From(err error, code string) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	return &Error{Code: code, Message: err.Error()}
}
