package expression

import (
	"context"
	"strings"
	"testing"
)

func evaluate(t *testing.T, text string, variables map[string]any, declared ...string) (bool, error) {
	t.Helper()
	environment, err := New(declared...)
	if err != nil {
		t.Fatal(err)
	}
	program, err := environment.Compile(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return program.Evaluate(context.Background(), variables)
}

func TestLibraries(t *testing.T) {
	object := map[string]any{
		"metadata": map[string]any{"name": "App", "generation": int64(2)},
		"status":   map[string]any{"ratio": 2.0, "phases": []any{"a", "b"}},
	}
	for _, text := range []string{
		"metadata.name.lowerAscii() == 'app'",
		"sets.contains(status.phases, ['b'])",
		"base64.encode(b'x') == 'eA=='",
		"status.?absent.orValue('none') == 'none'",
		"metadata.generation == status.ratio",
		"status.phases.exists(p, p == 'b')",
		"!has(status.absent)",
	} {
		if value, err := evaluate(t, text, object); err != nil || !value {
			t.Errorf("%s: %v, %v", text, value, err)
		}
	}
}

func TestEvaluationErrors(t *testing.T) {
	for text, message := range map[string]string{
		"status.phase == 'x'": "no such attribute",
		"'a'":                 "no boolean",
	} {
		if _, err := evaluate(t, text, nil); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestCompileErrors(t *testing.T) {
	parsed, _ := New()
	checked, _ := New("self", "dep")
	for _, broken := range []struct {
		environment *Environment
		text        string
	}{
		{parsed, "status."}, {parsed, " "}, {parsed, strings.Repeat("(", 300) + "1" + strings.Repeat(")", 300)},
		{parsed, "'" + strings.Repeat("x", maxLength) + "'"}, {parsed, "'a'.matches('(')"},
		{checked, "self.name"}, {checked, "other.name == 'x'"}, {checked, "1"},
	} {
		if _, err := broken.environment.Compile(broken.text); err == nil {
			t.Errorf("%.40s compiles", broken.text)
		}
	}
}

func TestCostIsLimited(t *testing.T) {
	var items []any
	for range 1000 {
		items = append(items, int64(1))
	}
	_, err := evaluate(t, "self.items.all(a, self.items.all(b, self.items.all(c, a == b && b == c)))",
		map[string]any{"self": map[string]any{"items": items}}, "self")
	if err == nil || !strings.Contains(err.Error(), "cost limit") && !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("an expensive expression ends with %v", err)
	}
}
