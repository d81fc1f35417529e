package calls

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"headrace.dev/headrace/go/internal/toolbox/budget"
	"headrace.dev/headrace/go/internal/toolbox/fail"
)

type yamlArgs struct {
	Limits budget.Limits `json:"limits"`
	// Strict refuses keys that are there twice.
	Strict bool `json:"strict"`
}

type yamlResult struct {
	Documents int `json:"documents"`
}

// yamlToJSON makes one JSON array of all documents, which must be maps; empty
// documents are left out.
func yamlToJSON(_ context.Context, args yamlArgs, body []byte) (any, []byte, error) {
	limits := args.Limits.WithDefaults()
	if err := limits.CheckYAML(body); err != nil {
		return nil, nil, err
	}
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(body)))
	var documents [][]byte
	for index := 0; ; index++ {
		text, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, fail.New(fail.InvalidYAML, "document %d: %v", index, err)
		}
		document, err := jsonDocument(text, args.Strict)
		if err != nil {
			return nil, nil, fail.New(fail.InvalidYAML, "document %d: %v", index, err)
		}
		if document != nil {
			documents = append(documents, document)
		}
	}
	array := append([]byte("["), bytes.Join(documents, []byte(","))...)
	return yamlResult{Documents: len(documents)}, append(array, ']'), nil
}

func jsonDocument(text []byte, strict bool) ([]byte, error) {
	convert := yaml.YAMLToJSON
	if strict {
		convert = yaml.YAMLToJSONStrict
	}
	document, err := convert(text)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	switch document = bytes.TrimSpace(document); {
	case bytes.Equal(document, []byte("null")):
		return nil, nil
	case len(document) == 0 || document[0] != '{':
		return nil, errors.New("not a map of fields")
	}
	return document, nil
}
