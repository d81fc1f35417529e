package confined

import (
	"crypto/sha256"
	"encoding/hex"
	"sort"
	"strings"
)

// Kinds of reads.
const (
	File   = "file"
	Dir    = "dir"
	Link   = "link"
	Absent = "absent"
)

// Read is one fact about the tree that a build used. An empty digest means that
// only the kind was asked for. Otherwise it is the SHA-256 of a file's content,
// of a link's target, or of a listing: the sorted names, each with "/" behind a
// folder and "@" behind a link, joined by newlines.
type Read struct {
	Path   string `json:"path"`
	Kind   string `json:"kind"`
	Digest string `json:"digest"`
}

// recorder keeps one read for each path, the one that tells most.
type recorder map[string]Read

func (r recorder) add(path, kind, digest string) {
	if path == "." {
		path = ""
	}
	if known, found := r[path]; found && known.Digest != "" {
		return
	}
	r[path] = Read{Path: path, Kind: kind, Digest: digest}
}

func (r recorder) sorted() []Read {
	reads := make([]Read, 0, len(r))
	for _, read := range r {
		reads = append(reads, read)
	}
	sort.Slice(reads, func(i, j int) bool { return reads[i].Path < reads[j].Path })
	return reads
}

// Digest is how digests are written everywhere.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func listingDigest(names []string) string {
	sort.Strings(names)
	return Digest([]byte(strings.Join(names, "\n")))
}
