package confined

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"headrace.dev/headrace/go/internal/toolbox/budget"
)

func open(t *testing.T, files map[string]string) (*FS, string) {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files2, err := Open(context.Background(), root, budget.Limits{}.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = files2.Close() })
	return files2, root
}

func link(t *testing.T, root, name, target string) {
	t.Helper()
	if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
		t.Fatal(err)
	}
}

func TestNothingOutsideCanBeToldApart(t *testing.T) {
	files, root := open(t, map[string]string{"a/b.yaml": "x"})
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "there"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	link(t, root, "to-there", filepath.Join(outside, "there"))
	link(t, root, "to-nowhere", filepath.Join(outside, "nowhere"))
	link(t, root, "up", "../"+filepath.Base(outside))
	link(t, root, "loop", "loop")
	messages := map[string]bool{}
	for _, name := range []string{"to-there", "to-nowhere", "../x", "up/there", "up/nowhere", "loop"} {
		path := Mount + "/" + name
		if files.Exists(path) || files.IsDir(path) {
			t.Errorf("%s exists", name)
		}
		content, err := files.ReadFile(path)
		if err == nil {
			t.Errorf("%s: read %q", name, content)
			continue
		}
		messages[strings.TrimPrefix(err.Error(), "open "+path)] = true
		if strings.Contains(err.Error(), root) || strings.Contains(err.Error(), outside) {
			t.Errorf("%s: message holds a path of the machine: %v", name, err)
		}
	}
	if len(messages) != 1 {
		t.Errorf("messages differ: %v", messages)
	}
}

func TestReadsAreRecorded(t *testing.T) {
	files, root := open(t, map[string]string{"a/x.yaml": "x", "a/y.txt": "y", "b/z.yaml": "z"})
	link(t, root, "a/l", "../b")
	files.Overlay("a/kustomization.yaml", []byte("made"))
	dir := Mount + "/a"
	_, _ = files.ReadFile(dir + "/kustomization.yaml")
	_, _ = files.ReadFile(dir + "/l/z.yaml")
	_ = files.Exists(dir + "/y.txt")
	_ = files.Exists(dir + "/none")
	_, _ = files.ReadDir(dir)
	want := []Read{
		{"", Dir, ""},
		{"a", Dir, Digest([]byte("l@\nx.yaml\ny.txt"))},
		{"a/l", Link, Digest([]byte("../b"))},
		{"a/none", Absent, ""},
		{"a/y.txt", File, ""},
		{"b/z.yaml", File, Digest([]byte("z"))},
	}
	_ = files.IsDir(Mount)
	if got := files.Reads(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestWalkIsLexicalAndFollowsNoLinks(t *testing.T) {
	files, root := open(t, map[string]string{"a/2": "", "a/1/x": "", "a/10": "", "a/skip/y": "", "b/z": ""})
	link(t, root, "a/l", "../b")
	var seen []string
	err := files.Walk(Mount+"/a", func(path string, info fs.FileInfo, err error) error {
		if err != nil {
			return err
		}
		seen = append(seen, strings.TrimPrefix(path, Mount+"/a"))
		if info.Name() == "skip" {
			return filepath.SkipDir
		}
		return nil
	})
	want := []string{"", "/1", "/1/x", "/10", "/2", "/l", "/skip"}
	if err != nil || !reflect.DeepEqual(seen, want) {
		t.Errorf("got %v, %v", seen, err)
	}
}

func TestGlob(t *testing.T) {
	files, _ := open(t, map[string]string{"a/x.yaml": "", "b/x.yaml": "", "b/y.yml": ""})
	matches, err := files.Glob(Mount + "/*/x.*")
	want := []string{Mount + "/a/x.yaml", Mount + "/b/x.yaml"}
	if err != nil || !reflect.DeepEqual(matches, want) {
		t.Errorf("got %v, %v", matches, err)
	}
}

func TestCleanedAbsResolvesLinks(t *testing.T) {
	files, root := open(t, map[string]string{"real/x.yaml": ""})
	link(t, root, "l", "real")
	dir, file, err := files.CleanedAbs(Mount + "/l/x.yaml")
	if err != nil || string(dir) != Mount+"/real" || file != "x.yaml" {
		t.Errorf("got %s, %s, %v", dir, file, err)
	}
}

func TestNothingIsWritten(t *testing.T) {
	files, _ := open(t, map[string]string{"x": ""})
	path := Mount + "/x"
	if files.WriteFile(path, nil) == nil || files.Mkdir(path) == nil || files.RemoveAll(path) == nil {
		t.Error("a write succeeded")
	}
}

func TestAnEndedCallReadsNoMore(t *testing.T) {
	files, _ := open(t, map[string]string{"x": ""})
	ctx, cancel := context.WithCancel(context.Background())
	files.ctx = ctx
	cancel()
	if _, err := files.ReadFile(Mount + "/x"); err == nil || files.Broken() == nil {
		t.Error("the read succeeded")
	}
}
