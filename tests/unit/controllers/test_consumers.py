from __future__ import annotations

import hashlib
from pathlib import Path

from headrace.controllers.consumers import Consumers
from headrace.model.artifact import Tree
from headrace.model.manifests import FileRead
from headrace.model.reference import Reference

ONE, OTHER, NEW = (Reference("kustomize.toolkit.fluxcd.io", "Kustomization", "apps", name) for name in ("a", "b", "c"))


def read(path: str, content: str) -> FileRead:
    return FileRead(path=path, kind="file", digest=f"sha256:{hashlib.sha256(content.encode()).hexdigest()}")


async def test_only_those_who_read_what_is_still_there_are_not_concerned(tmp_path: Path) -> None:
    consumers = Consumers()
    consumers.delivered(ONE, (read("a.yaml", "one"),))
    consumers.delivered(OTHER, (read("b.yaml", "before"),))
    (tmp_path / "a.yaml").write_text("one")
    (tmp_path / "b.yaml").write_text("after")
    tree = Tree(tmp_path, "sha256:x")
    assert await consumers.unconcerned((ONE, OTHER, NEW), tree) == {ONE}
    consumers.forget(ONE)
    assert await consumers.unconcerned((ONE, OTHER, NEW), tree) == frozenset()
