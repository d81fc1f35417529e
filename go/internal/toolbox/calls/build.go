package calls

import (
	"context"
	"encoding/json"

	"headrace.dev/headrace/go/internal/toolbox/build"
	"headrace.dev/headrace/go/internal/toolbox/fail"
)

// runBuild takes the keys for decryption from the body: arguments may be shown, the
// body is not.
func runBuild(ctx context.Context, request build.Request, body []byte) (any, []byte, error) {
	if len(body) > 0 {
		if json.Unmarshal(body, &request.Keys) != nil {
			return nil, nil, fail.New(fail.InvalidArgument, "read keys: malformed")
		}
	}
	result, body, err := build.Run(ctx, request)
	if err != nil {
		return nil, nil, err
	}
	return result, body, nil
}
