package build

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	k8sjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"

	"headrace.dev/headrace/go/internal/toolbox/confined"
	"headrace.dev/headrace/go/internal/toolbox/decrypt"
	"headrace.dev/headrace/go/internal/toolbox/fail"
)

const (
	decryptKey = "kustomize.toolkit.fluxcd.io/decrypt"
	// maxEncrypted bounds a file that may be encrypted, in bytes.
	maxEncrypted = 5 << 20
)

// Decryption asks for SOPS decryption. The keys are not part of it: they come in
// the call's body.
type Decryption struct {
	// Secret is the name of the keys' Secret, for messages; empty for none.
	Secret string `json:"secret"`
}

// decryptor is nil where the request wants no decryption.
func (r Request) decryptor(ctx context.Context) (*decrypt.Decryptor, error) {
	if r.Decryption == nil {
		return nil, nil
	}
	keys, err := decrypt.Import(r.Keys.Entries)
	if err != nil {
		return nil, fail.New(fail.BuildFailed, "sops decryption Secret '%s': %v", r.Decryption.Secret, err)
	}
	keys.Logins, keys.Identities = r.Keys.Logins, r.Keys.Identities
	return decrypt.New(ctx, keys), nil
}

// sources decrypts, in memory only, the files that kustomize makes Secrets of or
// patches with.
type sources struct {
	*source
	folders map[string]bool
	done    map[string]bool
}

func (s *source) decryptSources() error {
	if s.decryptor == nil {
		return nil
	}
	walk := sources{s, map[string]bool{}, map[string]bool{}}
	return walk.folder(s.dir)
}

// masked takes what was decrypted out of an error that does not tell the call's time
// is up, and has it name the identities without which nothing could be.
func (s *source) masked(err error) error {
	var known *fail.Error
	if s.decryptor != nil && errors.As(err, &known) {
		known.Message = s.decryptor.Mask(known.Message)
		known.Identities = s.decryptor.Wanted()
	}
	return err
}

// folder decrypts what the kustomization in a folder names, and goes on to the
// folders that it names. What is no local folder with a kustomization is nothing to
// decrypt, and kustomize's to complain about.
func (s *sources) folder(dir string) error {
	if s.folders[dir] || !s.files.IsDir(dir) {
		return nil
	}
	s.folders[dir] = true
	kustomization, err := s.kustomization(dir)
	if err != nil || kustomization == nil {
		return err
	}
	for _, generator := range kustomization.SecretGenerator {
		if err := s.generator(dir, generator); err != nil {
			return err
		}
	}
	for _, patch := range kustomization.Patches {
		if patch.Path == "" || isURL(patch.Path) {
			continue
		}
		if err := s.file(dir, patch.Path, decrypt.FormatOf(patch.Path)); err != nil {
			return err
		}
	}
	for _, next := range slices.Concat(kustomization.Resources, kustomization.Components) {
		if isURL(next) {
			continue
		}
		if err := s.folder(path.Join(dir, next)); err != nil {
			return err
		}
	}
	return nil
}

func (s *sources) kustomization(dir string) (*types.Kustomization, error) {
	file := s.kustomizationFile(dir)
	if file == "" {
		return nil, nil
	}
	content, err := s.files.ReadFile(path.Join(dir, file))
	if err != nil {
		return nil, err
	}
	kustomization := &types.Kustomization{}
	if yaml.Unmarshal(content, kustomization) != nil {
		return nil, nil
	}
	kustomization.FixKustomization()
	return kustomization, nil
}

func (s *sources) generator(dir string, generator types.SecretArgs) error {
	for _, stated := range generator.FileSources {
		key, file, named := strings.Cut(stated, "=")
		if !named {
			file = key
		}
		if err := s.file(dir, file, decrypt.FormatOf(key)); err != nil {
			return err
		}
	}
	envs := generator.EnvSources
	if generator.EnvSource != "" {
		envs = append(slices.Clone(envs), generator.EnvSource)
	}
	for _, file := range envs {
		format := decrypt.FormatOf(file)
		if format == decrypt.Binary {
			format = decrypt.Dotenv
		}
		if err := s.file(dir, file, format); err != nil {
			return err
		}
	}
	return nil
}

// file lays the plain text over an encrypted file.
func (s *sources) file(dir, stated string, format decrypt.Format) error {
	name := path.Join(dir, stated)
	if path.IsAbs(stated) {
		name = stated
	}
	if s.done[name] {
		return nil
	}
	s.done[name] = true
	shown := confined.Clean(name)
	size, err := s.files.Regular(name)
	if err != nil {
		return fail.New(fail.BuildFailed, "decryption failed for '%s': %v", shown, cleanError(err)).In(shown)
	}
	if size > maxEncrypted {
		return fail.New(fail.BuildFailed, "decryption failed for '%s': cannot decrypt file with size (%d bytes) exceeding limit (%d)",
			shown, size, maxEncrypted).In(shown)
	}
	content, err := s.files.ReadFile(name)
	if err != nil {
		return err
	}
	if !decrypt.IsEncrypted(content, format) {
		return nil
	}
	plain, err := s.decryptor.Text(content, format, format)
	if err != nil {
		return fail.New(fail.BuildFailed, "decryption failed for '%s': %v", shown, err).In(shown)
	}
	return s.files.OverlayChecked(name, plain)
}

func cleanError(err error) error { return errors.New(confined.Clean(err.Error())) }

func isURL(name string) bool {
	parsed, err := url.Parse(name)
	return err == nil && parsed.Scheme != "" && parsed.Host != ""
}

// staysEncrypted tells by its annotations of an object that somebody else decrypts.
func staysEncrypted(annotations map[string]string) bool {
	return strings.EqualFold(annotations[decryptKey], disabled)
}

// decrypted opens an encrypted resource, or the encrypted entries of a Secret.
func (p *pipeline) decrypted(res *resource.Resource, data []byte) ([]byte, error) {
	if p.source.decryptor == nil || staysEncrypted(res.GetAnnotations()) {
		return data, nil
	}
	var object map[string]any
	if err := k8sjson.Unmarshal(data, &object); err != nil {
		return nil, err
	}
	metadata, _ := object["sops"].(map[string]any)
	mac, _ := metadata["mac"].(string)
	switch {
	case mac != "":
		plain, err := p.source.decryptor.Text(data, decrypt.JSON, decrypt.JSON)
		if err != nil {
			return nil, fmt.Errorf("failed to decrypt and format '%s/%s' %s data: %w", res.GetNamespace(), res.GetName(),
				res.GetKind(), err)
		}
		return plain, nil
	case res.GetKind() == "Secret":
		return p.decryptedEntries(res, data, object)
	}
	return data, nil
}

func (p *pipeline) decryptedEntries(res *resource.Resource, data []byte, object map[string]any) ([]byte, error) {
	entries, _ := object["data"].(map[string]any)
	changed := false
	for key, value := range entries {
		encoded, _ := value.(string)
		text, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			continue
		}
		format, encrypted := decrypt.Detect(text)
		if !encrypted {
			continue
		}
		plain, err := p.source.decryptor.Text(text, format, decrypt.FormatOf(key))
		if err != nil {
			return nil, fmt.Errorf("failed to decrypt and format '%s/%s' Secret field '%s': %w", res.GetNamespace(),
				res.GetName(), key, err)
		}
		entries[key], changed = base64.StdEncoding.EncodeToString(plain), true
	}
	if !changed {
		return data, nil
	}
	return k8sjson.Marshal(object)
}
