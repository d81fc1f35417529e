"""Git repositories made with the real git."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bench import workload
from bench.repository import Repository, git


async def test_a_pushed_commit_is_the_head_of_the_bare_repository(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "served", "apps", tmp_path / "work")
    await repository.create()
    repository.write("apps/app-000", workload.app_objects("app-000", "bench"))
    revision = await repository.commit("first")
    await repository.push()
    head = await git("rev-parse", "main", cwd=repository.bare)
    assert revision == f"main@sha1:{head.strip()}"


async def test_a_changed_image_changes_one_file(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "served", "apps", tmp_path / "work")
    await repository.create()
    for name in ("app-000", "app-001"):
        repository.write(f"apps/{name}", workload.app_objects(name, "bench"))
    await repository.commit("first")
    repository.write("apps/app-001", workload.app_objects("app-001", "bench", "registry.example.com/app:2"))
    await repository.commit("second")
    changed = await git("diff", "--name-only", "HEAD~1", cwd=repository.work)
    assert changed.split() == ["apps/app-001/deployment.yaml"]


async def test_the_kustomization_file_names_every_object(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "served", "apps", tmp_path / "work")
    repository.write("apps/x", workload.app_objects("x", "bench"))
    directory = repository.work / "apps" / "x"
    content = yaml.safe_load((directory / "kustomization.yaml").read_text())
    assert content["resources"] == ["serviceaccount.yaml", "service.yaml", "deployment.yaml", "ingress.yaml"]
    assert all((directory / name).exists() for name in content["resources"])


async def test_a_failing_git_says_what_failed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"git rev-parse: .*not a git repository"):
        await git("rev-parse", "HEAD", cwd=tmp_path)
