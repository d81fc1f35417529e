// Command s3 is the Versity S3 gateway over a directory, with what the tests need of it.
//
// Usage: s3 ADDRESS DIRECTORY SIDECAR, with the account in S3_ACCESS_KEY and S3_SECRET_KEY, and a certificate in
// S3_CERTIFICATE and S3_KEY (files) when it is to speak TLS.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}

func run(address, directory, sidecar string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	attributes, err := meta.NewSideCar(sidecar)
	if err != nil {
		return err
	}
	backend, err := posix.New(directory, attributes, posix.PosixOpts{SideCarDir: sidecar, ForceNoTmpFile: true})
	if err != nil {
		return err
	}
	return embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
		RootUserAccess:    os.Getenv("S3_ACCESS_KEY"),
		RootUserSecret:    os.Getenv("S3_SECRET_KEY"),
		Ports:             []string{address},
		Region:            os.Getenv("S3_REGION"),
		CertFile:          os.Getenv("S3_CERTIFICATE"),
		KeyFile:           os.Getenv("S3_KEY"),
		HealthPath:        "/healthz",
		MaxConnections:    512,
		MaxRequests:       512,
		MultipartMaxParts: 10000,
		KeepAlive:         true,
		Quiet:             true,
	})
}
