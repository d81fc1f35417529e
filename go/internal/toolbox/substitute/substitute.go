// Package substitute replaces ${variables} in text by Flux's rules.
package substitute

import (
	"regexp"
	"strings"

	"github.com/fluxcd/pkg/envsubst"

	"headrace.dev/headrace/go/internal/toolbox/fail"
)

const namePattern = "^[_[:alpha:]][_[:alpha:][:digit:]]*$"

var name = regexp.MustCompile(namePattern)

// Variables are ready for use: named correctly, and without newlines.
type Variables struct {
	values  map[string]string
	strict  bool
	longest int
}

// Prepare checks the names, also of variables that nothing uses, and deletes
// newlines from values.
func Prepare(values map[string]string, strict bool) (*Variables, error) {
	v := &Variables{values: make(map[string]string, len(values)), strict: strict}
	for key, value := range values {
		if !name.MatchString(key) {
			return nil, fail.New(fail.SubstituteFailed, "'%s' var name is invalid, must match '%s'", key, namePattern)
		}
		v.values[key] = strings.ReplaceAll(value, "\n", "")
		v.longest = max(v.longest, len(v.values[key]))
	}
	return v, nil
}

// Len is the number of variables.
func (v *Variables) Len() int { return len(v.values) }

// Apply substitutes in a text; `limit` bounds what may come out.
func (v *Variables) Apply(text string, limit int64) (result string, err error) {
	if !strings.Contains(text, "$") {
		return text, nil
	}
	if grown := int64(strings.Count(text, "${")) * int64(v.longest); int64(len(text))+grown > limit {
		return "", fail.New(fail.LimitExceeded, "substitution could yield more than %d bytes", limit)
	}
	// Some operators with arguments out of range panic upstream.
	defer func() {
		if cause := recover(); cause != nil {
			err = fail.New(fail.SubstituteFailed, "variable substitution failed: %v", cause)
		}
	}()
	result, err = envsubst.Eval(text, v.lookup)
	if err != nil {
		return "", fail.New(fail.SubstituteFailed, "variable substitution failed: %v", err)
	}
	return result, nil
}

// lookup reports a missing variable as missing only in strict mode.
func (v *Variables) lookup(key string) (string, bool) {
	value, found := v.values[key]
	return value, found || !v.strict
}
