package calls

import (
	"context"

	"headrace.dev/headrace/go/internal/toolbox/build"
)

func runBuild(ctx context.Context, request build.Request, _ []byte) (any, []byte, error) {
	result, body, err := build.Run(ctx, request)
	if err != nil {
		return nil, nil, err
	}
	return result, body, nil
}
