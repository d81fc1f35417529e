package build

import (
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"

	"headrace.dev/headrace/go/internal/toolbox/fail"
)

// merge writes the fields of the Kustomization object over those of the file.
func (s *source) merge(into *types.Kustomization, spec Spec) error {
	override(&into.Namespace, spec.TargetNamespace)
	override(&into.NamePrefix, spec.NamePrefix)
	override(&into.NameSuffix, spec.NameSuffix)
	if len(spec.BuildMetadata) > 0 {
		into.BuildMetadata = spec.BuildMetadata
	}
	for _, patch := range spec.Patches {
		into.Patches = append(into.Patches, types.Patch{Patch: patch.Patch, Target: patch.Target.kustomize()})
	}
	for _, patch := range spec.PatchesStrategicMerge {
		into.PatchesStrategicMerge = append(into.PatchesStrategicMerge, types.PatchStrategicMerge(patch))
	}
	for _, patch := range spec.PatchesJSON6902 {
		into.PatchesJson6902 = append(into.PatchesJson6902,
			types.Patch{Patch: string(patch.Patch), Target: patch.Target.kustomize()})
	}
	for _, image := range spec.Images {
		into.Images = mergeImage(into.Images, image)
	}
	return s.mergeComponents(into, spec)
}

func override(field *string, value string) {
	if value != "" {
		*field = value
	}
}

func (s *Selector) kustomize() *types.Selector {
	if s == nil {
		return nil
	}
	return &types.Selector{
		ResId: resid.ResId{
			Gvk: resid.Gvk{Group: s.Group, Version: s.Version, Kind: s.Kind}, Name: s.Name, Namespace: s.Namespace,
		},
		LabelSelector: s.LabelSelector, AnnotationSelector: s.AnnotationSelector,
	}
}

// mergeImage changes the file's entry of the same name. Tag and digest choose a
// version together: setting one clears the other, or the old digest would win.
func mergeImage(images []types.Image, image Image) []types.Image {
	index := slices.IndexFunc(images, func(known types.Image) bool { return known.Name == image.Name })
	if index < 0 {
		return append(images,
			types.Image{Name: image.Name, NewName: image.NewName, NewTag: image.NewTag, Digest: image.Digest})
	}
	override(&images[index].NewName, image.NewName)
	if image.NewTag != "" || image.Digest != "" {
		images[index].NewTag, images[index].Digest = image.NewTag, image.Digest
	}
	return images
}

func (s *source) mergeComponents(into *types.Kustomization, spec Spec) error {
	for _, component := range spec.Components {
		if !isLocal(component) {
			return fail.New(fail.BuildFailed, "component path '%s' must be local and relative", component)
		}
		if spec.IgnoreMissingComponents && !s.files.Exists(path.Join(s.dir, component)) {
			continue
		}
		into.Components = append(into.Components, component)
	}
	return nil
}

// remotePrefixes are those by which kustomize knows a git URL.
var remotePrefixes = []string{"git::", "gh:", "ssh://", "https://", "http://", "git@", "github.com:", "github.com/"}

func isLocal(component string) bool {
	lower := strings.ToLower(component)
	for _, prefix := range remotePrefixes {
		if strings.HasPrefix(lower, prefix) {
			return false
		}
	}
	return !path.IsAbs(component) && !path.IsAbs(strings.TrimPrefix(lower, "file://"))
}
