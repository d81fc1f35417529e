package build

import (
	"io/fs"
	"path"
	"path/filepath"
	"slices"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/provider"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"

	"headrace.dev/headrace/go/internal/toolbox/confined"
	"headrace.dev/headrace/go/internal/toolbox/decrypt"
	"headrace.dev/headrace/go/internal/toolbox/fail"
)

// source is one build's view of the tree.
type source struct {
	files *confined.FS
	// dir is the folder that is built, below the mount.
	dir string
	// generated says that the folder had no kustomization file of its own.
	generated bool
	// origins says that the user wants to see where objects came from.
	origins bool
	// resources are those of the generated kustomization.
	resources []string
	// decryptor is nil where nothing is decrypted.
	decryptor *decrypt.Decryptor
}

// prepare lays the kustomization that is really built over the user's own.
func (s *source) prepare(spec Spec) error {
	kustomization, file, err := s.load()
	if err != nil {
		return err
	}
	if err := s.merge(kustomization, spec); err != nil {
		return err
	}
	s.origins = slices.Contains(kustomization.BuildMetadata, types.OriginAnnotations)
	if !s.origins {
		// Always asked for, for the `file` of each object, and removed again.
		kustomization.BuildMetadata = append(slices.Clone(kustomization.BuildMetadata), types.OriginAnnotations)
	}
	content, err := yaml.Marshal(kustomization)
	if err != nil {
		return err
	}
	s.files.Overlay(path.Join(s.relative(), file), content)
	return nil
}

func (s *source) relative() string {
	rel, _ := filepath.Rel(confined.Mount, s.dir)
	return rel
}

// load reads the root's kustomization file leniently, or makes one.
func (s *source) load() (*types.Kustomization, string, error) {
	made := &types.Kustomization{
		TypeMeta: types.TypeMeta{APIVersion: types.KustomizationVersion, Kind: types.KustomizationKind},
	}
	file := s.kustomizationFile(s.dir)
	if file == "" {
		s.generated = true
		return made, konfig.DefaultKustomizationFileName(), s.collect(made)
	}
	content, err := s.files.ReadFile(path.Join(s.dir, file))
	if err != nil {
		return nil, "", err
	}
	if err := yaml.Unmarshal(content, made); err != nil {
		name := path.Join(s.relative(), file)
		return nil, "", fail.New(fail.InvalidYAML, "failed to decode kustomization file %s: %v", name, err).In(name)
	}
	if len(made.Resources) == 0 {
		// As Flux does: kustomize calls a file without resources empty.
		made.BuildMetadata = []string{types.OriginAnnotations}
	}
	return made, file, nil
}

func (s *source) kustomizationFile(dir string) string {
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		candidate := path.Join(dir, name)
		if s.files.Exists(candidate) && !s.files.IsDir(candidate) {
			return name
		}
	}
	return ""
}

// collect lists the manifests below the folder; one that has a kustomization file
// is taken as a whole.
func (s *source) collect(made *types.Kustomization) error {
	err := s.files.Walk(s.dir, func(name string, info fs.FileInfo, err error) error {
		switch {
		case err != nil:
			return err
		case name == s.dir:
			return nil
		case info.IsDir():
			if s.kustomizationFile(name) == "" {
				return nil
			}
			made.Resources = append(made.Resources, s.local(name))
			return filepath.SkipDir
		}
		if extension := path.Ext(name); extension == ".yaml" || extension == ".yml" {
			made.Resources = append(made.Resources, s.local(name))
		}
		return nil
	})
	if len(made.Resources) == 0 {
		// Keeps kustomize from calling the file empty; nothing is there to be
		// put into that namespace.
		made.Namespace = "_placeholder"
	}
	s.resources = made.Resources
	return err
}

func (s *source) local(name string) string {
	rel, _ := filepath.Rel(s.dir, name)
	return "./" + rel
}

// firstInvalid names the file that kustomize could not decode. Looking for it
// only after a failed build saves every other build from parsing twice.
func (s *source) firstInvalid() *fail.Error {
	factory := provider.NewDefaultDepProvider().GetResourceFactory()
	for _, resource := range s.resources {
		name := path.Join(s.dir, resource)
		if s.files.IsDir(name) {
			continue
		}
		content, err := s.files.ReadFile(name)
		if err != nil {
			continue
		}
		if err := catch(func() error { _, err := factory.SliceFromBytes(content); return err }); err != nil {
			file := confined.Clean(name)
			return fail.New(fail.InvalidYAML, "failed to decode Kubernetes YAML from %s: %s", file,
				confined.Clean(err.Error())).In(file)
		}
	}
	return nil
}
