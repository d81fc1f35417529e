package calls

import (
	"context"

	"headrace.dev/headrace/go/internal/toolbox/budget"
	"headrace.dev/headrace/go/internal/toolbox/substitute"
)

type substituteArgs struct {
	Variables map[string]string `json:"variables"`
	Strict    bool              `json:"strict"`
	Limits    budget.Limits     `json:"limits"`
}

func substituteText(_ context.Context, args substituteArgs, body []byte) (any, []byte, error) {
	variables, err := substitute.Prepare(args.Variables, args.Strict)
	if err != nil {
		return nil, nil, err
	}
	text, err := variables.Apply(string(body), args.Limits.WithDefaults().FileBytes)
	if err != nil {
		return nil, nil, err
	}
	return nothing{}, []byte(text), nil
}
