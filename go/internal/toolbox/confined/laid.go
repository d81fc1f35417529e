package confined

import (
	"errors"
	"io/fs"
)

var errIrregular = errors.New("it is no regular file")

// Regular gives the size of a regular file inside the folder.
func (f *FS) Regular(name string) (int64, error) {
	found, err := f.lookup("lstat", name)
	if err != nil {
		return 0, err
	}
	if !found.info.Mode().IsRegular() {
		return 0, &fs.PathError{Op: "lstat", Path: name, Err: errIrregular}
	}
	return found.info.Size(), nil
}

// OverlayChecked lays content that has come from elsewhere over a file, by the name
// it was asked for and by the name that its links lead to, within the limits of
// every file.
func (f *FS) OverlayChecked(name string, content []byte) error {
	if err := f.check(name, content); err != nil {
		return f.exceed(name, err)
	}
	rel, err := relative(name)
	if err != nil {
		return err
	}
	f.Overlay(rel, content)
	if found, err := f.lookup("lstat", name); err == nil {
		f.Overlay(found.path, content)
	}
	return nil
}
