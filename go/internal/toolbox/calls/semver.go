package calls

import (
	"context"
	"regexp"
	"sort"
	"strings"

	"github.com/Masterminds/semver/v3"

	"headrace.dev/headrace/go/internal/toolbox/fail"
)

type semverArgs struct {
	Constraint string   `json:"constraint"`
	Versions   []string `json:"versions"`
	// Filter drops versions that the expression does not match.
	Filter string `json:"filter"`
	// StrictParts wants all three parts, as Flux does for git tags.
	StrictParts bool `json:"strict_parts"`
}

// semverResult holds the versions that satisfy the constraint, best first, as
// they were written.
type semverResult struct {
	Best   *string  `json:"best"`
	Sorted []string `json:"sorted"`
}

func bestVersion(_ context.Context, args semverArgs, _ []byte) (any, []byte, error) {
	constraint, err := semver.NewConstraint(args.Constraint)
	if err != nil {
		return nil, nil, fail.New(fail.InvalidArgument, "semver '%s' parse error: %v", args.Constraint, err)
	}
	filter, err := regexp.Compile(args.Filter)
	if err != nil {
		return nil, nil, fail.New(fail.InvalidArgument, "semver filter '%s' parse error: %v", args.Filter, err)
	}
	var matching []*semver.Version
	for _, text := range args.Versions {
		version, err := parse(text, args.StrictParts)
		if err == nil && filter.MatchString(text) && constraint.Check(version) {
			matching = append(matching, version)
		}
	}
	sort.SliceStable(matching, func(i, j int) bool { return matching[i].GreaterThan(matching[j]) })
	result := semverResult{Sorted: make([]string, len(matching))}
	for i, version := range matching {
		result.Sorted[i] = version.Original()
	}
	if len(matching) > 0 {
		result.Best = &result.Sorted[0]
	}
	return result, nil, nil
}

// parse keeps the text as it was written, with its "v".
func parse(text string, strictParts bool) (*semver.Version, error) {
	if strictParts {
		if _, err := semver.StrictNewVersion(strings.TrimPrefix(text, "v")); err != nil {
			return nil, err
		}
	}
	return semver.NewVersion(text)
}
