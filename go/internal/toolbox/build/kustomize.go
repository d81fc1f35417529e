package build

import (
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/openapi"
)

// building is held by the one running build: kustomize keeps its schema in
// variables of the process.
var building sync.Mutex

// builtin is the version of the schema that kustomize starts with.
var builtin = openapi.GetSchemaVersion()

// WarmUp parses the built-in schema, which takes longer than most builds. It stays
// parsed until a build brings a schema of its own. Parsing leaves as much garbage as
// the schema is large, which is given back.
func WarmUp() {
	building.Lock()
	defer building.Unlock()
	openapi.Schema()
	debug.FreeOSMemory()
}

// restoreSchema forgets a schema that the last build brought along. That costs the
// next build a parse, but only after such a build.
func restoreSchema() {
	if openapi.GetSchemaVersion() != builtin {
		openapi.ResetOpenAPI()
		openapi.Schema()
	}
}

// kustomize runs one build with the lock held.
func (s *source) kustomize() (built resmap.ResMap, err error) {
	defer restoreSchema()
	openapi.Schema()
	options := &krusty.Options{
		LoadRestrictions: types.LoadRestrictionsNone,
		PluginConfig:     types.DisabledPluginConfig(),
	}
	err = catch(func() error {
		built, err = krusty.MakeKustomizer(options).Run(s.files, s.dir)
		return err
	})
	return built, err
}

// catch makes an error of a panic: kustomize has several for malformed objects.
func catch(work func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			// Not the cause, which may quote a decrypted value; the error holds it, masked.
			fmt.Fprintf(os.Stderr, "headrace-toolbox: panic in kustomize\n%s", debug.Stack())
			err = fmt.Errorf("recovered from kustomize build panic: %v", cause)
		}
	}()
	return work()
}
