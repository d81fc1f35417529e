from __future__ import annotations

import hashlib
from pathlib import Path

from headrace.controllers.consumers import Consumers, with_parents
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


def test_a_change_concerns_who_read_the_path_or_listed_a_directory_above_it() -> None:
    consumers = Consumers()
    consumers.delivered(ONE, (read("apps/one/a.yaml", "1"), FileRead(path="apps/one", kind="dir", digest="sha256:x")))
    consumers.delivered(OTHER, (read("apps/other/b.yaml", "1"),))
    touched = with_parents({"apps/one/new.yaml"})
    assert consumers.may_concern((ONE,), touched)
    assert not consumers.may_concern((OTHER,), touched)
    assert consumers.may_concern((OTHER, NEW), touched)
