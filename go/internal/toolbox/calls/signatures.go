package calls

import (
	"context"

	"headrace.dev/headrace/go/internal/toolbox/signatures"
)

func verifyKeyless(_ context.Context, args signatures.KeylessRequest, _ []byte) (any, []byte, error) {
	result, err := signatures.VerifyKeyless(args)
	return result, nil, err
}

func verifyNotation(ctx context.Context, args signatures.NotationRequest, _ []byte) (any, []byte, error) {
	result, err := signatures.VerifyNotation(ctx, args)
	return result, nil, err
}
