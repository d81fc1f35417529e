// Package budget refuses input that is made to exhaust memory or time, before a
// parser without limits of its own sees it.
package budget

import (
	"bytes"
	"strings"

	"go.yaml.in/yaml/v3"

	"headrace.dev/headrace/go/internal/toolbox/fail"
)

// Limits bound one call; a zero field takes its default.
type Limits struct {
	// FileBytes bounds one file or body.
	FileBytes int64 `json:"file_bytes,omitempty"`
	// TotalBytes bounds all that a call reads, counting repeated reads.
	TotalBytes int64 `json:"total_bytes,omitempty"`
	// Reads bounds the number of file system operations: a chain of bases that
	// doubles at each level is small on disk and endless to build.
	Reads int `json:"reads,omitempty"`
	// Depth bounds how far YAML values nest.
	Depth int `json:"depth,omitempty"`
	// Nodes bounds the YAML values of one file with all aliases expanded.
	Nodes int `json:"nodes,omitempty"`
	// Objects bounds what a build may yield.
	Objects int `json:"objects,omitempty"`
	// OutputBytes bounds the objects that a build yields, as JSON.
	OutputBytes int64 `json:"output_bytes,omitempty"`
}

var defaults = Limits{
	FileBytes: 32 << 20, TotalBytes: 512 << 20, Reads: 200_000, Depth: 200, Nodes: 2_000_000, Objects: 20_000,
	OutputBytes: 192 << 20,
}

// WithDefaults fills what the caller left out.
func (l Limits) WithDefaults() Limits {
	fill(&l.FileBytes, defaults.FileBytes)
	fill(&l.TotalBytes, defaults.TotalBytes)
	fill(&l.Reads, defaults.Reads)
	fill(&l.Depth, defaults.Depth)
	fill(&l.Nodes, defaults.Nodes)
	fill(&l.Objects, defaults.Objects)
	fill(&l.OutputBytes, defaults.OutputBytes)
	return l
}

func fill[N int | int64](field *N, value N) {
	if *field <= 0 {
		*field = value
	}
}

// CheckYAML measures a text as YAML. Text that is no YAML passes: its reader
// will say so in better words. Only text that could exceed a limit is parsed.
func (l Limits) CheckYAML(text []byte) error {
	if int64(len(text)) > l.FileBytes {
		return fail.New(fail.LimitExceeded, "%d bytes of YAML are more than %d", len(text), l.FileBytes)
	}
	if bytes.IndexByte(text, '&') < 0 && depthBound(text) <= l.Depth {
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var document yaml.Node
		if err := decoder.Decode(&document); err != nil {
			return tooDeep(err)
		}
		if err := l.checkNode(&document); err != nil {
			return err
		}
	}
}

// CheckInline measures the texts inside a YAML document that are YAML themselves,
// such as the inline patches of a kustomization.
func (l Limits) CheckInline(text []byte) error {
	if bytes.IndexByte(text, '&') < 0 && depthBound(text) <= l.Depth {
		return nil
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil
	}
	return l.checkScalars(&document)
}

func (l Limits) checkScalars(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		return l.CheckYAML([]byte(node.Value))
	}
	for _, child := range node.Content {
		if err := l.checkScalars(child); err != nil {
			return err
		}
	}
	return nil
}

// tooDeep tells the parser's own limit from malformed text and from the end.
func tooDeep(err error) error {
	if strings.Contains(err.Error(), "exceeded max depth") {
		return fail.New(fail.LimitExceeded, "YAML is nested too deeply")
	}
	return nil
}

// depthBound is at least the depth of the text: a level costs a block an
// indentation or an indicator on its line, and a flow collection a bracket.
func depthBound(text []byte) int {
	brackets, deepest := 0, 0
	for line := range bytes.Lines(text) {
		indent := len(line) - len(bytes.TrimLeft(line, " "))
		indicators := bytes.Count(line, []byte("- ")) + bytes.Count(line, []byte("? ")) + bytes.Count(line, []byte(": "))
		deepest = max(deepest, indent+indicators+1)
		brackets += bytes.Count(line, []byte("[")) + bytes.Count(line, []byte("{"))
	}
	return brackets + deepest
}

// size is what a node holds with its aliases expanded.
type size struct{ nodes, depth int }

func (l Limits) checkNode(document *yaml.Node) error {
	total, err := l.measure(document, map[*yaml.Node]size{}, 0)
	if err != nil {
		return err
	}
	if total.nodes > l.Nodes {
		return fail.New(fail.LimitExceeded, "YAML holds more than %d values, counting each alias in full", l.Nodes)
	}
	if total.depth > l.Depth {
		return fail.New(fail.LimitExceeded, "YAML is nested deeper than %d levels", l.Depth)
	}
	return nil
}

// measure counts an anchored value once and multiplies, so a bomb of aliases is
// measured in the time it takes to read it.
func (l Limits) measure(node *yaml.Node, anchors map[*yaml.Node]size, level int) (size, error) {
	if level > l.Depth+2 {
		return size{}, fail.New(fail.LimitExceeded, "YAML is nested deeper than %d levels", l.Depth)
	}
	if node.Kind == yaml.AliasNode {
		known, complete := anchors[node.Alias]
		if !complete {
			return size{}, fail.New(fail.LimitExceeded, "YAML anchor %q contains itself", node.Value)
		}
		return known, nil
	}
	total := size{nodes: 1}
	for _, child := range node.Content {
		part, err := l.measure(child, anchors, level+1)
		if err != nil {
			return size{}, err
		}
		total.nodes = min(total.nodes+part.nodes, l.Nodes+1)
		total.depth = max(total.depth, part.depth)
	}
	if len(node.Content) > 0 {
		total.depth++
	}
	if node.Anchor != "" {
		anchors[node] = total
	}
	return total, nil
}
