package build

import (
	"fmt"
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	k8sjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/yaml"

	"headrace.dev/headrace/go/internal/toolbox/fail"
	"headrace.dev/headrace/go/internal/toolbox/normalize"
	"headrace.dev/headrace/go/internal/toolbox/substitute"
)

const (
	substituteKey = "kustomize.toolkit.fluxcd.io/substitute"
	disabled      = "disabled"
)

// made is one object on its way to the answer.
type made struct {
	object *unstructured.Unstructured
	file   string
}

func (m made) name() string { return describe(m.object) }

// describe writes Kind/namespace/name, without the namespace if there is none.
func describe(object *unstructured.Unstructured) string {
	if object.GetNamespace() == "" {
		return object.GetKind() + "/" + object.GetName()
	}
	return object.GetKind() + "/" + object.GetNamespace() + "/" + object.GetName()
}

// pipeline is what happens to each resource after kustomize.
type pipeline struct {
	request   Request
	source    *source
	variables *substitute.Variables
}

func newPipeline(request Request, s *source) (*pipeline, error) {
	p := &pipeline{request: request, source: s}
	if request.Substitute == nil {
		return p, nil
	}
	variables, err := substitute.Prepare(request.Substitute.Variables, request.Substitute.Strict)
	if err != nil {
		return nil, err
	}
	if variables.Len() > 0 || request.Substitute.Always {
		p.variables = variables
	}
	return p, nil
}

// objects returns the finished objects in the order of the build.
func (p *pipeline) objects(built resmap.ResMap) ([]made, error) {
	var all []made
	for _, res := range built.Resources() {
		expanded, err := p.expand(res)
		if err != nil {
			return nil, err
		}
		for _, m := range expanded {
			if isKustomizeConfig(m.object) {
				continue
			}
			if err := p.finish(m); err != nil {
				return nil, err
			}
			all = append(all, m)
		}
		if len(all) > p.request.Limits.Objects {
			return nil, fail.New(fail.LimitExceeded, "the build yields more than %d objects", p.request.Limits.Objects)
		}
	}
	return all, nil
}

// expand makes the objects of one resource: usually one, several of a List.
func (p *pipeline) expand(res *resource.Resource) ([]made, error) {
	file, err := p.origin(res)
	if err != nil {
		return nil, err
	}
	object, err := p.decode(res, file)
	if err != nil {
		return nil, err
	}
	if !object.IsList() {
		return []made{{object, file}}, nil
	}
	var items []made
	err = object.EachListItem(func(item runtime.Object) error {
		items = append(items, made{item.(*unstructured.Unstructured), file})
		return nil
	})
	if err != nil {
		return nil, fail.New(fail.BuildFailed, "%s: %v", describe(object), err).In(file).Of(describe(object))
	}
	return items, nil
}

// origin takes the file from the annotation, and the annotation from the object
// unless the user asked for it.
func (p *pipeline) origin(res *resource.Resource) (string, error) {
	origin, err := res.GetOrigin()
	if err != nil || origin == nil {
		return "", nil
	}
	if !p.source.origins {
		if err := res.SetOrigin(nil); err != nil {
			return "", err
		}
	}
	where := origin.Path
	if where == "" {
		where = origin.ConfiguredIn
	}
	if origin.Repo != "" || where == "" {
		return "", nil
	}
	return path.Join(p.source.relative(), where), nil
}

// decode substitutes variables in the resource's YAML text, if it has any.
func (p *pipeline) decode(res *resource.Resource, file string) (*unstructured.Unstructured, error) {
	data, err := res.MarshalJSON()
	if err != nil {
		return nil, fail.New(fail.BuildFailed, "%s: %v", res.CurId(), err).In(file)
	}
	if data, err = p.decrypted(res, data); err != nil {
		return nil, fail.New(fail.BuildFailed, "decryption failed for '%s': %v", res.GetName(), err).In(file).
			Of(res.GetKind() + "/" + res.GetName())
	}
	if p.variables != nil && strings.Contains(string(data), "$") && !optsOut(res) {
		if data, err = p.substitute(data); err != nil {
			failed := fail.From(err, fail.SubstituteFailed)
			failed.Message = fmt.Sprintf("post build failed for '%s': envsubst error: %s", res.GetName(), failed.Message)
			return nil, failed.In(file).Of(res.GetKind() + "/" + res.GetName())
		}
	}
	object := &unstructured.Unstructured{}
	if err := k8sjson.Unmarshal(data, &object.Object); err != nil {
		return nil, fail.New(fail.BuildFailed, "%s/%s: %v", res.GetKind(), res.GetName(), err).In(file)
	}
	return object, nil
}

func optsOut(res *resource.Resource) bool {
	return res.GetLabels()[substituteKey] == disabled || res.GetAnnotations()[substituteKey] == disabled
}

func (p *pipeline) substitute(data []byte) ([]byte, error) {
	text, err := yaml.JSONToYAML(data)
	if err != nil {
		return nil, err
	}
	result, err := p.variables.Apply(string(text), p.request.Limits.FileBytes)
	if err != nil {
		return nil, err
	}
	if err := p.request.Limits.CheckYAML([]byte(result)); err != nil {
		return nil, err
	}
	substituted, err := yaml.YAMLToJSON([]byte(result))
	if err != nil {
		return nil, fail.New(fail.SubstituteFailed, "YAMLToJSON: %v", err)
	}
	if p.request.Substitute.Scalars {
		return substituted, substitute.CheckScalars(data, substituted)
	}
	return substituted, nil
}

func isKustomizeConfig(object *unstructured.Unstructured) bool {
	return strings.HasPrefix(object.GetAPIVersion(), "kustomize.config.k8s.io/")
}

// finish checks an object and sets what the Kustomization sets on all.
func (p *pipeline) finish(m made) error {
	if err := m.check(); err != nil {
		return err
	}
	if metadata := p.request.Spec.CommonMetadata; metadata != nil {
		m.object.SetLabels(merged(m.object.GetLabels(), metadata.Labels))
		m.object.SetAnnotations(merged(m.object.GetAnnotations(), metadata.Annotations))
	}
	m.object.SetLabels(merged(m.object.GetLabels(), p.request.Labels))
	if !p.request.Normalize {
		return nil
	}
	if err := normalize.Object(m.object); err != nil {
		return fail.New(fail.BuildFailed, "%v", err).In(m.file).Of(m.name())
	}
	return nil
}

func (m made) check() error {
	for field, value := range map[string]string{
		"apiVersion": m.object.GetAPIVersion(), "kind": m.object.GetKind(), "metadata.name": m.object.GetName(),
	} {
		if value == "" {
			return fail.New(fail.BuildFailed, "object %s has no %s", m.name(), field).In(m.file).Of(m.name())
		}
	}
	// Tested before normalisation, which would drop the field from a Secret.
	_, encrypted := m.object.Object["sops"]
	if encrypted && m.object.GetKind() == "Secret" && !staysEncrypted(m.object.GetAnnotations()) {
		return fail.New(fail.BuildFailed,
			"%s is SOPS encrypted, configuring decryption is required for this secret to be reconciled", m.name()).
			In(m.file).Of(m.name())
	}
	return nil
}

func merged(into, from map[string]string) map[string]string {
	if into == nil && len(from) > 0 {
		into = make(map[string]string, len(from))
	}
	for key, value := range from {
		into[key] = value
	}
	return into
}
