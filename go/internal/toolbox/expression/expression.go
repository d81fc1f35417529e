// Package expression evaluates CEL expressions as Flux does: with the same
// libraries, and within limits of cost and time.
package expression

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/ext"
)

const (
	// maxLength bounds an expression, in bytes.
	maxLength = 16 << 10
	// maxCost bounds one evaluation: ten times what Kubernetes grants a
	// validation rule, which is about a second of work.
	maxCost = 10_000_000
	// maxTime bounds one evaluation in what the cost does not tell.
	maxTime = 2 * time.Second
	// interruptEvery is after how many comprehension steps the time is looked at.
	interruptEvery = 100
)

// Program is an expression that can be evaluated.
type Program struct{ program cel.Program }

// Environment compiles expressions.
type Environment struct {
	env     *cel.Env
	checked bool
}

// New makes an environment. With variables, which are objects of any shape, an
// expression is type-checked and must be a boolean; without, it is only parsed,
// since the top-level fields of the object that it sees are not known.
func New(variables ...string) (*Environment, error) {
	options := []cel.EnvOption{
		cel.HomogeneousAggregateLiterals(),
		cel.EagerlyValidateDeclarations(true),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(),
		ext.Strings(),
		ext.Sets(),
		ext.Encoders(),
		cel.ParserExpressionSizeLimit(maxLength),
	}
	for _, name := range variables {
		options = append(options, cel.Variable(name, cel.ObjectType("google.protobuf.Struct")))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("create CEL environment: %w", err)
	}
	return &Environment{env: env, checked: len(variables) > 0}, nil
}

// Compile says in its error what is wrong with the expression.
func (e *Environment) Compile(text string) (*Program, error) {
	if strings.TrimSpace(text) == "" {
		return nil, fmt.Errorf("the expression is empty")
	}
	parse := e.env.Parse
	if e.checked {
		parse = e.env.Compile
	}
	ast, issues := parse(text)
	if issues.Err() != nil {
		return nil, fmt.Errorf("failed to parse the CEL expression '%s': %s", text, issues)
	}
	if e.checked && ast.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("CEL expression output type mismatch: expected bool, got %s", ast.OutputType())
	}
	program, err := e.env.Program(ast,
		cel.EvalOptions(cel.OptOptimize),
		cel.InterruptCheckFrequency(interruptEvery),
		cel.CostLimit(maxCost),
	)
	if err != nil {
		return nil, fmt.Errorf("failed to compile the CEL expression '%s': %w", text, err)
	}
	return &Program{program: program}, nil
}

// Evaluate gives the expression's value, which must be a boolean.
func (p *Program) Evaluate(ctx context.Context, variables map[string]any) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	var value ref.Val
	value, _, err := p.program.ContextEval(ctx, variables)
	if err != nil {
		return false, err
	}
	result, isBool := value.(types.Bool)
	if !isBool {
		return false, fmt.Errorf("the value is no boolean but %s", value.Type().TypeName())
	}
	return bool(result), nil
}
