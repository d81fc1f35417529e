// Package confined is the file system that a build sees: one folder of the disk,
// read only, with a few files laid over it, and a record of everything that was
// asked for. The folder appears under a made-up name, so no message can hold a
// path of the machine; what lies outside cannot be told from what does not exist.
package confined

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"headrace.dev/headrace/go/internal/toolbox/budget"
	"headrace.dev/headrace/go/internal/toolbox/fail"
)

// Mount is where the folder appears. It is not "/", so that a path with too many
// ".." leaves it instead of coming back in.
const Mount = "/.headrace/source"

// maxLinks is how many symbolic links one path may pass, as in Linux.
const maxLinks = 40

var (
	errOutside  = errors.New("path is outside of the source")
	errReadOnly = errors.New("file system is read-only")
)

// FS implements kustomize's FileSystem. It serves one build, from one goroutine.
type FS struct {
	ctx     context.Context
	root    *os.Root
	overlay map[string][]byte
	reads   recorder
	entries map[string]entry
	limits  budget.Limits
	ops     int
	bytes   int64
	scratch *scratch
	// broken is the first limit that was hit: kustomize treats some errors as
	// "not found" and goes on.
	broken error
}

// entry is what is known about a path of the unchanging tree.
type entry struct {
	path string // with links resolved
	info fs.FileInfo
	err  error
}

// Open confines reads to the folder. Close it after use.
func Open(ctx context.Context, folder string, limits budget.Limits) (*FS, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fail.New(fail.PathNotFound, "source folder cannot be opened: %v", errors.Unwrap(err))
	}
	return &FS{ctx: ctx, root: root, overlay: map[string][]byte{}, reads: recorder{}, entries: map[string]entry{},
		limits: limits}, nil
}

// Close gives the folder back.
func (f *FS) Close() error { return f.root.Close() }

// Overlay lays a file over the folder; reads of it are not recorded.
func (f *FS) Overlay(rel string, content []byte) { f.overlay[rel] = content }

// Reads tells everything that was looked at, in order of path.
func (f *FS) Reads() []Read { return f.reads.sorted() }

// Broken is the first limit that was exceeded.
func (f *FS) Broken() error { return f.broken }

// Clean removes the made-up name from a message.
func Clean(message string) string {
	message = strings.ReplaceAll(message, Mount+"/", "")
	return strings.ReplaceAll(message, Mount, ".")
}

// relative is a path inside the mount, "." for the mount itself.
func relative(name string) (string, error) {
	cleaned := path.Clean(name)
	if cleaned == Mount {
		return ".", nil
	}
	if rest, inside := strings.CutPrefix(cleaned, Mount+"/"); inside {
		return rest, nil
	}
	return "", errOutside
}

// spend counts an operation against the limits.
func (f *FS) spend(size int64) error {
	f.ops++
	f.bytes += size
	switch {
	case f.broken != nil:
	case f.ctx.Err() != nil:
		f.broken = f.ctx.Err()
	case f.ops > f.limits.Reads:
		f.broken = fail.New(fail.LimitExceeded, "the build looks at more than %d paths", f.limits.Reads)
	case f.bytes > f.limits.TotalBytes:
		f.broken = fail.New(fail.LimitExceeded, "the build reads more than %d bytes", f.limits.TotalBytes)
	}
	return f.broken
}

// lookup resolves a path and records whether it is there.
func (f *FS) lookup(op, name string) (entry, error) {
	if err := f.spend(0); err != nil {
		return entry{}, err
	}
	rel, err := relative(name)
	if err != nil {
		return entry{}, &fs.PathError{Op: op, Path: name, Err: err}
	}
	found := f.resolve(rel, 0)
	if found.err != nil {
		if errors.Is(found.err, fs.ErrNotExist) {
			f.reads.add(rel, Absent, "")
		}
		return found, &fs.PathError{Op: op, Path: name, Err: found.err}
	}
	f.reads.add(found.path, kindOf(found.info), "")
	return found, nil
}

func kindOf(info fs.FileInfo) string {
	if info.IsDir() {
		return Dir
	}
	return File
}

// resolve follows links one component at a time. Each is followed here, not by
// the kernel, so that it is recorded and cannot lead out.
func (f *FS) resolve(rel string, links int) entry {
	if known, found := f.entries[rel]; found {
		return known
	}
	made := f.resolveNew(rel, links)
	f.entries[rel] = made
	return made
}

func (f *FS) resolveNew(rel string, links int) entry {
	if rel == "." {
		info, err := f.root.Lstat(".")
		return entry{path: ".", info: info, err: cause(err)}
	}
	parent := f.resolve(path.Dir(rel), links)
	if parent.err != nil {
		return entry{err: parent.err}
	}
	if !parent.info.IsDir() {
		return entry{err: fs.ErrNotExist}
	}
	real := path.Join(parent.path, path.Base(rel))
	info, err := f.root.Lstat(real)
	if err != nil {
		return entry{err: cause(err)}
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		return entry{path: real, info: info}
	}
	return f.follow(real, links+1)
}

func (f *FS) follow(link string, links int) entry {
	target, err := f.root.Readlink(link)
	if err != nil {
		return entry{err: cause(err)}
	}
	f.reads.add(link, Link, Digest([]byte(target)))
	joined := path.Join(path.Dir(link), target)
	if links > maxLinks || path.IsAbs(target) || joined == ".." || strings.HasPrefix(joined, "../") {
		return entry{err: errOutside}
	}
	return f.resolve(joined, links)
}

// cause drops the path of the machine from an error.
func cause(err error) error {
	var located *fs.PathError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fs.ErrNotExist
	case errors.As(err, &located):
		return located.Err
	}
	return err
}

// ReadFile returns a file's content.
func (f *FS) ReadFile(name string) ([]byte, error) {
	if f.scratch.holds(name) {
		return f.scratch.disk.ReadFile(name)
	}
	if content, over := f.laidOver(name); over {
		return content, nil
	}
	found, err := f.lookup("open", name)
	if err != nil {
		return nil, err
	}
	if !found.info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is a directory")}
	}
	if found.info.Size() > f.limits.FileBytes {
		return nil, f.exceed(name, fail.New(fail.LimitExceeded, "%s has more than %d bytes", Clean(name), f.limits.FileBytes))
	}
	if err := f.spend(found.info.Size()); err != nil {
		return nil, err
	}
	content, err := f.root.ReadFile(found.path)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: cause(err)}
	}
	f.reads.add(found.path, File, Digest(content))
	if err := f.check(name, content); err != nil {
		return nil, f.exceed(name, err)
	}
	return content, nil
}

// check measures a file before kustomize parses it, and with a kustomization also
// the patches written into it.
func (f *FS) check(name string, content []byte) error {
	if err := f.limits.CheckYAML(content); err != nil {
		return err
	}
	if slices.Contains(konfig.RecognizedKustomizationFileNames(), path.Base(name)) {
		return f.limits.CheckInline(content)
	}
	return nil
}

func (f *FS) exceed(name string, err error) error {
	if f.broken == nil {
		f.broken = fail.From(err, fail.LimitExceeded).In(Clean(name))
	}
	return f.broken
}

func (f *FS) laidOver(name string) ([]byte, bool) {
	rel, err := relative(name)
	if err != nil {
		return nil, false
	}
	content, over := f.overlay[rel]
	return content, over
}

// Exists tells whether a file or folder is there.
func (f *FS) Exists(name string) bool {
	if f.scratch.holds(name) {
		return f.scratch.disk.Exists(name)
	}
	if _, over := f.laidOver(name); over {
		return true
	}
	_, err := f.lookup("stat", name)
	return err == nil
}

// IsDir tells whether a folder is there.
func (f *FS) IsDir(name string) bool {
	if f.scratch.holds(name) {
		return f.scratch.disk.IsDir(name)
	}
	if _, over := f.laidOver(name); over {
		return false
	}
	found, err := f.lookup("stat", name)
	return err == nil && found.info.IsDir()
}

// ReadDir lists a folder.
func (f *FS) ReadDir(name string) ([]string, error) {
	if f.scratch.holds(name) {
		return f.scratch.disk.ReadDir(name)
	}
	infos, _, err := f.list(name)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(infos))
	for i, info := range infos {
		names[i] = info.Name()
	}
	return names, nil
}

// list returns the entries of a folder in order of name.
func (f *FS) list(name string) ([]fs.DirEntry, string, error) {
	found, err := f.lookup("open", name)
	if err != nil {
		return nil, "", err
	}
	opened, err := f.root.Open(found.path)
	if err != nil {
		return nil, "", &fs.PathError{Op: "open", Path: name, Err: cause(err)}
	}
	defer func() { _ = opened.Close() }()
	entries, err := opened.ReadDir(-1)
	if err != nil {
		return nil, "", &fs.PathError{Op: "readdir", Path: name, Err: cause(err)}
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	f.reads.add(found.path, Dir, listingDigest(marked(entries)))
	return entries, found.path, nil
}

// marked tells folders and links from files: a file that becomes a folder of the
// same name changes the listing.
func marked(entries []fs.DirEntry) []string {
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
		switch {
		case entry.IsDir():
			names[i] += "/"
		case entry.Type()&fs.ModeSymlink != 0:
			names[i] += "@"
		}
	}
	return names
}

// CleanedAbs splits a path into its folder and, if it is none itself, its file.
func (f *FS) CleanedAbs(name string) (filesys.ConfirmedDir, string, error) {
	if f.scratch.holds(name) {
		return f.scratch.disk.CleanedAbs(name)
	}
	if rel, err := relative(name); err == nil {
		if _, over := f.overlay[rel]; over {
			return filesys.ConfirmedDir(path.Dir(path.Clean(name))), path.Base(rel), nil
		}
	}
	found, err := f.lookup("lstat", name)
	if err != nil {
		return "", "", fmt.Errorf("no such file or directory: '%s': %w", name, err)
	}
	full := path.Join(Mount, found.path)
	if found.info.IsDir() {
		return filesys.ConfirmedDir(full), "", nil
	}
	return filesys.ConfirmedDir(path.Dir(full)), path.Base(full), nil
}

// Glob matches in one folder or several, as filepath.Glob does.
func (f *FS) Glob(pattern string) ([]string, error) {
	if f.scratch.holds(pattern) {
		return f.scratch.disk.Glob(pattern)
	}
	if !strings.ContainsAny(pattern, `*?[\`) {
		if f.Exists(pattern) {
			return []string{pattern}, nil
		}
		return nil, nil
	}
	folders, err := f.Glob(path.Dir(pattern))
	if err != nil {
		return nil, err
	}
	var matches []string
	for _, folder := range folders {
		names, err := f.ReadDir(folder)
		if err != nil {
			continue
		}
		for _, name := range names {
			matched, err := path.Match(path.Base(pattern), name)
			if err != nil {
				return nil, err
			}
			if matched {
				matches = append(matches, path.Join(folder, name))
			}
		}
	}
	return matches, f.broken
}

// Walk visits a folder in lexical order and follows no links.
func (f *FS) Walk(name string, visit filepath.WalkFunc) error {
	found, err := f.lookup("lstat", name)
	if err != nil {
		return visit(name, nil, err)
	}
	err = f.walk(name, found.info, visit)
	if errors.Is(err, filepath.SkipDir) || errors.Is(err, filepath.SkipAll) {
		return nil
	}
	return err
}

func (f *FS) walk(name string, info fs.FileInfo, visit filepath.WalkFunc) error {
	if err := visit(name, info, nil); err != nil {
		if info.IsDir() && errors.Is(err, filepath.SkipDir) {
			return nil
		}
		return err
	}
	if !info.IsDir() {
		return nil
	}
	entries, _, err := f.list(name)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return &fs.PathError{Op: "lstat", Path: path.Join(name, entry.Name()), Err: cause(err)}
		}
		if err := f.walk(path.Join(name, entry.Name()), info, visit); err != nil {
			if errors.Is(err, filepath.SkipDir) {
				break
			}
			return err
		}
	}
	return nil
}

// Open is not offered: kustomize reads whole files.
func (f *FS) Open(string) (filesys.File, error) { return nil, errReadOnly }

// Create fails: the tree is shared and never written.
func (f *FS) Create(string) (filesys.File, error) { return nil, errReadOnly }

// Mkdir fails.
func (f *FS) Mkdir(string) error { return errReadOnly }

// MkdirAll fails.
func (f *FS) MkdirAll(string) error { return errReadOnly }

// WriteFile fails.
func (f *FS) WriteFile(string, []byte) error { return errReadOnly }

// RemoveAll removes clones of remote bases only.
func (f *FS) RemoveAll(name string) error {
	if f.scratch.holds(name) {
		return f.scratch.disk.RemoveAll(name)
	}
	return errReadOnly
}
