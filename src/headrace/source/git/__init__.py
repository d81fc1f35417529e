"""Git repositories: asked over HTTP for their refs, fetched by the git program in a sandbox, written by core.unpack.

`remotes` is the entrance; `transport` is the border behind which HTTP ends and other ways to a server fit in.
"""
