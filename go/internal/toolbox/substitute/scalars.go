package substitute

import (
	"encoding/json"
	"fmt"
	"slices"

	"headrace.dev/headrace/go/internal/toolbox/fail"
)

// identity are the fields that say what an object is. A variable may be part of a
// name, and never of these.
var identity = []string{"apiVersion", "kind"}

// CheckScalars compares an object before and after substitution: nothing but
// scalars may differ, and the object must still be of the same kind.
func CheckScalars(before, after []byte) error {
	var old, made any
	if err := json.Unmarshal(before, &old); err != nil {
		return fail.New(fail.SubstituteFailed, "%v", err)
	}
	if err := json.Unmarshal(after, &made); err != nil {
		return fail.New(fail.SubstituteFailed, "%v", err)
	}
	if where := differs(old, made, ""); where != "" {
		return fail.New(fail.SubstituteFailed, "a variable changes the structure of the object at '%s'", where)
	}
	for _, field := range identity {
		if was, is := text(old, field), text(made, field); was != is {
			return fail.New(fail.SubstituteFailed, "a variable changes %s", field)
		}
	}
	return nil
}

// differs is the place of the first difference that is not in a scalar.
func differs(old, made any, at string) string {
	switch before := old.(type) {
	case map[string]any:
		after, same := made.(map[string]any)
		if !same || len(before) != len(after) {
			return place(at)
		}
		return inFields(before, after, at)
	case []any:
		after, same := made.([]any)
		if !same || len(before) != len(after) {
			return place(at)
		}
		for index := range before {
			if where := differs(before[index], after[index], fmt.Sprintf("%s[%d]", at, index)); where != "" {
				return where
			}
		}
		return ""
	}
	switch made.(type) {
	case map[string]any, []any:
		return place(at)
	}
	return ""
}

// inFields compares the values of two objects with as many fields. Keys with
// variables have other names after; their values must not be of another shape.
func inFields(before, after map[string]any, at string) string {
	var was, is []string
	for key := range before {
		if _, found := after[key]; !found {
			was = append(was, key)
		} else if where := differs(before[key], after[key], at+"."+key); where != "" {
			return where
		}
	}
	for key := range after {
		if _, found := before[key]; !found {
			is = append(is, key)
		}
	}
	slices.Sort(was)
	slices.Sort(is)
	for index, key := range was {
		if isScalar(before[key]) != isScalar(after[is[index]]) {
			return place(at)
		}
	}
	return ""
}

func isScalar(value any) bool {
	switch value.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

func place(at string) string {
	if at == "" {
		return "."
	}
	return at
}

func text(object any, field string) string {
	fields, _ := object.(map[string]any)
	value, _ := fields[field].(string)
	return value
}
