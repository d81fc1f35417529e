"""Parsers of what comes from outside, fed with what is almost right: only documented errors come out of them."""

# ruff: noqa: PT017 - most cases raise nothing

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KINDS, KindInfo
from headrace.controllers.kustomize.coherence import same_url
from headrace.controllers.kustomize.decryption import _instances
from headrace.core.documents import YamlRefused, load_documents
from headrace.core.duration import InvalidDuration, format_duration, parse_duration
from headrace.core.egress import UrlRefused, parse_url
from headrace.core.limits import UnpackLimits
from headrace.core.paths import PathRefused, safe_segments
from headrace.core.unpack import ArchiveRefused, unpack
from headrace.kube.deep import TOO_DEEP, elements
from headrace.kube.errors import ConfigError
from headrace.kube.kubeconfig import parse_untrusted
from headrace.kube.objects import decode_items, decode_list, decode_object
from headrace.kube.resource import Resource
from headrace.model.errors import Retry
from headrace.source.git.errors import GitError
from headrace.source.git.pktline import FLUSH, packet, parse_advertisement, parse_ls_refs
from headrace.source.ignore import Glob, Ignore
from headrace.source.oci import reference as oci
from headrace.toolbox import BuildDecryption, BuildKeys, BuildRequest, Toolbox, ToolboxError
from headrace.toolbox.binary import ToolboxMissing, find_toolbox
from tests.unit.fuzz.mutation import CASES, Mutator

RESOURCE = Resource("", "v1", "X", "xs", namespaced=True)
OID = "0123456789abcdef0123456789abcdef01234567"


def texts(name: str, seeds: Sequence[str], tokens: Sequence[str] = ()) -> list[str]:
    """Cases as the text that objects and files hold: what is no UTF-8 gets there as replacement characters."""
    made = Mutator(name, [seed.encode() for seed in seeds], [token.encode() for token in tokens])
    return [case.decode("utf-8", "replace") for case in made.cases()]


# -- archives ----------------------------------------------------------------------------------------------------------


def tar(form: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, kind, link in (
            ("./", tarfile.DIRTYPE, ""),
            ("a/b.yaml", tarfile.REGTYPE, ""),
            ("long" * 20 + "/" + "x" * 98, tarfile.REGTYPE, ""),
            ("é", tarfile.REGTYPE, ""),
            ("a/link", tarfile.SYMTYPE, "b.yaml"),
            ("hard", tarfile.LNKTYPE, "a/b.yaml"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, 5 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"a: 1\n"))
    return stream.getvalue()[: 16 * 1024]


TARS = [tar(form) for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)]
LIMITS = UnpackLimits(files=100, total_bytes=1_000_000, file_bytes=100_000, archive_bytes=1_000_000)


def checksummed(data: bytes) -> bytes:
    """Headers get the right checksum again: else nothing behind it would ever be reached."""
    blocks = [data[at : at + 512] for at in range(0, len(data), 512)]
    return b"".join(_checksummed(block) for block in blocks)


def _checksummed(block: bytes) -> bytes:
    if len(block) < 512 or block[257:262] != b"ustar":
        return block
    return block[:148] + b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * 32) + block[156:]


@pytest.mark.parametrize("packed", ["plain", "checksummed", "gzip", "damaged gzip"])
def test_archives(tmp_path: Path, packed: str) -> None:
    seeds = [gzip.compress(seed, mtime=0) for seed in TARS] if packed == "damaged gzip" else TARS
    tokens = (
        b"0000000\0",
        b"-000005\0",
        b"\x80" + b"\xff" * 7,
        b"\xff" * 12,
        b"77777777777\0",
        b"+5",
        b" 5",
        b"1_0",
        b"30 path=../x\n",
        b"0 a=b\n",
        b"1 \n",
        b"9 size=-1\n",
        b"11 size=1e3\n",
        *b"012345678LKxgS\0",
    )
    flags = tuple(bytes([token]) if isinstance(token, int) else token for token in tokens)
    for number, case in enumerate(Mutator(f"archive {packed}", seeds, flags).cases()):
        data = checksummed(case) if packed in ("checksummed", "gzip") else case
        data = gzip.compress(data, 1, mtime=0) if packed == "gzip" else data
        target = tmp_path / str(number)
        target.mkdir()
        try:
            unpack(io.BytesIO(data), target, LIMITS)
        except ArchiveRefused as error:
            assert str(error)
            assert not list(target.iterdir()), "a refused archive leaves nothing"
        assert not [path for path in target.rglob("*") if path.is_symlink()]
    assert {path.name for path in tmp_path.iterdir()} == {
        str(number) for number in range(len(list(tmp_path.iterdir())))
    }


@pytest.mark.parametrize("size", [b"-0000000005", b"+0000000005", b"0x000000005", b"0_000000005", b"1 000000000"])
def test_a_size_that_is_no_plain_octal_number_refuses_the_archive(tmp_path: Path, size: bytes) -> None:
    header = tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT)
    data = checksummed(header[:124] + size + b"\0" + header[136:] + bytes(4096))
    with pytest.raises(ArchiveRefused, match="a header holds no number"):
        unpack(io.BytesIO(data), tmp_path, LIMITS)


def test_paths() -> None:
    for case in texts("path", ["a/b/c.yaml", "./a", "a//b/", "a b/é"], ["../", ".git", "C:", "GIT~1"]):
        try:
            segments = safe_segments(case)
        except PathRefused:
            continue
        assert not {"", ".", "..", ".git"} & set(segments)


# -- git ---------------------------------------------------------------------------------------------------------------


def test_what_a_git_server_answers() -> None:
    old = [
        packet("# service=git-upload-pack"),
        FLUSH,
        packet(f"{OID} HEAD\0multi_ack symref=HEAD:refs/heads/main"),
        packet(f"{OID} refs/heads/main"),
        packet(f"{OID} refs/tags/v1"),
        packet(f"{OID} refs/tags/v1^{{}}"),
        FLUSH,
    ]
    new = [packet("version 2"), packet("agent=git/2"), packet("object-format=sha1"), FLUSH]
    refs = [packet(f"{OID} refs/heads/main"), packet(f"{OID} refs/tags/v1 peeled:{OID}"), packet("unborn HEAD"), FLUSH]
    tokens = [
        FLUSH,
        b"0001",
        b"0004",
        b"0003",
        b"ffff",
        b"-001",
        b"+00a",
        b"ERR no\n",
        OID.encode(),
        b"^{}",
        b"peeled:",
    ]
    mutator = Mutator("git", [b"".join(answer) for answer in (old, new, refs)], tokens)
    for case in mutator.cases():
        for data in (case, case + FLUSH):
            for parse in (parse_advertisement, parse_ls_refs):
                try:
                    parse(data)
                except GitError as error:
                    assert len(str(error)) < 1000


@pytest.mark.parametrize("length", [b"-001", b"+00a", b" 00a", b"0_0a", b"000"])
def test_a_length_of_a_packet_that_is_no_four_digits_is_refused(length: bytes) -> None:
    with pytest.raises(GitError, match="is no git protocol"):
        parse_ls_refs(length + FLUSH)


def test_a_ref_without_a_name_is_refused() -> None:
    for parse in (parse_advertisement, parse_ls_refs):
        with pytest.raises(GitError, match="a ref without a name"):
            parse(packet(OID) + FLUSH)


def test_ignore_files() -> None:
    seeds = ["*.md\n!keep.md\n/dir/\n**/x/**\n[a-z]?\\*\n# no\n", "a/**/b\n**\n!**\n", "[^a-\\]]\n[]\n[a\n\\\n"]
    for case in texts("ignore", seeds, ["**/", "[!a]", "[^", "\\ ", "!", "a-", "]"]):
        rules = Ignore([((), case), (("a",), case)], case)
        for path in (("a",), ("a", "b", "c.md"), ("dir", "x"), ("é\udcff",), tuple("d" * 60)):
            assert rules.excludes(path, True) in (True, False)
        Glob(case).matches("a" * 200)


# -- names -------------------------------------------------------------------------------------------------------------


def test_urls() -> None:
    seeds = ["https://user:pw@host.example:8443/a/b?c=d#e", "http://[::1]:80/x", "ssh://git@host/x.git", "oci://h/a"]
    for case in texts(
        "url", seeds, ["@", "://", "[", "]", "::ffff:", "127.0.0.1", "ext::", "%40", ":0", ":65536", "xn--"]
    ):
        for schemes in (("http", "https"), ("ssh", "socks5")):
            try:
                url = parse_url(case, schemes)
            except UrlRefused as error:
                assert "pw@" not in str(error)
                continue
            assert url.scheme in schemes
            assert url.host
            assert not url.host.startswith("-")
            assert 0 < url.port < 65536
            assert url.url.host, "what was accepted can be connected to, and shown"
            assert "@" not in url.url.authority


def test_references_of_registries() -> None:
    seeds = ["oci://ghcr.io/org/repo", "localhost:5000/a/b:v1", f"docker.io/app@sha256:{'0' * 64}", "a_b--c.d/e__f"]
    for case in texts("reference", seeds, ["@sha256:", "sha512:", ":", "..", "__", "A", "[::1]"]):
        for parse in (oci.parse_url, oci.parse_repository, oci.parse_reference, oci.check_tag, oci.check_digest):
            try:
                found = parse(case)
            except oci.ReferenceRefused as error:
                assert len(str(error)) < 2000
                continue
            assert "\n" not in str(found)
            if parse is oci.check_digest:
                assert oci.matches(b"", case) in (True, False)


def test_durations() -> None:
    for case in texts(
        "duration", ["1h30m", "10s", "1.5h", "750ms", "0s"], ["h", "ms", "s", "m", "9e9", "µs", "ns", "."]
    ):
        try:
            seconds = parse_duration(case)
        except InvalidDuration as error:
            assert len(str(error)) < 200
            continue
        assert 0 <= seconds < 2**63 / 1e9
        assert abs(parse_duration(format_duration(seconds).replace("µs", "ms")) - seconds) <= max(1.0, seconds * 1e-6)


# -- documents ---------------------------------------------------------------------------------------------------------

KUBECONFIG = b"""apiVersion: v1
kind: Config
current-context: main
contexts:
- name: main
  context: {cluster: c, user: u, namespace: n}
clusters:
- name: c
  cluster: {server: "https://host:6443", certificate-authority-data: Y2E=, tls-server-name: x, proxy-url: "http://p:1"}
users:
- name: u
  user: {token: secret, client-certificate-data: Yw==, client-key-data: aw==}
"""
KUBECONFIG_TOKENS = (
    b"exec: {command: x, apiVersion: client.authentication.k8s.io/v1}",
    b"as: admin",
    b"tokenFile: /etc/passwd",
    b"certificate-authority: /etc/passwd",
    b"insecure-skip-tls-verify: true",
    b"auth-provider: {name: x}",
    b"- ",
    b"{",
    b"[[",
    b"2001-01-01",
    b"2001-99-99",
    b"0o9",
    b"!!timestamp 1",
    b"!!set {a}",
    b"? [a]\n: b",
    b"1: 2",
    b"? {a: b}\n",
)


def test_kubeconfigs_of_tenants() -> None:
    for case in Mutator("kubeconfig", [KUBECONFIG], KUBECONFIG_TOKENS).cases():
        try:
            config = parse_untrusted(case, None, allow_exec=False, allow_insecure_tls=False)
        except ConfigError as error:
            assert "secret" not in str(error)
            continue
        assert config.server
        assert config.host
        assert not config.insecure_skip_tls_verify
        assert not config.ca_file
        assert config.impersonation is None
        assert config.credentials.exec is None
        assert not config.credentials.token_file


MANIFESTS = b"""# comment
apiVersion: v1
kind: ConfigMap
metadata: {name: &name app, labels: {app: *name}}
data:
  text: |
    a: ${b}
  number: 1.50
---
- [a, 'b', "c"]
- ? x
  : y
---
apiVersion: v1
kind: Secret
data: {password: "ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:str]"}
sops:
  mac: "ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:str]"
  version: 3.9.0
  lastmodified: "2024-01-01T00:00:00Z"
  age: []
"""
DEEP = (b"- " * 200_000, b"? " * 100_000, b"[" * 5_000, b"{a: " * 5_000, b"- " * 200)


def test_documents_of_others() -> None:
    for case in Mutator("documents", [MANIFESTS, KUBECONFIG], (*KUBECONFIG_TOKENS, *DEEP)).cases():
        for text in (case, case.decode("utf-8", "replace")):
            try:
                assert isinstance(load_documents(text), list)
            except YamlRefused as error:
                assert len(str(error)) < 100


@pytest.mark.parametrize("text", DEEP, ids=range(len(DEEP)))
def test_a_document_that_goes_down_without_end_is_refused_and_ends_no_process(text: bytes) -> None:
    with pytest.raises(YamlRefused):
        load_documents(text)
    with pytest.raises(ConfigError):
        parse_untrusted(text, None, allow_exec=False, allow_insecure_tls=False)
    with pytest.raises(Retry, match="failed to parse 'config.yaml' of the Vault ConfigMap"):
        _instances(text)


@pytest.mark.parametrize(
    "url", ["https://[host", "https://host:99999", "https://host:x", "https://", "https://[::1", "//x"]
)
@pytest.mark.parametrize("field", [b"https://host:6443", b"http://p:1"], ids=["server", "proxy"])
def test_an_address_in_a_kubeconfig_that_is_none_is_refused(url: str, field: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_untrusted(KUBECONFIG.replace(field, url.encode()), None, allow_exec=False, allow_insecure_tls=False)


@pytest.mark.parametrize("tag", ["!!timestamp", "!!int", "!!float", "!!bool", "!!binary", "!!python/name:os.system"])
def test_a_tag_on_what_it_does_not_fit_is_refused(tag: str) -> None:
    with pytest.raises(YamlRefused, match="not valid YAML"):
        load_documents(f"a: {tag} x")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        parse_untrusted(f"users: {tag} x".encode(), None, allow_exec=False, allow_insecure_tls=False)


@pytest.fixture
def binary() -> Path:
    try:
        return find_toolbox()
    except ToolboxMissing as missing:
        pytest.skip(str(missing))


def answered(error: ToolboxError) -> bool:
    """Whether the toolbox has said what is wrong, and has not stumbled."""
    return error.code not in ("Panic", "Crashed", "Internal", "Timeout", "UnknownCall")


async def test_manifests_in_the_toolbox(tmp_path: Path, binary: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [app.yaml]")
    keys = BuildKeys(entries={"age.agekey": b"AGE-SECRET-KEY-1"})
    async with Toolbox(binary, size=1) as toolbox:
        for case in Mutator("manifests", [MANIFESTS], KUBECONFIG_TOKENS).cases(CASES // 3):
            (tmp_path / "app.yaml").write_bytes(case)
            request = BuildRequest(root=str(tmp_path), path="./", decryption=BuildDecryption())
            for call in (toolbox.yaml_to_json(case), toolbox.build(request, keys=keys)):
                try:
                    await call
                except ToolboxError as error:
                    assert answered(error), (error.code, error.message)


async def test_variables_and_versions_in_the_toolbox(binary: Path) -> None:
    async with Toolbox(binary, size=1) as toolbox:
        for case in texts(
            "variables", ["a: ${b:-c}", "${a:=${b}} $x ${v:1:-1} ${v/a/b}"], ["${", ":-", "^^", "//", "#"]
        )[:CASES]:
            try:
                await toolbox.substitute(case, {"a": "1", "b": "${a}", "v": "value"})
            except ToolboxError as error:
                assert answered(error), (error.code, error.message)
        for case in texts(
            "versions", [">=1.0.0 <2.0.0", "~1.2 || ^v3", "1.x - 2"], ["-rc.1", "+b", "||", "*", ">", "~"]
        )[:CASES]:
            try:
                await toolbox.semver(case, ["1.0.0", "v2.0.0-rc.1+b", case])
            except ToolboxError as error:
                assert answered(error), (error.code, error.message)


def seed_of(kind: KindInfo[Any]) -> bytes:
    """An object with as many fields as can be made up without knowing their meaning."""
    spec = {
        "interval": "1m",
        "url": "https://host/x",
        "ref": {"branch": "main"},
        "sourceRef": {"kind": "GitRepository", "name": "a"},
        "path": "./",
        "prune": True,
        "timeout": "1m",
        "secretRef": {"name": "s"},
        "bucketName": "b",
        "endpoint": "h",
        "chart": "c",
        "patches": [{"patch": "[]", "target": {"kind": "X"}}],
        "postBuild": {"substitute": {"a": "b"}},
        "dependsOn": [{"name": "x"}],
        "sources": [{"alias": "a", "kind": "GitRepository", "name": "n"}],
        "artifacts": [{"name": "n", "copy": [{"from": "@a/**", "to": "@artifact/"}]}],
    }
    artifact = {"path": "p", "url": "u", "revision": "r", "digest": "sha256:1", "size": 3}
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "x",
        "message": "",
        "lastTransitionTime": "2024-01-01T00:00:00Z",
    }
    return msgspec.json.encode(
        {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {
                "name": "n",
                "namespace": "ns",
                "uid": "1",
                "resourceVersion": "1",
                "generation": 1,
                "creationTimestamp": "2024-01-01T00:00:00Z",
                "labels": {"a": "b"},
                "finalizers": ["f"],
                "ownerReferences": [{"uid": "1", "kind": "k", "name": "n", "apiVersion": "v1"}],
            },
            "spec": spec,
            "status": {"artifact": artifact, "conditions": [condition], "observedGeneration": 1},
        }
    )


JSON_TOKENS = (
    b"[]",
    b"{}",
    b"null",
    b"1",
    b'"x"',
    b"-1",
    b"1.5",
    b"true",
    b'"\\ud800"',
    b"[[[[",
    b",",
    b":",
    b"[" * 5000,
)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.kind)
def test_objects_of_our_kinds(kind: KindInfo[Any]) -> None:
    for case in Mutator(kind.kind, [seed_of(kind)], JSON_TOKENS).cases():
        try:
            live = decode_object(case)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        try:
            obj = live.decode(kind.type)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        assert kind.manifest(obj)


def test_addresses_of_repositories_that_are_compared() -> None:
    for case in texts("same", ["https://user:pw@host/x.git/", "ssh://git@[::1]:22/x"], ["[", "]", "@", ".git"]):
        assert isinstance(same_url(case), str)
    assert same_url("https://[host/x") == "https://[host/x"


def deeper(frames: int, raw: bytes) -> object:
    return deeper(frames - 1, raw) if frames else msgspec.json.decode(raw)


def test_an_object_that_was_let_in_can_be_decoded_by_whoever_is_called_later() -> None:
    """Otherwise one between the two depths would come out of every reader as a bug."""
    outcomes = set()
    for levels in range(300, 1500, 7):
        raw = b'{"kind": "X", "metadata": {"name": "n"}, "spec": ' + b"[" * levels + b"]" * levels + b"}"
        try:
            decode_object(raw)
        except msgspec.DecodeError as error:
            assert str(error) == TOO_DEEP
            outcomes.add("refused")
        else:
            deeper(100, raw)
            outcomes.add("let in")
    assert outcomes == {"refused", "let in"}


def test_a_list_and_an_event_with_a_very_deep_object_hold_the_others() -> None:
    deep = '{"metadata": {"name": "deep"}, "spec": ' + "[" * 3000 + "]" * 3000 + "}"
    good = '{"metadata": {"name": "a \\" ] } , b"}}'
    body = f'{{"items": [{good}, {deep},{good}], "metadata": {{"resourceVersion": "7"}}, "kind": "XList"}}'
    listed = decode_list(body.encode())
    assert listed.metadata.resource_version == "7"
    objects, quarantined = decode_items(listed.items or (), RESOURCE)
    assert ([live.metadata.name for live in objects], quarantined) == (['a " ] } , b'] * 2, 1)
    assert [elements(text) for text in (b"[]", b"{ }", b"[1, 2]")] == [[], [], [b"1", b"2"]]


@pytest.mark.parametrize(
    "body", [b'{"items": ' + b"[" * 3000, b"[" * 3000 + b"]" * 3000, b'{"a"' + b"[" * 3000 + b"]" * 3000]
)
def test_what_is_deep_and_no_list_is_malformed(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_list(body)
