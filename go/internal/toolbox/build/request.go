// Package build turns a folder and the build fields of a Flux Kustomization into
// the objects to deliver, as Flux's kustomize-controller does, and reports what
// it read.
package build

import (
	"encoding/json"

	"headrace.dev/headrace/go/internal/toolbox/budget"
	"headrace.dev/headrace/go/internal/toolbox/confined"
	"headrace.dev/headrace/go/internal/toolbox/decrypt"
)

// Request says what to build. Root is a folder of the disk that is never
// written; everything else is relative to it.
type Request struct {
	Root        string            `json:"root"`
	Path        string            `json:"path"`
	Spec        Spec              `json:"spec"`
	Substitute  *Substitute       `json:"substitute"`
	Labels      map[string]string `json:"labels"`
	Normalize   bool              `json:"normalize"`
	AllowRemote bool              `json:"allow_remote"`
	Decryption  *Decryption       `json:"decryption"`
	Keys        Keys              `json:"-"`
	Limits      budget.Limits     `json:"limits"`
}

// Keys are the entries of the decryption Secret, logins for Vault, and identities that were issued for this call.
type Keys struct {
	Entries    map[string][]byte  `json:"entries"`
	Logins     []decrypt.Login    `json:"logins"`
	Identities []decrypt.Identity `json:"identities"`
}

// Spec holds the fields of a Kustomization that shape its build.
type Spec struct {
	NamePrefix              string            `json:"namePrefix"`
	NameSuffix              string            `json:"nameSuffix"`
	TargetNamespace         string            `json:"targetNamespace"`
	Patches                 []Patch           `json:"patches"`
	PatchesStrategicMerge   []json.RawMessage `json:"patchesStrategicMerge"`
	PatchesJSON6902         []JSON6902Patch   `json:"patchesJson6902"`
	Images                  []Image           `json:"images"`
	Components              []string          `json:"components"`
	IgnoreMissingComponents bool              `json:"ignoreMissingComponents"`
	BuildMetadata           []string          `json:"buildMetadata"`
	CommonMetadata          *Metadata         `json:"commonMetadata"`
}

// Patch is inline; the file form of kustomize is not offered here.
type Patch struct {
	Patch  string    `json:"patch"`
	Target *Selector `json:"target"`
}

// JSON6902Patch is the older form, with the operations as data.
type JSON6902Patch struct {
	Patch  json.RawMessage `json:"patch"`
	Target Selector        `json:"target"`
}

// Selector picks the objects that a patch changes.
type Selector struct {
	Group              string `json:"group"`
	Version            string `json:"version"`
	Kind               string `json:"kind"`
	Name               string `json:"name"`
	Namespace          string `json:"namespace"`
	LabelSelector      string `json:"labelSelector"`
	AnnotationSelector string `json:"annotationSelector"`
}

// Image replaces the name, tag or digest of an image.
type Image struct {
	Name    string `json:"name"`
	NewName string `json:"newName"`
	NewTag  string `json:"newTag"`
	Digest  string `json:"digest"`
}

// Metadata is set on every object.
type Metadata struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// Substitute asks for variable substitution after the build.
type Substitute struct {
	Variables map[string]string `json:"variables"`
	Always    bool              `json:"always"`
	Strict    bool              `json:"strict"`
	// Scalars refuses values that change the structure of an object.
	Scalars bool `json:"scalars"`
}

// Object describes one object; its JSON lies in the body of the answer.
type Object struct {
	APIVersion  string            `json:"apiVersion"`
	Kind        string            `json:"kind"`
	Namespace   string            `json:"namespace"`
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	File        string            `json:"file"`
	Digest      string            `json:"digest"`
	Offset      int               `json:"offset"`
	Length      int               `json:"length"`
}

// Result is the answer, together with a body. Digest is that of the body.
type Result struct {
	Objects []Object        `json:"objects"`
	Reads   []confined.Read `json:"reads"`
	Remote  bool            `json:"remote"`
	Digest  string          `json:"digest"`
}
