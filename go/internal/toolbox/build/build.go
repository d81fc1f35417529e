package build

import (
	"context"
	"encoding/json"
	"errors"
	"path"
	"strings"

	"sigs.k8s.io/kustomize/api/resmap"

	"headrace.dev/headrace/go/internal/toolbox/confined"
	"headrace.dev/headrace/go/internal/toolbox/fail"
)

// Run builds; one call at a time, others wait their turn.
func Run(ctx context.Context, request Request) (*Result, []byte, error) {
	request.Limits = request.Limits.WithDefaults()
	if err := request.check(); err != nil {
		return nil, nil, err
	}
	building.Lock()
	defer building.Unlock()
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	files, err := confined.Open(ctx, request.Root, request.Limits)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = files.Close() }()
	defer openNetwork(request.AllowRemote)()
	if request.AllowRemote && scratchFolder != "" {
		files.AllowScratch(scratchFolder)
	}
	decryptor, err := request.decryptor(ctx)
	if err != nil {
		return nil, nil, err
	}
	s := &source{files: files, dir: path.Join(confined.Mount, path.Join("/", request.Path)), decryptor: decryptor}
	objects, err := s.build(request)
	if err != nil {
		return nil, nil, s.masked(s.explain(err, request))
	}
	return s.answer(objects, request)
}

// check refuses metadata that would take the objects from their owner, and patches
// that are made to exhaust memory.
func (r Request) check() error {
	for key := range r.Labels {
		if metadata := r.Spec.CommonMetadata; metadata != nil && has(metadata.Labels, key) {
			return fail.New(fail.BuildFailed, "commonMetadata may not set the label %s", key)
		}
	}
	for _, patch := range r.Spec.Patches {
		if err := r.Limits.CheckYAML([]byte(patch.Patch)); err != nil {
			return err
		}
	}
	return nil
}

func has(labels map[string]string, key string) bool {
	_, found := labels[key]
	return found
}

func (s *source) build(request Request) ([]made, error) {
	if !s.files.IsDir(s.dir) {
		return nil, fail.New(fail.PathNotFound, "kustomization path not found: %s", request.Path)
	}
	pipeline, err := newPipeline(request, s)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(request.Spec); err != nil {
		return nil, err
	}
	if err := s.decryptSources(); err != nil {
		return nil, err
	}
	built, err := s.kustomize()
	if err != nil {
		return nil, err
	}
	// kustomize forgives some errors of the file system.
	if err := s.files.Broken(); err != nil {
		return nil, err
	}
	return pipeline.objects(resmapOrEmpty(built))
}

func resmapOrEmpty(built resmap.ResMap) resmap.ResMap {
	if built == nil {
		return resmap.New()
	}
	return built
}

// explain gives an error its code and a message without paths of the machine.
func (s *source) explain(err error, request Request) error {
	if broken := s.files.Broken(); broken != nil {
		err = broken
	}
	var known *fail.Error
	switch {
	case errors.As(err, &known):
		known.Message = confined.Clean(known.Message)
		return known
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return err
	case triedRemote(err):
		return s.refuseRemote(err, request)
	}
	if s.generated {
		if invalid := s.firstInvalid(); invalid != nil {
			return invalid
		}
	}
	message := confined.Clean(err.Error())
	return fail.New(fail.BuildFailed, "kustomize build failed: %s", message).In(s.mentioned(message))
}

func (s *source) refuseRemote(err error, request Request) error {
	if request.AllowRemote {
		return fail.New(fail.NeedsNetwork, "the build has remote bases: %s", confined.Clean(err.Error()))
	}
	return fail.New(fail.BuildFailed, "kustomize build failed: remote bases are not allowed: %s",
		confined.Clean(err.Error()))
}

// mentioned is the longest path that was read and that the message names.
func (s *source) mentioned(message string) (file string) {
	for _, read := range s.files.Reads() {
		if read.Kind != confined.Dir && len(read.Path) > len(file) && strings.Contains(message, read.Path) {
			file = read.Path
		}
	}
	return file
}

// answer lays the objects' JSON end to end.
func (s *source) answer(objects []made, request Request) (*Result, []byte, error) {
	result := &Result{Objects: make([]Object, 0, len(objects)), Reads: s.files.Reads()}
	result.Remote = remote.used.Load() || s.files.UsedScratch()
	var body []byte
	for _, m := range objects {
		data, err := json.Marshal(m.object.Object)
		if err != nil {
			return nil, nil, fail.New(fail.BuildFailed, "encode %s: %v", m.name(), err).In(m.file).Of(m.name())
		}
		result.Objects = append(result.Objects, Object{
			APIVersion: m.object.GetAPIVersion(), Kind: m.object.GetKind(), Namespace: m.object.GetNamespace(),
			Name: m.object.GetName(), Labels: orEmpty(m.object.GetLabels()), Annotations: orEmpty(m.object.GetAnnotations()),
			File: m.file, Digest: confined.Digest(data), Offset: len(body), Length: len(data),
		})
		body = append(body, data...)
		if int64(len(body)) > request.Limits.OutputBytes {
			return nil, nil, fail.New(fail.LimitExceeded, "the build yields more than %d bytes", request.Limits.OutputBytes)
		}
	}
	result.Digest = confined.Digest(body)
	return result, body, nil
}

func orEmpty(values map[string]string) map[string]string {
	if values == nil {
		return map[string]string{}
	}
	return values
}
