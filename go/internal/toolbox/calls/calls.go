// Package calls holds the work that the toolbox does, one file for each call.
package calls

import "headrace.dev/headrace/go/internal/toolbox/serve"

// All are the calls by the name under which the parent asks for them.
var All = map[string]serve.Call{
	"ping":         serve.Typed(ping),
	"cel":          serve.Typed(evaluateCEL),
	"version":      serve.Typed(version),
	"build":        serve.Typed(runBuild),
	"yaml_to_json": serve.Typed(yamlToJSON),
	"substitute":   serve.Typed(substituteText),
	"semver":       serve.Typed(bestVersion),

	"verify_keyless":  serve.Typed(verifyKeyless),
	"verify_notation": serve.Typed(verifyNotation),
}
