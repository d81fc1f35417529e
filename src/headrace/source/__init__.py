"""Where content comes from: each package fetches one kind of source and leaves a Tree of files."""
