package budget

import (
	"strings"
	"testing"
)

func TestCheckYAML(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("a: &a [x,x,x,x,x,x,x,x,x,x]\n")
	for before, name := range strings.Split("bcdefghi", "") {
		alias := "*" + string("abcdefgh"[before])
		bomb.WriteString(name + ": &" + name + " [" + strings.Repeat(alias+",", 9) + alias + "]\n")
	}
	cases := map[string]struct {
		text string
		fine bool
	}{
		"empty":              {"", true},
		"ordinary":           {"a: &x {b: [1, 2]}\nc: *x\n", true},
		"no YAML":            {"if a && b; then [", true},
		"bomb":               {bomb.String(), false},
		"anchor in itself":   {"a: &a {b: *a}\n", false},
		"deep flow":          {"a: " + strings.Repeat("[", 300) + strings.Repeat("]", 300), false},
		"deeper than parser": {"a: " + strings.Repeat("[", 20000), false},
		"deep block":         {nested(300), false},
		"deep on one line":   {strings.Repeat("- ", 300) + "a\n", false},
		"second document":    {"a: 1\n---\n" + nested(300), false},
		"many brackets":      {strings.Repeat("- [a, {b: c}]\n", 300), true},
	}
	limits := Limits{}.WithDefaults()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if err := limits.CheckYAML([]byte(c.text)); (err == nil) != c.fine {
				t.Errorf("got %v, want fine: %v", err, c.fine)
			}
		})
	}
}

func nested(levels int) string {
	var text strings.Builder
	for level := range levels {
		text.WriteString(strings.Repeat(" ", level) + "a:\n")
	}
	return text.String()
}

func TestDefaultsFillOnlyWhatIsMissing(t *testing.T) {
	limits := Limits{Depth: 3}.WithDefaults()
	if limits.Depth != 3 || limits.Nodes != defaults.Nodes {
		t.Errorf("got %+v", limits)
	}
}
