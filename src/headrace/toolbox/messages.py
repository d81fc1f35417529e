"""Arguments and results of the toolbox's calls, as they stand on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headrace.model.manifests import FileRead, Manifest, Manifests
from headrace.model.reference import MANAGEMENT_CLUSTER, Reference, split_api_version


class Limits(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What a call may use; 0 takes the toolbox's default."""

    file_bytes: int = 0
    """Bytes of one file, or of one substituted document (32 MiB)."""
    total_bytes: int = 0
    """Bytes read in all, repeated reads counted (512 MiB)."""
    reads: int = 0
    """File system operations: bases that double at each level are small on disk and endless to build (200 000)."""
    depth: int = 0
    """Levels of nesting in YAML (200)."""
    nodes: int = 0
    """Values in one YAML file with aliases expanded (2 000 000)."""
    objects: int = 0
    """Objects that a build may yield (20 000)."""
    output_bytes: int = 0
    """JSON that a build may yield (192 MiB)."""


class _Wire(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, rename="camel"):
    """Fields named as in a Kustomization, so that its spec can be converted as it is."""


class Selector(_Wire, frozen=True):
    """The objects that a patch changes."""

    group: str = ""
    version: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
    label_selector: str = ""
    annotation_selector: str = ""


class Patch(_Wire, frozen=True):
    """An inline patch, strategic merge or JSON 6902."""

    patch: str
    target: Selector | None = None


class Json6902Patch(_Wire, frozen=True):
    """The older form of a JSON 6902 patch, with its operations as data."""

    patch: Sequence[Any]
    target: Selector


class Image(_Wire, frozen=True):
    """A replacement of an image's name, tag or digest."""

    name: str
    new_name: str = ""
    new_tag: str = ""
    digest: str = ""


class CommonMetadata(_Wire, frozen=True):
    """Labels and annotations set on every object; the owner's labels may not be among them."""

    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


class BuildSpec(_Wire, frozen=True):
    """The fields of a Kustomization that shape its build."""

    name_prefix: str = ""
    name_suffix: str = ""
    target_namespace: str = ""
    patches: Sequence[Patch] = ()
    patches_strategic_merge: Sequence[Any] = ()
    patches_json6902: Sequence[Json6902Patch] = ()
    images: Sequence[Image] = ()
    components: Sequence[str] = ()
    ignore_missing_components: bool = False
    build_metadata: Sequence[str] = ()
    common_metadata: CommonMetadata | None = None


class Substitute(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Substitution after the build. Without variables nothing is substituted unless `always`; `strict` makes a
    variable that is neither set nor defaulted an error, `scalars` a value that changes more than a scalar."""

    variables: Mapping[str, str] = {}
    always: bool = False
    strict: bool = True
    scalars: bool = False


class BuildDecryption(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """SOPS decryption during the build. `secret` is the namespaced name of the keys' Secret, for messages; the keys
    themselves are handed over beside the request."""

    secret: str = ""


class VaultLogin(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a token for one Vault server is got: the operator names address and path, the `jwt` of a ServiceAccount says
    who asks, and as which role."""

    address: str
    path: str
    role: str
    jwt: str

    def __repr__(self) -> str:
        return f"VaultLogin({self.address!r})"


class LentIdentity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who is shown to the key services of a cloud that no entry of the Secret is for: `provider` and `scope` as
    `ToolboxError.identities` asks for them, and either the keys of AWS or a token."""

    provider: str
    scope: str = ""
    access_key: str = ""
    secret_key: str = ""
    session_token: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"LentIdentity({self.provider!r}, {self.scope!r})"


class BuildKeys(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What decrypts: entries of a decryption Secret by name, logins for Vault, identities at clouds. Sent as a call's
    body, so that nothing that shows arguments shows it."""

    entries: Mapping[str, bytes] = {}
    logins: Sequence[VaultLogin] = ()
    identities: Sequence[LentIdentity] = ()

    @property
    def call_services(self) -> bool:
        """Whether a key service may have to be called."""
        return bool(self.logins or self.identities) or not KEY_SERVICE_ENTRIES.isdisjoint(self.entries)

    def __repr__(self) -> str:
        return f"BuildKeys({sorted(self.entries)!r})"


KEY_SERVICE_ENTRIES = frozenset({"sops.vault-token", "sops.aws-kms", "sops.azure-kv", "sops.gcp-kms"})
"""Entries that hold credentials of a key service, and no key."""


class KeyServices(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """How a toolbox child may call key services: which addresses, as `core.egress` checks them, which CAs it trusts
    besides the system's, and the endpoints of clouds where they are not the public ones."""

    allow_loopback: bool = False
    allow_hosts: Sequence[str] = ()
    deny_networks: Sequence[str] = ()
    ca_file: str = ""
    aws_kms_endpoint: str = ""
    gcp_kms_endpoint: str = ""


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A build of `path` in the tree at `root`, which is only read. `labels` are set last, on every object."""

    root: str
    path: str = ""
    spec: BuildSpec = BuildSpec()
    substitute: Substitute | None = None
    labels: Mapping[str, str] = {}
    normalize: bool = True
    allow_remote: bool = False
    decryption: BuildDecryption | None = None
    limits: Limits = Limits()


class BuiltObject(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One object of a build: its envelope, the file it came from if known, and where its JSON lies in the body."""

    api_version: str
    kind: str
    namespace: str
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    file: str
    digest: str
    offset: int
    length: int


class BuildResult(msgspec.Struct, frozen=True, gc=False):
    """The header of a build's answer."""

    objects: tuple[BuiltObject, ...]
    reads: tuple[FileRead, ...]
    remote: bool
    digest: str


class Built(msgspec.Struct, frozen=True, gc=False):
    """A build: objects in order of kustomize, what was read, and the objects' JSON end to end in `body`."""

    objects: tuple[BuiltObject, ...]
    reads: tuple[FileRead, ...]
    remote: bool
    digest: str
    body: bytes

    def json(self, built: BuiltObject) -> bytes:
        """The JSON of one object."""
        return self.body[built.offset : built.offset + built.length]

    def manifests(self, cluster: str = MANAGEMENT_CLUSTER) -> Manifests:
        """The build as the value that crosses to the apply stage."""
        return Manifests(
            items=tuple(self._manifest(built, cluster) for built in self.objects),
            reads=self.reads,
            digest=self.digest,
            remote=self.remote,
        )

    def _manifest(self, built: BuiltObject, cluster: str) -> Manifest:
        group, _ = split_api_version(built.api_version)
        return Manifest(
            reference=Reference(group, built.kind, built.namespace, built.name, cluster),
            api_version=built.api_version,
            body=self.json(built),
            digest=built.digest,
            file=built.file,
            labels=built.labels,
            annotations=built.annotations,
        )


class SemverMatch(msgspec.Struct, frozen=True, gc=False):
    """The versions that satisfy a constraint, best first, as they were written; `best` is None when none does."""

    best: str | None
    sorted: tuple[str, ...]


class CelAsk(msgspec.Struct, frozen=True, gc=False):
    """Wants the values of expressions, by their indices, over one input."""

    expressions: Sequence[int]
    input: int


class CelValue(msgspec.Struct, frozen=True, gc=False):
    """The value of an expression, or in `error` why it has none."""

    value: bool = False
    error: str = ""


class CelResult(msgspec.Struct, frozen=True, gc=False):
    """`invalid` says of each expression what is wrong with it, empty for nothing. `values` are in the order of the
    asks; there are none while an expression is invalid."""

    invalid: tuple[str, ...]
    values: tuple[tuple[CelValue, ...], ...] = ()


class SignedBundle(msgspec.Struct, frozen=True, gc=False):
    """A Sigstore bundle as JSON. With `payload` the signature in it is over these bytes, else over a statement."""

    json: str
    payload: bytes | None = None


class SignerIdentity(msgspec.Struct, frozen=True, gc=False):
    """Regular expressions for who may have signed."""

    issuer: str
    subject: str


class KeylessRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Asks whether an artifact is signed by one of the identities, by anyone who is known when there are none."""

    trusted_root: str
    digest: str
    identities: Sequence[SignerIdentity]
    bundles: Sequence[SignedBundle]


class KeylessResult(msgspec.Struct, frozen=True, gc=False):
    """`errors` says of each bundle, up to the first good one, what is wrong with it; `signer` is that one's."""

    verified: bool
    signer: str
    errors: tuple[str, ...]


class SignatureEnvelope(msgspec.Struct, frozen=True, gc=False):
    """A signature of the Notary project as a registry holds it."""

    media_type: str
    content: bytes


class NotationRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Asks whether an artifact is signed as a trust policy wants. `reference` is `host/repository@digest`."""

    policy: str
    certificates: Sequence[str]
    reference: str
    media_type: str
    digest: str
    size: int
    signatures: Sequence[SignatureEnvelope]


class NotationResult(msgspec.Struct, frozen=True, gc=False):
    """`result` is `verified`, `failed`, or `ignored`: the policy asks for nothing, or only for a note."""

    result: str
    errors: tuple[str, ...]
