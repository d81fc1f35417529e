"""SOPS during the build: files before it, resources after it. Keys and files of tests/golden/sops."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace.toolbox import BuildDecryption, BuildKeys, BuildRequest, BuildSpec, Substitute, Toolbox, ToolboxError

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOPS = Path(__file__).parents[2] / "golden" / "sops"
SECRET = "correct-horse-battery"
Tree = Callable[[Mapping[str, str]], str]


def sops(name: str) -> str:
    return (SOPS / name).read_text()


def keys(*names: str) -> dict[str, bytes]:
    return {name: (SOPS / "keys" / name).read_bytes() for name in names}


ONE = keys("one.agekey")


async def build(toolbox: Toolbox, root: str, given: Mapping[str, bytes] = ONE, **more: Any) -> list[Any]:
    request = BuildRequest(root=root, decryption=BuildDecryption(secret="default/keys"), **more)
    built = await toolbox.build(request, keys=BuildKeys(entries=given))
    return [json.loads(built.json(made)) for made in built.objects]


def entries(secret: Any) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


async def refused(toolbox: Toolbox, root: str, given: Mapping[str, bytes] = ONE, **more: Any) -> str:
    with pytest.raises(ToolboxError) as caught:
        await build(toolbox, root, given, **more)
    assert caught.value.code == "BuildFailed"
    return caught.value.message


@pytest.mark.parametrize(("file", "names"), [
    pytest.param("whole.yaml", ["one.agekey"], id="age", marks=pytest.mark.spec("KS-SOPS-01", "KS-SOPS-04")),
    pytest.param("whole-two.yaml", ["stranger.agekey", "one.agekey", "two.agekey"], id="several age keys",
                 marks=pytest.mark.spec("KS-SOPS-01")),
    pytest.param("whole-hybrid.yaml", ["one.agekey", "hybrid.agekey"], id="hybrid age key",
                 marks=pytest.mark.spec("KS-SOPS-01")),
    pytest.param("whole-pgp.yaml", ["one.agekey", "test.asc"], id="OpenPGP", marks=pytest.mark.spec("KS-SOPS-02")),
])
async def test_a_whole_resource_is_decrypted(toolbox: Toolbox, tree: Tree, file: str, names: list[str]):
    [secret] = await build(toolbox, tree({"a.yaml": sops(file)}), keys(*names))
    assert entries(secret) == {"password": SECRET}
    assert "sops" not in secret


@pytest.mark.spec("KS-SOPS-04")
async def test_any_kind_is_decrypted_and_what_kustomize_changes_does_not_hinder(toolbox: Toolbox, tree: Tree):
    [made] = await build(toolbox, tree({"a.yaml": sops("map.yaml")}), spec=BuildSpec(name_prefix="x-"))
    assert (made["metadata"]["name"], made["data"]) == ("x-map", {"word": "open-sesame-now"})


@pytest.mark.spec("KS-SOPS-04")
async def test_encrypted_entries_of_a_secret_are_decrypted_one_by_one(toolbox: Toolbox, tree: Tree):
    encoded = {name: base64.b64encode(sops(file).encode()).decode() for name, file in (
        ("a.txt", "secret.txt"), ("b.yaml", "values.yaml"), ("c.env", "secret.env"), ("d.ini", "secret.ini"))}
    encoded["plain"] = base64.b64encode(b"as it is").decode()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": encoded}
    [made] = await build(toolbox, tree({"a.yaml": json.dumps(secret)}))
    assert {key: value.strip() for key, value in entries(made).items()} == {
        "a.txt": "binary-value", "b.yaml": "token: yaml-value", "c.env": "TOKEN=dotenv-value",
        "d.ini": "[section]\ntoken = ini-value", "plain": "as it is"}


GENERATOR = {"secretGenerator": [{
    "name": "s", "envs": ["secret.env"],
    "files": ["a.txt=secret.txt", "b.yaml=values.yaml", "c.json=secret.json", "d.ini=secret.ini",
              ".dockerconfigjson=docker.json"]}]}
GENERATED = {name: sops(name) for name in
             ("secret.env", "secret.txt", "values.yaml", "secret.json", "secret.ini", "docker.json")}


@pytest.mark.spec("KS-SOPS-05", "KS-SOPS-07")
async def test_files_of_a_generator_are_decrypted_by_the_format_of_their_key(toolbox: Toolbox, tree: Tree):
    root = tree({"kustomization.yaml": json.dumps(GENERATOR), **GENERATED})
    [secret] = await build(toolbox, root)
    made = entries(secret)
    assert made.pop("TOKEN") == "dotenv-value"
    assert (made["a.txt"], made["b.yaml"].strip()) == ("binary-value", "token: yaml-value")
    assert json.loads(made["c.json"]) == {"token": "json-value"}
    assert "ini-value" in made["d.ini"]
    assert json.loads(made[".dockerconfigjson"])["auths"]["registry.example.com"] == {"auth": "dXNlcjpwYXNz"}
    assert (Path(root) / "secret.txt").read_text() == sops("secret.txt")


@pytest.mark.spec("KS-SOPS-05")
async def test_files_of_bases_and_components_are_decrypted_too(toolbox: Toolbox, tree: Tree):
    component = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component",
                 "secretGenerator": [{"name": "c", "files": ["secret.txt"]}]}
    base = {"secretGenerator": [{"name": "b", "envs": ["secret.env"]}]}
    root = tree({
        "kustomization.yaml": json.dumps({"resources": ["base"]}),
        "base/kustomization.yaml": json.dumps(base), "base/secret.env": sops("secret.env"),
        "component/kustomization.yaml": json.dumps(component), "component/secret.txt": sops("secret.txt"),
    })
    made = await build(toolbox, root, spec=BuildSpec(components=["component"]))
    assert sorted(value for secret in made for value in entries(secret).values()) == ["binary-value", "dotenv-value"]


TARGET = "apiVersion: v1\nkind: Secret\nmetadata: {name: target}\n"


@pytest.mark.spec("KS-SOPS-06")
async def test_an_encrypted_patch_is_decrypted(toolbox: Toolbox, tree: Tree):
    kustomization = {"resources": ["target.yaml"], "patches": [{"path": "patch.yaml"}]}
    root = tree({"kustomization.yaml": json.dumps(kustomization), "target.yaml": TARGET,
                 "patch.yaml": sops("patch.yaml")})
    [secret] = await build(toolbox, root)
    assert entries(secret) == {"patched": "swordfish-swordfish"}


@pytest.mark.spec("KS-SOPS-06")
async def test_a_patch_by_url_is_not_looked_for(toolbox: Toolbox, tree: Tree):
    kustomization = {"resources": ["target.yaml"], "patches": [{"path": "https://git.example.com/patch.yaml"}]}
    message = await refused(toolbox, tree({"kustomization.yaml": json.dumps(kustomization), "target.yaml": TARGET}))
    assert "decryption failed" not in message


@pytest.mark.spec("KS-SOPS-08")
@pytest.mark.parametrize(("stated", "message"), [
    pytest.param("large.txt", "exceeding limit", id="too large"),
    pytest.param("folder", "no regular file", id="a folder"),
    pytest.param("../outside.txt", "outside", id="outside"),
    pytest.param("/etc/hostname", "outside", id="absolute"),
])
async def test_a_file_that_must_not_be_read_fails(toolbox: Toolbox, tree: Tree, stated: str, message: str):
    generator = {"secretGenerator": [{"name": "s", "files": [f"k={stated}"]}]}
    root = tree({"kustomization.yaml": json.dumps(generator), "large.txt": "x" * (5 * 1024 * 1024 + 1),
                 "folder/a": "", "../outside.txt": sops("secret.txt")})
    said = await refused(toolbox, root)
    assert said.startswith("decryption failed for '")
    assert message in said


@pytest.mark.spec("KS-SOPS-09")
async def test_what_is_annotated_so_is_left_encrypted(toolbox: Toolbox, tree: Tree):
    annotations = {"kustomize.toolkit.fluxcd.io/decrypt": "Disabled"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "annotations": annotations},
              "data": {"a.txt": base64.b64encode(sops("secret.txt").encode()).decode()}}
    [made] = await build(toolbox, tree({"a.yaml": json.dumps(secret)}))
    assert entries(made) == {"a.txt": sops("secret.txt")}


@pytest.mark.spec("KS-SOPS-09")
@pytest.mark.parametrize("decryption", [BuildDecryption(secret="default/keys"), None], ids=["with keys", "without"])
async def test_a_secret_that_is_encrypted_as_a_whole_may_stay_so(
    toolbox: Toolbox, tree: Tree, decryption: BuildDecryption | None
):
    patch = {"metadata": {"name": "whole", "annotations": {"kustomize.toolkit.fluxcd.io/decrypt": "disabled"}}}
    stays = {"resources": ["a.yaml"], "patches": [
        {"patch": json.dumps({"apiVersion": "v1", "kind": "Secret"} | patch)}]}
    root = tree({"a.yaml": sops("whole.yaml"), "kustomization.yaml": json.dumps(stays)})
    built = await toolbox.build(
        BuildRequest(root=root, decryption=decryption), keys=BuildKeys(entries=ONE) if decryption else None)
    content = json.loads(built.json(built.objects[0]))
    assert "sops" not in content, "as Flux does, since the API server would refuse it"
    assert all(value.startswith("ENC[") for value in entries(content).values())


@pytest.mark.spec("KS-SUB-12", "KS-SUB-14")
async def test_what_was_decrypted_is_substituted(toolbox: Toolbox, tree: Tree):
    substitute = Substitute(variables={"cluster": "staging"})
    [secret] = await build(toolbox, tree({"a.yaml": sops("variable.yaml")}), substitute=substitute)
    assert entries(secret) == {"set": "key-staging-end", "kept": "key-${cluster}-end"}


@pytest.mark.spec("KS-SOPS-03")
@pytest.mark.parametrize(("name", "good", "bad"), [
    ("sops.aws-kms", "aws_access_key_id: a\naws_secret_access_key: hidden-value\n", "hidden-value: ["),
    ("sops.azure-kv", "tenantId: t\nclientId: c\nclientSecret: hidden-value\n", "clientSecret: hidden-value"),
    ("sops.azure-kv", "appId: a\ntenant: t\npassword: hidden-value\n", "- hidden-value"),
    ("sops.azure-kv", "clientId: c\n", "{}"),
    ("sops.gcp-kms", '{"type": "service_account"}', "hidden-value"),
    ("sops.vault-token", "hidden-value\n", " \n"),
    ("b.agekey", sops("keys/two.agekey"), "hidden-value"),
    ("b.asc", sops("keys/test.asc"), "hidden-value"),
])
async def test_each_credential_is_parsed_and_a_bad_one_fails(
    toolbox: Toolbox, tree: Tree, name: str, good: str, bad: str
):
    root = tree({"a.yaml": sops("whole.yaml")})
    assert await build(toolbox, root, ONE | {name: good.encode(), "unknown": b"-"})
    message = await refused(toolbox, root, {name: bad.encode()})
    assert message.startswith(f"sops decryption Secret 'default/keys': failed to import '{name}' data: ")
    assert "hidden-value" not in message


@pytest.mark.parametrize("given", [{}, keys("stranger.agekey")], ids=["no key", "the wrong key"])
async def test_without_the_key_nothing_is_built(toolbox: Toolbox, tree: Tree, given: dict[str, bytes]):
    message = await refused(toolbox, tree({"a.yaml": sops("whole.yaml")}), given)
    assert message.startswith("decryption failed for 'whole': failed to decrypt and format '/whole' Secret data: ")
    assert "age identity" in message


@pytest.mark.spec("KS-SOPS-10")
@pytest.mark.parametrize("field", ["data", "stringData"])
async def test_an_encrypted_secret_is_refused_where_nothing_is_decrypted(toolbox: Toolbox, tree: Tree, field: str):
    root = tree({"a.yaml": sops("whole.yaml").replace("stringData:", f"{field}:")})
    with pytest.raises(ToolboxError, match="is SOPS encrypted, configuring decryption is required"):
        await toolbox.build(BuildRequest(root=root))


@pytest.mark.spec("KS-SOPS-13")
async def test_an_error_quotes_nothing_that_was_decrypted(toolbox: Toolbox, tree: Tree):
    kustomization = {"resources": ["target.yaml"], "patches": [{"path": "badpatch.yaml"}]}
    root = tree({"kustomization.yaml": json.dumps(kustomization), "target.yaml": TARGET,
                 "badpatch.yaml": sops("badpatch.yaml")})
    message = await refused(toolbox, root)
    assert "***" in message
    assert "no-such-target-here" not in message
