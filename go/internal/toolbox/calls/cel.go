package calls

import (
	"context"
	"strings"
	"sync"

	k8sjson "k8s.io/apimachinery/pkg/util/json"

	"headrace.dev/headrace/go/internal/toolbox/expression"
	"headrace.dev/headrace/go/internal/toolbox/fail"
)

// celArgs asks for many values at once. The body is a JSON array of inputs; an
// input holds the variables by name.
type celArgs struct {
	Expressions []string `json:"expressions"`
	// Variables are declared as objects and make the expressions type-checked;
	// without them an expression sees the input's fields.
	Variables []string `json:"variables"`
	Asks      []celAsk `json:"asks"`
}

// celAsk wants the values of some expressions over one input, by their indices.
type celAsk struct {
	Expressions []int `json:"expressions"`
	Input       int   `json:"input"`
}

// celValue is a value, or why there is none.
type celValue struct {
	Value bool   `json:"value"`
	Error string `json:"error"`
}

type celResult struct {
	// Invalid says for each expression what is wrong with it, empty for nothing.
	Invalid []string `json:"invalid"`
	// Values are in the order of the asks; none while an expression is invalid.
	Values [][]celValue `json:"values"`
}

func evaluateCEL(ctx context.Context, args celArgs, body []byte) (any, []byte, error) {
	var inputs []map[string]any
	if len(body) > 0 {
		if err := k8sjson.Unmarshal(body, &inputs); err != nil {
			return nil, nil, fail.New(fail.InvalidArgument, "read inputs: %v", err)
		}
	}
	result := celResult{Invalid: make([]string, len(args.Expressions)), Values: [][]celValue{}}
	compiled := make([]*expression.Program, len(args.Expressions))
	invalid := false
	for i, text := range args.Expressions {
		program, err := programs.get(text, args.Variables)
		if err != nil {
			result.Invalid[i], invalid = err.Error(), true
		}
		compiled[i] = program
	}
	if invalid {
		return result, nil, nil
	}
	for _, ask := range args.Asks {
		if ask.Input < 0 || ask.Input >= len(inputs) {
			return nil, nil, fail.New(fail.InvalidArgument, "no input %d", ask.Input)
		}
		values := make([]celValue, 0, len(ask.Expressions))
		for _, index := range ask.Expressions {
			if index < 0 || index >= len(compiled) {
				return nil, nil, fail.New(fail.InvalidArgument, "no expression %d", index)
			}
			values = append(values, valueOf(ctx, compiled[index], inputs[ask.Input]))
		}
		result.Values = append(result.Values, values)
	}
	return result, nil, nil
}

func valueOf(ctx context.Context, program *expression.Program, input map[string]any) celValue {
	value, err := program.Evaluate(ctx, input)
	if err != nil {
		return celValue{Error: err.Error()}
	}
	return celValue{Value: value}
}

// keptPrograms is how many compiled expressions are kept. They are few in a
// cluster and asked for again and again.
const keptPrograms = 512

type programCache struct {
	sync.Mutex
	environments map[string]*expression.Environment
	programs     map[[2]string]*expression.Program
}

var programs = programCache{
	environments: map[string]*expression.Environment{}, programs: map[[2]string]*expression.Program{},
}

func (c *programCache) get(text string, variables []string) (*expression.Program, error) {
	declared := strings.Join(variables, ",")
	key := [2]string{declared, text}
	c.Lock()
	defer c.Unlock()
	if program, known := c.programs[key]; known {
		return program, nil
	}
	environment, known := c.environments[declared]
	if !known {
		made, err := expression.New(variables...)
		if err != nil {
			return nil, err
		}
		environment, c.environments[declared] = made, made
	}
	program, err := environment.Compile(text)
	if err != nil {
		return nil, err
	}
	if len(c.programs) >= keptPrograms {
		clear(c.programs)
	}
	c.programs[key] = program
	return program, nil
}
