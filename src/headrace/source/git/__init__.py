"""Git repositories: asked for their refs over HTTP or SSH, fetched by the git program, written by core.unpack.

`remotes` is the entrance; `transport` is the border behind which the ways to a server end.
"""
