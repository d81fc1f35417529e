package confined

import (
	"path"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// scratch is the folder of the disk into which kustomize clones remote bases.
type scratch struct {
	folder string
	disk   filesys.FileSystem
	used   bool
}

// AllowScratch lets the build read what it cloned into the folder.
func (f *FS) AllowScratch(folder string) {
	f.scratch = &scratch{folder: folder, disk: filesys.MakeFsOnDisk()}
}

// UsedScratch tells whether a remote base was read.
func (f *FS) UsedScratch() bool { return f.scratch != nil && f.scratch.used }

// holds checks the path with its links resolved: a cloned repository may bring
// links that lead anywhere.
func (s *scratch) holds(name string) bool {
	if s == nil || !s.contains(path.Clean(name)) {
		return false
	}
	if s.disk.Exists(name) {
		dir, file, err := s.disk.CleanedAbs(name)
		if err != nil || !s.contains(path.Join(string(dir), file)) {
			return false
		}
	}
	s.used = true
	return true
}

func (s *scratch) contains(name string) bool { return strings.HasPrefix(name, s.folder+"/") }
