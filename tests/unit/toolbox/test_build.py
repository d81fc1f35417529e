"""Builds as Flux's kustomize-controller makes them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from headrace.model.manifests import FileRead
from headrace.toolbox import (
    BuildRequest,
    BuildSpec,
    Built,
    CommonMetadata,
    Image,
    Json6902Patch,
    Limits,
    Patch,
    Selector,
    Substitute,
    Toolbox,
    ToolboxError,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWNER = {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}


def config_map(name: str, **data: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}) + "\n"


def deployment(name: str, image: str) -> str:
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: main, image: "{image}", ports: [{{containerPort: 80}}]}}]}}
"""


def kustomization(text: str) -> str:
    return "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n" + text


def objects(built: Built) -> list[Any]:
    return [json.loads(built.json(one)) for one in built.objects]


def names(built: Built) -> list[str]:
    return [f"{one.kind}/{one.name}" for one in built.objects]


def read(built: Built, path: str) -> FileRead:
    [found] = [one for one in built.reads if one.path == path]
    return found


def image_of(built: Built) -> str:
    [only] = objects(built)
    return str(only["spec"]["template"]["spec"]["containers"][0]["image"])


async def failure(toolbox: Toolbox, request: BuildRequest) -> ToolboxError:
    with pytest.raises(ToolboxError) as caught:
        await toolbox.build(request)
    return caught.value


# --- finding and generating the kustomization ----------------------------------------------------------------------


@pytest.mark.spec("KS-GEN-01")
async def test_without_a_kustomization_file_all_yaml_below_is_taken(toolbox: Toolbox, tree):
    root = tree({
        "apps/b.yml": config_map("b"), "apps/sub/deep/a.yaml": config_map("a"), "apps/.hidden.yaml": config_map("h"),
        "apps/c.json": config_map("c"), "apps/README.md": "no manifest", "other/d.yaml": config_map("d"),
    })
    built = await toolbox.build(BuildRequest(root=root, path="./apps"))
    assert sorted(names(built)) == ["ConfigMap/a", "ConfigMap/b", "ConfigMap/h"]
    assert {one.name: one.file for one in built.objects} == {
        "a": "apps/sub/deep/a.yaml", "b": "apps/b.yml", "h": "apps/.hidden.yaml"}
    assert not (Path(root) / "apps" / "kustomization.yaml").exists()


@pytest.mark.spec("KS-GEN-02")
@pytest.mark.parametrize("file", ["kustomization.yaml", "kustomization.yml", "Kustomization"])
async def test_a_folder_with_a_kustomization_file_is_one_resource(toolbox: Toolbox, tree, file: str):
    root = tree({
        "a.yaml": config_map("a"), "sub/taken.yaml": config_map("taken"), "sub/left.yaml": config_map("left"),
        f"sub/{file}": kustomization("resources: [taken.yaml]\nnamePrefix: sub-\n"),
    })
    assert names(await toolbox.build(BuildRequest(root=root))) == ["ConfigMap/a", "ConfigMap/sub-taken"]


@pytest.mark.spec("KS-GEN-03")
async def test_a_file_that_is_no_manifest_is_named(toolbox: Toolbox, tree):
    root = tree({"apps/a.yaml": config_map("a"), "apps/sub/bad.yaml": "apiVersion: v1\nkind: [\n"})
    error = await failure(toolbox, BuildRequest(root=root, path="apps"))
    assert (error.code, error.file) == ("InvalidYAML", "apps/sub/bad.yaml")
    assert error.message.startswith("failed to decode Kubernetes YAML from apps/sub/bad.yaml: ")


@pytest.mark.spec("KS-GEN-04")
@pytest.mark.parametrize("files", [
    pytest.param({"apps/.keep": ""}, id="empty folder"),
    pytest.param({"apps/kustomization.yaml": kustomization("resources: []\n")}, id="empty kustomization"),
    pytest.param({"apps/kustomization.yaml": ""}, id="empty file"),
])
async def test_nothing_to_build_is_no_error(toolbox: Toolbox, tree, files):
    built = await toolbox.build(BuildRequest(root=tree(files), path="apps"))
    assert (built.objects, built.body) == ((), b"")


@pytest.mark.spec("KS-SRC-08")
@pytest.mark.parametrize("path", ["nowhere", "./a.yaml", "../../../etc"])
async def test_a_path_that_is_no_folder_is_not_found(toolbox: Toolbox, tree, path: str):
    error = await failure(toolbox, BuildRequest(root=tree({"a.yaml": config_map("a")}), path=path))
    assert error.code == "PathNotFound"
    assert error.message == f"kustomization path not found: {path}"


@pytest.mark.spec("KS-SRC-08")
async def test_a_path_cannot_leave_the_source(toolbox: Toolbox, tree):
    root = tree({"apps/a.yaml": config_map("a")})
    assert names(await toolbox.build(BuildRequest(root=root, path="../../apps"))) == ["ConfigMap/a"]


@pytest.mark.spec("KS-GEN-17")
async def test_an_unknown_key_is_tolerated_in_the_root_alone(toolbox: Toolbox, tree):
    root = tree({"base/a.yaml": config_map("a"),
                 "base/kustomization.yaml": kustomization("resources: [a.yaml]\nunknown: 1\n"),
                 "top/kustomization.yaml": kustomization("resources: [../base]\n")})
    assert names(await toolbox.build(BuildRequest(root=root, path="base"))) == ["ConfigMap/a"]
    assert (await failure(toolbox, BuildRequest(root=root, path="top"))).code == "BuildFailed"


async def test_a_kustomization_that_is_no_yaml_is_named(toolbox: Toolbox, tree):
    error = await failure(toolbox, BuildRequest(root=tree({"apps/kustomization.yaml": "a: [\n"}), path="apps"))
    assert (error.code, error.file) == ("InvalidYAML", "apps/kustomization.yaml")


# --- fields of the Kustomization -----------------------------------------------------------------------------------


@pytest.mark.spec("KS-GEN-05")
async def test_patches_come_after_those_of_the_file(toolbox: Toolbox, tree):
    root = tree({
        "a.yaml": config_map("a", x="0") + "---\n" + config_map("b", x="0"),
        "kustomization.yaml": kustomization(
            "resources: [a.yaml]\npatches:\n"
            "- patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: file}}'\n"),
    })
    spec = BuildSpec(patches=[
        Patch(patch="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: spec}"),
        Patch(patch='[{"op": "add", "path": "/data/y", "value": "6902"}]', target=Selector(kind="ConfigMap", name="b")),
    ])
    first, second = objects(await toolbox.build(BuildRequest(root=root, spec=spec)))
    assert first["data"] == {"x": "spec"}
    assert second["data"] == {"x": "0", "y": "6902"}


@pytest.mark.spec("KS-GEN-06")
async def test_several_deletions(toolbox: Toolbox, tree):
    root = tree({"a.yaml": "---\n".join(config_map(name) for name in "abcd")})
    deletion = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {}}}\n$patch: delete\n"
    spec = BuildSpec(patches=[
        Patch(patch=deletion.format("a") + "---\n" + deletion.format("b")), Patch(patch=deletion.format("c"))])
    assert names(await toolbox.build(BuildRequest(root=root, spec=spec))) == ["ConfigMap/d"]


async def test_the_older_fields_for_patches(toolbox: Toolbox, tree):
    spec = BuildSpec(
        patches_strategic_merge=[
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "merged"}}],
        patches_json6902=[Json6902Patch(
            patch=[{"op": "add", "path": "/data/y", "value": "added"}],
            target=Selector(version="v1", kind="ConfigMap", name="a"))],
    )
    [only] = objects(await toolbox.build(BuildRequest(root=tree({"a.yaml": config_map("a", x="0")}), spec=spec)))
    assert only["data"] == {"x": "merged", "y": "added"}


@pytest.mark.parametrize(("entry", "image", "result"), [
    pytest.param("newTag: '1'", Image(name="app", new_name="repo/app"), "repo/app:1", id="newName keeps the tag",
                 marks=pytest.mark.spec("KS-GEN-07")),
    pytest.param("digest: 'sha256:aa'", Image(name="app", new_name="repo/app"), "repo/app@sha256:aa",
                 id="newName keeps the digest", marks=pytest.mark.spec("KS-GEN-07")),
    pytest.param("digest: 'sha256:aa'", Image(name="app", new_tag="2"), "app:2", id="tag clears digest",
                 marks=pytest.mark.spec("KS-GEN-08")),
    pytest.param("newTag: '1'", Image(name="app", digest="sha256:bb"), "app@sha256:bb", id="digest clears tag",
                 marks=pytest.mark.spec("KS-GEN-08")),
])
async def test_images_are_merged_by_name(toolbox: Toolbox, tree, entry: str, image: Image, result: str):
    root = tree({
        "a.yaml": deployment("a", "app:0"),
        "kustomization.yaml": kustomization(f"resources: [a.yaml]\nimages:\n- name: app\n  {entry}\n"),
    })
    assert image_of(await toolbox.build(BuildRequest(root=root, spec=BuildSpec(images=[image])))) == result


@pytest.mark.spec("KS-GEN-09")
@pytest.mark.parametrize("component", [
    "https://example.com/x", "github.com/org/repo", "git@example.com:x", "/absolute", "file:///absolute"])
async def test_a_component_must_be_local_and_relative(toolbox: Toolbox, tree, component: str):
    root = tree({"a.yaml": config_map("a")})
    error = await failure(toolbox, BuildRequest(root=root, spec=BuildSpec(components=[component])))
    assert error.message == f"component path '{component}' must be local and relative"


COMPONENT = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nnameSuffix: -c\n"


@pytest.mark.spec("KS-GEN-10")
async def test_a_missing_component_is_an_error_unless_ignored(toolbox: Toolbox, tree):
    root = tree({"apps/a.yaml": config_map("a"), "apps/kustomization.yaml": kustomization("resources: [a.yaml]\n"),
                 "components/c/kustomization.yaml": COMPONENT})
    components = ["../components/c", "../components/missing"]
    error = await failure(toolbox, BuildRequest(root=root, path="apps", spec=BuildSpec(components=components)))
    assert error.code == "BuildFailed"
    spec = BuildSpec(components=components, ignore_missing_components=True)
    built = await toolbox.build(BuildRequest(root=root, path="apps", spec=spec))
    assert names(built) == ["ConfigMap/a-c"]
    assert read(built, "components/missing").kind == "absent"


@pytest.mark.spec("KS-GEN-11", "KS-GEN-12")
async def test_prefix_suffix_and_namespace_override_the_file(toolbox: Toolbox, tree):
    root = tree({
        "a.yaml": config_map("a") + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: old}\n",
        "kustomization.yaml": kustomization("resources: [a.yaml]\nnamePrefix: f-\nnameSuffix: -f\nnamespace: file\n"),
    })
    spec = BuildSpec(name_prefix="s-", name_suffix="-s", target_namespace="spec")
    built = await toolbox.build(BuildRequest(root=root, spec=spec))
    assert [(one.kind, one.namespace, one.name) for one in built.objects] == [
        ("ConfigMap", "spec", "s-a-s"), ("Namespace", "", "spec")]


@pytest.mark.spec("KS-GEN-13")
async def test_origin_annotations_are_shown_only_when_asked_for(toolbox: Toolbox, tree):
    generator = "configMapGenerator:\n- name: g\n  literals: [a=b]\n"
    root = tree({"plain/a.yaml": config_map("a"), "only/kustomization.yaml": kustomization(generator)})
    [plain] = objects(await toolbox.build(BuildRequest(root=root, path="plain")))
    assert plain["metadata"] == {"name": "a"}
    spec = BuildSpec(build_metadata=["originAnnotations"])
    [asked] = objects(await toolbox.build(BuildRequest(root=root, path="plain", spec=spec)))
    assert asked["metadata"]["annotations"] == {"config.kubernetes.io/origin": "path: a.yaml\n"}
    built = await toolbox.build(BuildRequest(root=root, path="only"))
    assert "config.kubernetes.io/origin" in built.objects[0].annotations
    assert built.objects[0].file == "only/kustomization.yaml"
    spec = BuildSpec(build_metadata=["transformerAnnotations"])
    built = await toolbox.build(BuildRequest(root=root, path="only", spec=spec))
    assert "config.kubernetes.io/origin" not in built.objects[0].annotations


async def test_common_metadata_wins_and_owner_labels_come_last(toolbox: Toolbox, tree):
    root = tree({"a.yaml": config_map("a")})
    spec = BuildSpec(common_metadata=CommonMetadata(labels={"team": "x"}, annotations={"note": "y"}))
    built = await toolbox.build(BuildRequest(root=root, spec=spec, labels=OWNER))
    assert built.objects[0].labels == {"team": "x", **OWNER}
    assert built.objects[0].annotations == {"note": "y"}
    spec = BuildSpec(common_metadata=CommonMetadata(labels=dict(OWNER)))
    assert (await failure(toolbox, BuildRequest(root=root, spec=spec, labels=OWNER))).code == "BuildFailed"


# --- what a build may reach ----------------------------------------------------------------------------------------


@pytest.mark.spec("KS-GEN-14")
async def test_a_base_outside_the_path_is_loaded(toolbox: Toolbox, tree):
    root = tree({"base/a.yaml": config_map("a"), "base/kustomization.yaml": kustomization("resources: [a.yaml]\n"),
                 "apps/kustomization.yaml": kustomization("resources: [../base]\n")})
    built = await toolbox.build(BuildRequest(root=root, path="apps"))
    assert [one.file for one in built.objects] == ["base/a.yaml"]


@pytest.mark.spec("KS-GEN-15")
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("way", ["parent", "absolute", "link", "absolute link", "folder link"])
async def test_nothing_outside_the_source_is_read(toolbox: Toolbox, tree, tmp_path: Path, way: str, exists: bool):
    root = Path(tree({"apps/kustomization.yaml": ""}))
    outside = tmp_path / "outside"
    if exists:
        outside.mkdir()
        (outside / "secret.yaml").write_text(config_map("secret"))
    resource = {
        "parent": "../../outside/secret.yaml", "absolute": str(outside / "secret.yaml"), "link": "link.yaml",
        "absolute link": "link.yaml", "folder link": "folder/secret.yaml",
    }[way]
    if way == "link":
        (root / "apps" / "link.yaml").symlink_to("../../outside/secret.yaml")
    elif way == "absolute link":
        (root / "apps" / "link.yaml").symlink_to(outside / "secret.yaml")
    elif way == "folder link":
        (root / "apps" / "folder").symlink_to("../../outside")
    (root / "apps" / "kustomization.yaml").write_text(kustomization(f"resources: [{resource}]\n"))
    error = await failure(toolbox, BuildRequest(root=str(root), path="apps"))
    assert error.code == "BuildFailed"
    assert "outside of the source" in error.message
    assert str(root) not in error.message


async def test_links_within_the_source_are_followed_and_recorded(toolbox: Toolbox, tree):
    root = tree({"real/a.yaml": config_map("a"), "apps/kustomization.yaml": kustomization("resources: [l.yaml]\n")})
    (Path(root) / "apps" / "l.yaml").symlink_to("../real/a.yaml")
    built = await toolbox.build(BuildRequest(root=root, path="apps"))
    assert names(built) == ["ConfigMap/a"]
    assert read(built, "apps/l.yaml").kind == "link"
    assert read(built, "real/a.yaml").kind == "file"


@pytest.mark.spec("KS-GEN-16")
@pytest.mark.parametrize("field", [
    "resources: ['https://example.invalid/a.yaml']", "resources: ['github.com/org/repo//dir?ref=v1']",
    "resources: ['git::https://example.invalid/org/x.git']", "components: ['https://example.invalid/repo.git']",
    "crds: ['https://example.invalid/crd.yaml']", "patches: [{path: 'https://example.invalid/p.yaml'}]",
    "configMapGenerator: [{name: g, files: ['x=https://example.invalid/f']}]",
    "openapi: {path: 'http://example.invalid/schema.json'}", "transformers: ['http://example.invalid/t.yaml']",
    "configurations: ['http://example.invalid/c.yaml']", "replacements: [{path: 'http://example.invalid/r.yaml'}]",
])
async def test_nothing_remote_is_loaded(toolbox: Toolbox, tree, field: str):
    root = tree({"kustomization.yaml": kustomization(field + "\n"), "base/a.yaml": config_map("a")})
    error = await failure(toolbox, BuildRequest(root=root))
    assert error.code == "BuildFailed"
    assert "remote bases are" in error.message
    allowed = await failure(toolbox, BuildRequest(root=root, allow_remote=True))
    assert allowed.code == "NeedsNetwork"


@pytest.mark.spec("KS-GEN-18")
async def test_a_schema_of_one_build_is_unknown_to_the_next(toolbox: Toolbox, tree):
    """With the schema the list of a custom resource is merged by name, without it is replaced."""
    schema = {"definitions": {"v1.Custom": {
        "x-kubernetes-group-version-kind": [{"group": "example.com", "version": "v1", "kind": "Custom"}],
        "properties": {"spec": {"properties": {"items": {
            "type": "array", "x-kubernetes-patch-merge-key": "name", "x-kubernetes-patch-strategy": "merge",
            "items": {"properties": {"name": {"type": "string"}}},
        }}}},
    }}}
    custom = "apiVersion: example.com/v1\nkind: Custom\nmetadata: {{name: a}}\nspec: {{items: [{{name: {}}}]}}\n"
    shared = {"a.yaml": custom.format("one"), "p.yaml": custom.format("two")}
    fields = "resources: [a.yaml]\npatches: [{path: p.yaml}]\n"
    root = tree({
        **{f"with/{name}": text for name, text in shared.items()},
        "with/schema.json": json.dumps(schema),
        "with/kustomization.yaml": kustomization(fields + "openapi: {path: schema.json}\n"),
        **{f"without/{name}": text for name, text in shared.items()},
        "without/kustomization.yaml": kustomization(fields),
    })
    for _ in range(2):
        [merged] = objects(await toolbox.build(BuildRequest(root=root, path="with")))
        [replaced] = objects(await toolbox.build(BuildRequest(root=root, path="without")))
        assert {item["name"] for item in merged["spec"]["items"]} == {"one", "two"}
        assert [item["name"] for item in replaced["spec"]["items"]] == ["two"]
    assert image_of(await toolbox.build(BuildRequest(root=tree({"d/d.yaml": deployment("d", "x")}), path="d"))) == "x"


@pytest.mark.spec("KS-GEN-19")
@pytest.mark.parametrize("text", [
    "kind: ConfigMap\nmetadata: {name: a}\n", "apiVersion: v1\nmetadata: {name: a}\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n",
])
async def test_an_object_needs_version_kind_and_name(toolbox: Toolbox, tree, text: str):
    error = await failure(toolbox, BuildRequest(root=tree({"a.yaml": text})))
    assert error.code in ("BuildFailed", "InvalidYAML")
    assert error.file == "a.yaml"


async def test_lists_are_expanded_and_kustomize_configuration_is_dropped(toolbox: Toolbox, tree):
    listed = {"apiVersion": "v1", "kind": "List", "items": [json.loads(config_map(name)) for name in "ab"]}
    config = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nmetadata: {name: inner}\n"
    built = await toolbox.build(BuildRequest(root=tree({"a.yaml": json.dumps(listed), "k.yaml": config}), labels=OWNER))
    assert names(built) == ["ConfigMap/a", "ConfigMap/b"]
    assert all(one.labels == OWNER for one in built.objects)


@pytest.mark.spec("KS-SOPS-10")
@pytest.mark.parametrize("field", ["data", "stringData"])
async def test_an_encrypted_secret_is_refused(toolbox: Toolbox, tree, field: str):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, field: {"a": "RU5D"}, "sops": {}}
    error = await failure(toolbox, BuildRequest(root=tree({"s.yaml": json.dumps(secret)})))
    assert (error.code, error.file, error.object) == ("BuildFailed", "s.yaml", "Secret/s")
    assert "configuring decryption is required" in error.message


# --- normalisation -------------------------------------------------------------------------------------------------


@pytest.mark.spec("KS-APPLY-17", "KS-APPLY-18", "KS-APPLY-19")
async def test_built_in_kinds_take_the_form_of_the_api_server(toolbox: Toolbox, tree):
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {x: hi}\nunknown: 1\n"
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: v}\nspec: {ports: [{port: 80}]}\nstatus: {a: b}\n"
    root = tree({"a.yaml": secret + "---\n" + service + "---\n" + deployment("d", "x")})
    by_kind = {one["kind"]: one for one in objects(await toolbox.build(BuildRequest(root=root)))}
    assert by_kind["Secret"] == {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"x": "aGk="}}
    assert by_kind["Service"]["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 0}]
    assert "status" not in by_kind["Service"]
    containers = by_kind["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert containers[0]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    raw = await toolbox.build(BuildRequest(root=root, normalize=False))
    assert {"x": "hi"} in [one.get("stringData") for one in objects(raw)]


@pytest.mark.spec("KS-APPLY-20")
@pytest.mark.parametrize(("bundle", "kept"), [("Cg==", False), ("not base64", False)])
async def test_a_placeholder_for_certificates_is_removed(toolbox: Toolbox, tree, bundle: str, kept: bool):
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "x.example.com"},
        "spec": {"conversion": {"strategy": "Webhook", "webhook": {"clientConfig": {"caBundle": bundle}}}},
        "status": {"storedVersions": ["v1"]},
    }
    [only] = objects(await toolbox.build(BuildRequest(root=tree({"c.yaml": json.dumps(crd)}))))
    assert ("caBundle" in only["spec"]["conversion"]["webhook"]["clientConfig"]) is kept
    assert "status" in only


# --- substitution --------------------------------------------------------------------------------------------------


async def substituted(toolbox: Toolbox, tree, text: str, **variables: str) -> Any:
    root = tree({"a.yaml": f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  x: {text}\n"})
    [only] = objects(await toolbox.build(
        BuildRequest(root=root, substitute=Substitute(variables=variables, always=True), normalize=False)))
    return only["data"]["x"]


@pytest.mark.spec("KS-SUB-10")
@pytest.mark.parametrize(("text", "value"), [
    pytest.param('"${id}"', 123, id="quotes are lost"),
    pytest.param("${q}${id}${q}", "123", id="quotes as a variable"),
    pytest.param("${s}", "123", id="!!str in the value"),
])
async def test_types_after_substitution(toolbox: Toolbox, tree, text: str, value: object):
    assert await substituted(toolbox, tree, text, id="123", q='"', s="!!str 123") == value


@pytest.mark.spec("KS-SUB-05")
async def test_an_empty_variable_gives_null(toolbox: Toolbox, tree):
    assert await substituted(toolbox, tree, "${empty}", empty="") is None


@pytest.mark.spec("KS-SUB-02", "KS-SUB-11")
async def test_newlines_and_escapes(toolbox: Toolbox, tree):
    assert await substituted(toolbox, tree, "a${v}b", v="1\n2\n") == "a12b"
    assert await substituted(toolbox, tree, "'$${v} \\?'", v="1") == "${v} \\?"


@pytest.mark.spec("KS-SUB-08")
@pytest.mark.parametrize(("metadata", "value"), [
    pytest.param({"labels": {"kustomize.toolkit.fluxcd.io/substitute": "disabled"}}, "${v}", id="label"),
    pytest.param({"annotations": {"kustomize.toolkit.fluxcd.io/substitute": "disabled"}}, "${v}", id="annotation"),
    pytest.param({"annotations": {"kustomize.toolkit.fluxcd.io/substitute": "Disabled"}}, "w", id="other case"),
])
async def test_opting_out_of_substitution(toolbox: Toolbox, tree, metadata: dict[str, Any], value: str):
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", **metadata}, "data": {"x": "${v}"}}
    root = tree({"a.yaml": json.dumps(made)})
    built = await toolbox.build(BuildRequest(root=root, substitute=Substitute(variables={"v": "w"})))
    assert objects(built)[0]["data"] == {"x": value}


@pytest.mark.spec("KS-SUB-07")
async def test_without_variables_only_always_substitutes(toolbox: Toolbox, tree):
    root = tree({"a.yaml": config_map("a", x="${v:=d}")})
    [left] = objects(await toolbox.build(BuildRequest(root=root, substitute=Substitute())))
    assert left["data"] == {"x": "${v:=d}"}
    [done] = objects(await toolbox.build(BuildRequest(root=root, substitute=Substitute(always=True))))
    assert done["data"] == {"x": "d"}


@pytest.mark.spec("KS-SUB-04")
async def test_a_missing_variable_names_object_and_file(toolbox: Toolbox, tree):
    root = tree({"apps/a.yaml": config_map("a", x="${missing}")})
    request = BuildRequest(root=root, path="apps", substitute=Substitute(always=True))
    error = await failure(toolbox, request)
    assert (error.code, error.file, error.object) == ("SubstituteFailed", "apps/a.yaml", "ConfigMap/a")
    assert error.message == (
        "post build failed for 'a': envsubst error: variable substitution failed: "
        'variable not set (strict mode): "missing"')
    lenient = BuildRequest(root=root, path="apps", substitute=Substitute(always=True, strict=False), normalize=False)
    assert objects(await toolbox.build(lenient))[0]["data"] == {"x": None}


@pytest.mark.spec("KS-SUB-09")
async def test_a_variable_name_must_be_a_name_even_if_unused(toolbox: Toolbox, tree):
    root = tree({"a.yaml": config_map("a")})
    error = await failure(toolbox, BuildRequest(root=root, substitute=Substitute(variables={"a-b": "x"})))
    assert error.code == "SubstituteFailed"
    assert error.message == "'a-b' var name is invalid, must match '^[_[:alpha:]][_[:alpha:][:digit:]]*$'"


# --- reads ---------------------------------------------------------------------------------------------------------


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


async def test_everything_that_was_looked_at_is_reported(toolbox: Toolbox, tree):
    files = {
        "apps/kustomization.yaml": kustomization(
            "resources: [a.yaml, ../base]\ncomponents: [../c]\npatches: [{path: p.yaml}]\n"
            "configMapGenerator: [{name: g, files: [data.txt], envs: [x.env]}]\n"),
        "apps/a.yaml": config_map("a"), "apps/p.yaml": config_map("a", patched="yes"), "apps/data.txt": "data",
        "apps/x.env": "A=b\n", "base/kustomization.yml": kustomization("resources: [b.yaml]\n"),
        "base/b.yaml": config_map("b"), "c/kustomization.yaml": COMPONENT, "unused/z.yaml": config_map("z"),
    }
    built = await toolbox.build(BuildRequest(root=tree(files), path="apps"))
    by_path = {one.path: one for one in built.reads}
    assert "unused/z.yaml" not in by_path
    for path, text in files.items():
        if path != "unused/z.yaml":
            assert by_path[path] == FileRead(path, "file", sha256(text.encode()))
    assert by_path["base/kustomization.yaml"].kind == "absent"
    assert not built.remote


async def test_a_listing_is_a_read_of_its_names(toolbox: Toolbox, tree):
    root = tree({"apps/a.yaml": config_map("a"), "apps/sub/b.yaml": config_map("b"), "apps/notes.txt": "x"})
    built = await toolbox.build(BuildRequest(root=root, path="apps"))
    assert read(built, "apps") == FileRead("apps", "dir", sha256(b"a.yaml\nnotes.txt\nsub/"))
    assert read(built, "apps/kustomization.yml") == FileRead("apps/kustomization.yml", "absent", "")
    assert "apps/notes.txt" not in {one.path for one in built.reads}


async def test_the_same_input_gives_the_same_digests(toolbox: Toolbox, tree):
    request = BuildRequest(root=tree({"a.yaml": config_map("a", x="1", y="2"), "d.yaml": deployment("d", "x")}))
    first, second = await toolbox.build(request), await toolbox.build(request)
    assert first == second
    assert first.digest == sha256(first.body)
    assert [one.digest for one in first.objects] == [sha256(first.json(one)) for one in first.objects]
    manifests = first.manifests("remote")
    assert [str(item.reference) for item in manifests.items] == ["ConfigMap/a", "Deployment/d"]
    assert b"".join(item.body for item in manifests.items) == first.body


# --- input that is made to do harm ---------------------------------------------------------------------------------

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True))

PATCH = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


@pytest.mark.parametrize(("files", "limits"), [
    pytest.param({"a.yaml": config_map("a") + "---\n" + BOMB}, Limits(), id="alias bomb"),
    pytest.param({"kustomization.yaml": kustomization("resources: [a.yaml]\n") + BOMB, "a.yaml": config_map("a")},
                 Limits(), id="alias bomb in the kustomization"),
    pytest.param({"kustomization.yaml": kustomization(
        f"resources: [a.yaml]\npatches:\n- patch: {json.dumps(PATCH + BOMB)}\n"), "a.yaml": config_map("a")},
        Limits(), id="alias bomb in a patch"),
    pytest.param({"a.yaml": "a: " + "[" * 5000 + "]" * 5000}, Limits(), id="nesting"),
    pytest.param({"a.yaml": "x: &x {y: *x}\n"}, Limits(), id="anchor in itself"),
    pytest.param({"a.yaml": config_map("a", x="y" * 1000)}, Limits(file_bytes=500), id="file size"),
    pytest.param({f"{n}.yaml": config_map(f"a{n}", x="y" * 1000) for n in range(5)}, Limits(total_bytes=3000),
                 id="bytes in all"),
    pytest.param({f"{n}.yaml": config_map(f"a{n}") for n in range(20)}, Limits(objects=10), id="objects"),
    pytest.param({f"{n}.yaml": config_map(f"a{n}") for n in range(20)}, Limits(reads=10), id="reads"),
    pytest.param({"a.yaml": config_map("a", x="y" * 1000)}, Limits(output_bytes=500), id="output"),
])
async def test_limits_hold(toolbox: Toolbox, tree, files, limits: Limits):
    assert (await failure(toolbox, BuildRequest(root=tree(files), limits=limits))).code == "LimitExceeded"
    assert await toolbox.substitute("$${ok}", {"v": ""}) == "${ok}"


async def test_a_cycle_of_bases_is_an_error(toolbox: Toolbox, tree):
    root = tree({"a/kustomization.yaml": kustomization("resources: [../b]\n"),
                 "b/kustomization.yaml": kustomization("resources: [../a]\n")})
    assert "cycle detected" in (await failure(toolbox, BuildRequest(root=root, path="a"))).message


async def test_exec_and_helm_plugins_do_not_run(toolbox: Toolbox, tree):
    plugin = ("apiVersion: example.com/v1\nkind: Plugin\nmetadata:\n  name: p\n  annotations:\n"
              "    config.kubernetes.io/function: 'exec: {path: ./run.sh}'\n")
    root = tree({"a/kustomization.yaml": kustomization("generators: [p.yaml]\n"), "a/p.yaml": plugin,
                 "h/kustomization.yaml": kustomization("helmCharts: [{name: x, repo: 'https://example.invalid'}]\n")})
    for path in ("a", "h"):
        assert (await failure(toolbox, BuildRequest(root=root, path=path))).code == "BuildFailed"


async def test_anchors_in_ordinary_use_are_fine(toolbox: Toolbox, tree):
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: &x hello\n  y: *x\n"
    [only] = objects(await toolbox.build(BuildRequest(root=tree({"a.yaml": text}))))
    assert only["data"] == {"x": "hello", "y": "hello"}
