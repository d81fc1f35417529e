//go:build !linux || !(amd64 || arm64)

// Package jail is for Linux on amd64 and arm64; elsewhere it changes nothing.
package jail

// Enter does nothing here.
func Enter() error { return nil }
