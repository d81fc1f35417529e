// Package normalize brings objects into the form in which the API server keeps
// them, as far as that is known without asking it.
package normalize

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"

	"github.com/fluxcd/pkg/ssa/normalize"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Object does to one object what Flux does before it applies it: built-in kinds
// make a typed round trip, which folds stringData, fills in port protocols and
// drops unknown fields. An object that does not convert is left as it is.
func Object(object *unstructured.Unstructured) error {
	if err := normalize.UnstructuredList([]*unstructured.Unstructured{object}); err != nil {
		return err
	}
	unstructured.RemoveNestedField(object.Object, "metadata", "creationTimestamp")
	dropInvalidBundle(object)
	return nil
}

// dropInvalidBundle removes a CRD's conversion certificates when they are a
// placeholder that a certificate injector replaces later: the API server refuses
// them otherwise.
func dropInvalidBundle(object *unstructured.Unstructured) {
	kind := object.GroupVersionKind()
	if kind.Group != "apiextensions.k8s.io" || kind.Kind != "CustomResourceDefinition" {
		return
	}
	path := []string{"spec", "conversion", "webhook", "clientConfig", "caBundle"}
	bundle, found, err := unstructured.NestedString(object.Object, path...)
	if !found || err == nil && isBundle(bundle) {
		return
	}
	unstructured.RemoveNestedField(object.Object, path...)
}

func isBundle(encoded string) bool {
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return false
	}
	found := false
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return found
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return false
		}
		found = true
	}
}
