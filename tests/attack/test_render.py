"""What a build must not be made to do: read outside of its source, reach the network, run a program, last or grow for
ever, change the builds of others. Builds are those of the real toolbox."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from headrace.cli.options import kustomization_options
from headrace.settings import Settings, TenancySettings
from headrace.toolbox import BuildRequest, Built, Toolbox, ToolboxError
from headrace.toolbox.binary import ToolboxMissing, find_toolbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARK = "outside-of-the-source"
HEAD = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def toolbox() -> AsyncIterator[Toolbox]:
    try:
        binary = find_toolbox()
    except ToolboxMissing as missing:
        pytest.skip(str(missing))
    async with Toolbox(binary, size=1) as pool:
        yield pool


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


async def refused(toolbox: Toolbox, root: Path, path: str = "", *, allow_remote: bool = False) -> ToolboxError:
    with pytest.raises(ToolboxError) as caught:
        await toolbox.build(BuildRequest(root=str(root), path=path, allow_remote=allow_remote), timeout=60)
    await works(toolbox, root.parent / "harmless")
    return caught.value


async def works(toolbox: Toolbox, root: Path) -> Built:
    """The next build is none the worse."""
    built = await toolbox.build(BuildRequest(root=str(write(root, {"a.yaml": MAP}))), timeout=60)
    assert [one.name for one in built.objects] == ["a"]
    return built


# -- texts that are made to be read for ever ----------------------------------------------------------------------

ALIASES = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True))
TEXTS: list[Any] = [
    pytest.param(MAP + ALIASES, "LimitExceeded", id="alias bomb"),
    pytest.param("a: " + "[" * 100_000 + "]" * 100_000, "LimitExceeded", id="100 000 levels"),
    pytest.param("".join(f"{' ' * n}a:\n" for n in range(2000)), "LimitExceeded", id="2000 levels by indentation"),
    pytest.param(MAP + "data: {k: a}\ndata: {k: b}\n", "", id="a key twice"),
    pytest.param(MAP + "data: {k: '" + "x" * (33 << 20) + "'}\n", "LimitExceeded", id="a document of 33 MiB"),
]


@pytest.mark.spec("SEC-06")
@pytest.mark.parametrize(("text", "code"), TEXTS)
async def test_a_text_that_is_made_to_do_harm_is_refused(
    toolbox: Toolbox, tmp_path: Path, text: str, code: str
) -> None:
    root = write(tmp_path / "tree", {"found/bad.yaml": text, "listed/bad.yaml": text,
                                     "listed/kustomization.yaml": HEAD + "resources: [bad.yaml]\n"})
    for path in ("found", "listed"):
        assert code in ("", (await refused(toolbox, root, path)).code)


@pytest.mark.spec("SEC-06")
async def test_a_tag_makes_no_object_of_any_language(toolbox: Toolbox, tmp_path: Path) -> None:
    text = MAP + f"data: {{k: !!python/object/apply:os.system ['touch {tmp_path}/ran']}}\n"
    built = await toolbox.build(BuildRequest(root=str(write(tmp_path / "tree", {"a.yaml": text}))))
    assert json.loads(built.body)["data"] == {"k": [f"touch {tmp_path}/ran"]}
    assert not (tmp_path / "ran").exists()


# -- fields that name files ----------------------------------------------------------------------------------------

FIELDS = [
    "resources: [{}]", "components: [{}]", "crds: [{}]", "configurations: [{}]", "generators: [{}]",
    "transformers: [{}]", "validators: [{}]", "openapi: {{path: {}}}", "patches: [{{path: {}}}]",
    "patchesStrategicMerge: [{}]", "patchesJson6902: [{{path: {}, target: {{version: v1, kind: ConfigMap, name: a}}}}]",
    "replacements: [{{path: {}}}]", "configMapGenerator: [{{name: g, files: [{}]}}]",
    "configMapGenerator: [{{name: g, files: ['k={}']}}]", "configMapGenerator: [{{name: g, envs: [{}]}}]",
    "secretGenerator: [{{name: g, files: [{}]}}]", "secretGenerator: [{{name: g, env: {}}}]",
]


@pytest.mark.spec("SEC-12", "KS-GEN-15")
@pytest.mark.parametrize("field", FIELDS)
async def test_no_field_reads_outside_of_the_source(toolbox: Toolbox, tmp_path: Path, field: str) -> None:
    outside = write(tmp_path / "outside", {"secret": MAP + f"data: {{k: {MARK}}}\n"}) / "secret"
    root = write(tmp_path / "tree", {"app/a.yaml": MAP})
    (root / "app" / "link").symlink_to(outside)
    for name in ("../../outside/secret", "../" * 12 + str(outside)[1:], str(outside), "link"):
        listed = "" if field.startswith("resources") else "resources: [a.yaml]\n"
        write(root, {"app/kustomization.yaml": HEAD + listed + field.format(name) + "\n"})
        error = await refused(toolbox, root, "app")
        assert error.code == "BuildFailed"
        assert MARK not in error.message


# -- programs and the network --------------------------------------------------------------------------------------

PROGRAMS = {
    "an exec function": ("generators: [p.yaml]\n", "exec: {path: ./run.sh}"),
    "a container function": ("transformers: [p.yaml]\n", "container: {image: example.invalid/x, network: true}"),
    "a starlark function": ("generators: [p.yaml]\n", "starlark: {path: ./run.star, name: x}"),
}


@pytest.mark.spec("SEC-13")
@pytest.mark.parametrize("what", PROGRAMS)
async def test_no_program_of_the_source_runs(toolbox: Toolbox, tmp_path: Path, what: str) -> None:
    field, function = PROGRAMS[what]
    plugin = ("apiVersion: example.com/v1\nkind: Plugin\nmetadata:\n  name: p\n  annotations:\n"
              f"    config.kubernetes.io/function: '{function}'\n")
    script = f"#!/bin/sh\ntouch {tmp_path}/ran\n"
    root = write(tmp_path / "tree", {
        "kustomization.yaml": HEAD + "resources: [a.yaml]\n" + field, "a.yaml": MAP, "p.yaml": plugin,
        "run.sh": script, "run.star": "def f(): pass\n", "example.com/v1/plugin/Plugin": script})
    (root / "run.sh").chmod(0o755)
    assert (await refused(toolbox, root)).code == "BuildFailed"
    assert not (tmp_path / "ran").exists()


@pytest.mark.spec("SEC-13")
async def test_charts_and_remote_bases_are_refused(toolbox: Toolbox, tmp_path: Path) -> None:
    charts = "helmCharts: [{name: x, repo: 'https://example.invalid', version: '1'}]\n"
    error = await refused(toolbox, write(tmp_path / "charts", {"kustomization.yaml": HEAD + charts}), allow_remote=True)
    assert error.code == "BuildFailed"
    for base in ("https://example.invalid/a.yaml", "git::https://example.invalid/org/x.git", "ssh://git@x.invalid/y.git"):
        root = write(tmp_path / "base", {"kustomization.yaml": HEAD + f"resources: ['{base}']\n"})
        assert "remote bases are" in (await refused(toolbox, root)).message


@pytest.mark.spec("SEC-13")
@pytest.mark.parametrize(("tenancy", "refuses"), [("strict", True), ("flux", False)])
async def test_strict_tenancy_refuses_remote_bases(tenancy: str, refuses: bool) -> None:
    settings = Settings(tenancy=TenancySettings(tenancy=tenancy))
    assert kustomization_options(settings).no_remote_bases is refuses


# -- endless builds, and what a build leaves behind ----------------------------------------------------------------


@pytest.mark.spec("SEC-14")
async def test_bases_in_a_circle_and_bases_that_double_come_to_an_end(toolbox: Toolbox, tmp_path: Path) -> None:
    circle = write(tmp_path / "circle", {
        "a/kustomization.yaml": HEAD + "resources: [../b]\n", "b/kustomization.yaml": HEAD + "resources: [../a]\n"})
    assert "cycle detected" in (await refused(toolbox, circle, "a")).message
    levels = {f"d{n}/kustomization.yaml": HEAD + f"resources: [../x{n + 1}, ../y{n + 1}]\n" for n in range(40)}
    doubled = {f"{side}{n}/kustomization.yaml": HEAD + f"resources: [../d{n}]\nnamePrefix: {side}-\n"
               for n in range(1, 41) for side in "xy"}
    leaf = {"d40/kustomization.yaml": HEAD + "resources: [a.yaml]\n", "d40/a.yaml": MAP}
    root = write(tmp_path / "doubling", levels | doubled | leaf)
    with pytest.raises(ToolboxError) as caught:
        await toolbox.build(BuildRequest(root=str(root), path="d0"), timeout=2)
    assert caught.value.code in ("Timeout", "LimitExceeded")
    await works(toolbox, tmp_path / "harmless")


@pytest.mark.spec("SEC-14")
async def test_a_hundred_thousand_patches_end_in_time_and_hold_nobody_up(toolbox: Toolbox, tmp_path: Path) -> None:
    patch = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}})
    patches = "patches:\n" + f"- patch: '{patch}'\n" * 100_000
    root = write(tmp_path / "many", {"kustomization.yaml": HEAD + "resources: [a.yaml]\n" + patches, "a.yaml": MAP})
    with pytest.raises(ToolboxError):
        await toolbox.build(BuildRequest(root=str(root)), timeout=2)
    await works(toolbox, tmp_path / "harmless")


@pytest.mark.spec("SEC-14")
async def test_a_schema_for_all_kinds_changes_no_other_build(toolbox: Toolbox, tmp_path: Path) -> None:
    """The schema says that ConfigMaps have no namespace, and that everything may be merged."""
    schema = {"definitions": {"io.k8s.api.core.v1.ConfigMap": {
        "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "ConfigMap"}], "properties": {}}},
        "paths": {"/api/v1/configmaps/{name}": {"get": {
            "x-kubernetes-action": "get",
            "x-kubernetes-group-version-kind": {"group": "", "version": "v1", "kind": "ConfigMap"}}}}}
    evil = write(tmp_path / "evil", {
        "kustomization.yaml": HEAD + "resources: [a.yaml]\nnamespace: x\nopenapi: {path: s.json}\n", "a.yaml": MAP,
        "s.json": json.dumps(schema)})
    good = write(tmp_path / "good", {
        "kustomization.yaml": HEAD + "resources: [a.yaml]\nnamespace: x\n", "a.yaml": MAP})
    before = await toolbox.build(BuildRequest(root=str(good)))
    await toolbox.build(BuildRequest(root=str(evil)))
    after = await toolbox.build(BuildRequest(root=str(good)))
    assert [(one.namespace, one.digest) for one in after.objects] == [(o.namespace, o.digest) for o in before.objects]
    assert after.objects[0].namespace == "x"
