"""`spec.verify` of an OCIRepository against signatures in a real registry."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from headrace.api.ocirepository import OCIRepository
from headrace.model.errors import Retry, StepError
from headrace.model.outcome import Condition
from headrace.source.oci.cosign import BUNDLE, SIMPLE_SIGNING
from headrace.source.oci.manifest import INDEX, MANIFEST, Descriptor, Index, Manifest, encoded
from headrace.source.oci.notation import SIGNATURE
from headrace.source.oci.reference import digest_of
from tests.cluster.ocirepository.world import OciWorld, oci_world
from tests.servers.signing import (
    SIGN,
    SigningAuthority,
    Sigstore,
    keyed_annotations,
    keyed_bundle,
    new_key,
    notation_envelope,
    public_pem,
    simple_signing,
    statement,
    trust_policy,
)
from tests.servers.sources import INTERVAL, REQUESTED

ME, ISSUER = "me@example.com", "https://issuer.example"
NO_CONFIG = "application/vnd.oci.empty.v1+json"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[OciWorld]:
    async with oci_world(tmp_path) as made:
        yield made


async def sign_old(world: OciWorld, digest: str, *layers: tuple[bytes, dict[str, str]]) -> None:
    """Puts signatures of cosign's older form beside an artifact."""
    pusher = world.pusher()
    pushed = []
    for payload, notes in layers:
        descriptor = await pusher.blob(SIMPLE_SIGNING, payload)
        pushed.append(msgspec.structs.replace(descriptor, annotations=notes))
    config = await pusher.blob("application/vnd.oci.image.config.v1+json", b"{}")
    body = encoded(Manifest(config=config, layers=tuple(pushed)))
    await pusher.manifest(f"{digest.replace(':', '-')}.sig", body)


async def refer(world: OciWorld, subject: Descriptor, artifact_type: str, media_type: str, content: bytes) -> None:
    """Puts a manifest that refers to an artifact beside it, as registries without that API keep it."""
    pusher = world.pusher()
    layer, config = await pusher.blob(media_type, content), await pusher.blob(NO_CONFIG, b"{}")
    bare = msgspec.structs.replace(subject, annotations=None)
    made = Manifest(artifact_type=artifact_type, config=config, layers=(layer,), subject=bare)
    body = encoded(made)
    pushed = await pusher.manifest(digest_of(body), body)
    index = Index(manifests=(msgspec.structs.replace(pushed, artifact_type=artifact_type),))
    await pusher.manifest(subject.digest.replace(":", "-"), encoded(index), INDEX)


def verified(obj: OCIRepository) -> tuple[str, str]:
    told = {one.type: (one.status, one.message) for one in obj.status.conditions}
    return told.get("SourceVerified", ("", ""))


def is_refused(error: StepError, said: str) -> None:
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("VerificationError", "SourceVerified")
    assert said in error.message


# -- cosign by key ----------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-OCI-21")
async def test_a_signature_by_any_of_the_keys_will_do(world: OciWorld) -> None:
    ours, other = new_key(), new_key()
    pushed = await world.pusher().push("latest")
    payload = simple_signing(pushed.digest)
    await sign_old(world, pushed.digest, (payload, keyed_annotations(ours, payload)))
    world.secret("keys", {"a.pub": b"junk", "b.pub": public_pem(other), "c.pub": public_pem(ours)})
    obj, _ = await world.run(world.object(verify={"provider": "cosign", "secretRef": {"name": "keys"}}))
    assert verified(obj) == ("True", f"verified signature of revision latest@{pushed.digest}")
    assert obj.status.artifact is not None
    world.secret("keys", {"a.pub": public_pem(other), "c.pem": public_pem(ours)})
    error = await world.failure(world.object(verify={"provider": "cosign", "secretRef": {"name": "keys"}}))
    is_refused(error, "failed to verify the signature using provider 'cosign': no matching signatures were found")


@pytest.mark.spec("SRC-OCI-21")
async def test_a_bundle_that_refers_to_the_artifact_is_a_signature_too(world: OciWorld) -> None:
    key = new_key()
    pushed = await world.pusher().push("latest")
    await refer(world, pushed, BUNDLE, BUNDLE, keyed_bundle(key, statement(pushed.digest)))
    world.secret("keys", {"a.pub": public_pem(key)})
    obj, _ = await world.run(world.object(verify={"provider": "cosign", "secretRef": {"name": "keys"}}))
    assert verified(obj)[0] == "True"


@pytest.mark.spec("SEC-34")
@pytest.mark.parametrize("about", ["another artifact", "a scan", "nothing"])
async def test_a_statement_that_is_no_signature_of_this_artifact_does_not_count(world: OciWorld, about: str) -> None:
    key = new_key()
    pushed = await world.pusher().push("latest")
    made = {
        "another artifact": statement("sha256:" + "0" * 64),
        "a scan": statement(pushed.digest, "https://example.com/scan/v1"),
        "nothing": b"[]",
    }[about]
    await refer(world, pushed, BUNDLE, BUNDLE, keyed_bundle(key, made))
    world.secret("keys", {"a.pub": public_pem(key)})
    error = await world.failure(world.object(verify={"provider": "cosign", "secretRef": {"name": "keys"}}))
    is_refused(error, "no matching signatures were found")


@pytest.mark.spec("SEC-34")
async def test_a_signature_of_another_artifact_does_not_count(world: OciWorld) -> None:
    """The tag of signatures is anybody's to write who may push; only what is signed counts."""
    key = new_key()
    good = await world.pusher().push("good")
    payload = simple_signing(good.digest)
    bad = await world.pusher().push("latest", {"evil": "1"})
    await sign_old(world, bad.digest, (payload, keyed_annotations(key, payload)))
    world.secret("keys", {"a.pub": public_pem(key)})
    error = await world.failure(world.object(verify={"provider": "cosign", "secretRef": {"name": "keys"}}))
    is_refused(error, "no matching signatures were found")


async def test_a_missing_secret_of_keys_is_refused(world: OciWorld) -> None:
    await world.pusher().push("latest")
    error = await world.failure(world.object(verify={"secretRef": {"name": "keys"}}))
    is_refused(error, "not found")


@pytest.mark.spec("SRC-OCI-27", "SEC-34")
async def test_a_tag_that_moved_to_something_unsigned_keeps_the_old_artifact(world: OciWorld) -> None:
    key = new_key()
    pushed = await world.pusher().push("latest")
    payload = simple_signing(pushed.digest)
    await sign_old(world, pushed.digest, (payload, keyed_annotations(key, payload)))
    world.secret("keys", {"a.pub": public_pem(key)})
    obj, _ = await world.run(world.object(verify={"secretRef": {"name": "keys"}}))
    await world.pusher().push("latest", {"evil": "1"})
    error = await world.failure(obj, REQUESTED)
    is_refused(error, "no matching signatures were found")
    assert "artifact" not in error.status
    assert obj.status.artifact is not None
    assert (world.store.root / obj.status.artifact.path).exists()


@pytest.mark.spec("SRC-OCI-26")
async def test_the_same_revision_and_generation_is_not_verified_again(world: OciWorld) -> None:
    key = new_key()
    pushed = await world.pusher().push("latest")
    payload = simple_signing(pushed.digest)
    await sign_old(world, pushed.digest, (payload, keyed_annotations(key, payload)))
    world.secret("keys", {"a.pub": public_pem(key)})
    obj, _ = await world.run(world.object(verify={"secretRef": {"name": "keys"}}))
    world.secret("keys", {"a.pub": public_pem(new_key())})
    world.server.requests.clear()
    obj, _ = await world.run(obj, REQUESTED)
    assert world.server.counts == {"HEAD manifests": 1}
    is_refused(await world.failure(world.changed_spec(obj, interval="2m"), INTERVAL), "no matching signatures")


@pytest.mark.spec("SRC-OCI-26", "SEC-34")
async def test_what_was_not_verified_is_looked_at_again_at_the_same_revision_and_generation(world: OciWorld) -> None:
    await world.pusher().push("latest")
    world.secret("keys", {"a.pub": public_pem(new_key())})
    unsigned, outcome = await world.run(world.object())
    obj = world.changed_spec(unsigned, verify={"secretRef": {"name": "keys"}})
    is_refused(await world.failure(obj), "no matching signatures")
    refused = Condition("SourceVerified", "False", "VerificationError", "no matching signatures")
    obj = world.with_status(obj, msgspec.structs.replace(outcome, conditions=(refused,), remove=()))
    is_refused(await world.failure(obj, REQUESTED), "no matching signatures")


async def test_without_verify_nothing_is_said_of_it_any_more(world: OciWorld) -> None:
    key = new_key()
    pushed = await world.pusher().push("latest")
    payload = simple_signing(pushed.digest)
    await sign_old(world, pushed.digest, (payload, keyed_annotations(key, payload)))
    world.secret("keys", {"a.pub": public_pem(key)})
    obj, _ = await world.run(world.object(verify={"secretRef": {"name": "keys"}}))
    obj, _ = await world.run(world.changed_spec(obj, verify=None), INTERVAL)
    assert verified(obj) == ("", "")


# -- cosign by identity -----------------------------------------------------------------------------------------------


def keyless(*identities: tuple[str, str], root: str = "root") -> dict[str, object]:
    return {
        "provider": "cosign",
        "trustedRootSecretRef": {"name": root},
        "matchOIDCIdentity": [{"issuer": issuer, "subject": subject} for issuer, subject in identities],
    }


@pytest.mark.spec("SRC-OCI-22", "SRC-OCI-23")
@pytest.mark.parametrize("form", ["old", "bundle"])
async def test_one_identity_that_matches_suffices(world: OciWorld, form: str) -> None:
    sigstore = Sigstore()
    pushed = await world.pusher().push("latest")
    if form == "old":
        payload = simple_signing(pushed.digest)
        await sign_old(world, pushed.digest, (payload, sigstore.annotations(payload, ME, ISSUER)))
    else:
        await refer(world, pushed, BUNDLE, BUNDLE, sigstore.bundle(statement(pushed.digest), ME, ISSUER))
    world.secret("root", {"trusted_root.json": sigstore.trusted_root()})
    matching = ("^https://issuer\\.example$", "^me@example\\.com$")
    for identities in ((("nobody", "nobody"), matching), (matching,), ()):
        obj, _ = await world.run(world.object(verify=keyless(*identities)))
        assert verified(obj)[0] == "True"
    for identities in ((("nobody", ".*"),), ((".*", "^you@"),), (("([", ".*"),)):
        is_refused(await world.failure(world.object(verify=keyless(*identities))), "using provider 'cosign keyless'")


@pytest.mark.spec("SRC-OCI-23", "SEC-34")
async def test_another_root_refuses_and_so_does_a_secret_without_one(world: OciWorld) -> None:
    sigstore = Sigstore()
    pushed = await world.pusher().push("latest")
    payload = simple_signing(pushed.digest)
    await sign_old(world, pushed.digest, (payload, sigstore.annotations(payload, ME, ISSUER)))
    world.secret("other", {"trusted_root.json": Sigstore().trusted_root()})
    world.secret("empty", {"root.json": sigstore.trusted_root()})
    world.secret("junk", {"trusted_root.json": b"{"})
    is_refused(await world.failure(world.object(verify=keyless(root="other"))), "no matching signatures")
    is_refused(await world.failure(world.object(verify=keyless(root="empty"))), "'trusted_root.json' not found in")
    is_refused(await world.failure(world.object(verify=keyless(root="junk"))), "trusted root cannot be read")
    is_refused(await world.failure(world.object(verify=keyless(root="missing"))), "not found")
    is_refused(await world.failure(world.object(verify={"provider": "cosign"})), "trustedRootSecretRef is needed")


@pytest.mark.spec("SEC-34")
@pytest.mark.parametrize("without", ["certificate log", "signature log", "authority"])
async def test_evidence_that_the_root_can_judge_must_be_there(world: OciWorld, without: str) -> None:
    sigstore, forger = Sigstore(), Sigstore()
    pushed = await world.pusher().push("latest")
    payload = simple_signing(pushed.digest)
    world.secret("root", {"trusted_root.json": sigstore.trusted_root()})
    name = without.replace(" ", "_")
    setattr(sigstore, name, getattr(forger, name))
    await sign_old(world, pushed.digest, (payload, sigstore.annotations(payload, ME, ISSUER)))
    is_refused(await world.failure(world.object(verify=keyless())), "no matching signatures")


@pytest.mark.spec("SEC-34")
async def test_a_signed_scan_by_the_right_identity_is_no_signature(world: OciWorld) -> None:
    sigstore = Sigstore()
    pushed = await world.pusher().push("latest")
    world.secret("root", {"trusted_root.json": sigstore.trusted_root()})
    scan = sigstore.bundle(statement(pushed.digest, "https://example.com/scan/v1"), ME, ISSUER)
    await refer(world, pushed, BUNDLE, BUNDLE, scan)
    is_refused(await world.failure(world.object(verify=keyless())), "not its signature")


# -- notation ---------------------------------------------------------------------------------------------------------


def notation(name: str = "trust") -> dict[str, object]:
    return {"provider": "notation", "secretRef": {"name": name}}


async def sign_notation(world: OciWorld, pushed: Descriptor, authority: SigningAuthority, digest: str = "") -> None:
    made = notation_envelope(authority, MANIFEST, digest or pushed.digest, pushed.size)
    await refer(world, pushed, SIGNATURE, "application/jose+json", made)


@pytest.mark.spec("SRC-OCI-24")
async def test_notation_needs_a_policy_and_a_certificate(world: OciWorld) -> None:
    authority = SigningAuthority()
    pushed = await world.pusher().push("latest")
    await sign_notation(world, pushed, authority)
    world.secret("trust", {"trustpolicy.json": trust_policy(), "ca.crt": authority.pem})
    obj, _ = await world.run(world.object(verify=notation()))
    assert verified(obj) == ("True", f"verified signature of revision latest@{pushed.digest}")
    world.secret("no-policy", {"ca.crt": authority.pem})
    world.secret("no-certificate", {"trustpolicy.json": trust_policy()})
    world.secret("junk-policy", {"trustpolicy.json": b"{}", "ca.pem": authority.pem})
    for name, said in (
        ("no-policy", "'trustpolicy.json' not found in secret 'default/no-policy'"),
        ("no-certificate", "no certificates found in secret 'default/no-certificate'"),
        ("junk-policy", "trustpolicy.json is not valid"),
        ("missing", "not found"),
    ):
        is_refused(await world.failure(world.object(verify=notation(name))), said)
    is_refused(await world.failure(world.object(verify={"provider": "notation"})), "secret cannot be empty")


@pytest.mark.spec("SEC-34")
@pytest.mark.parametrize("wrong", ["authority", "artifact", "scope", "unsigned"])
async def test_notation_refuses_what_the_policy_does_not_trust(world: OciWorld, wrong: str) -> None:
    authority = SigningAuthority()
    pushed = await world.pusher().push("latest")
    if wrong != "unsigned":
        other = "sha256:" + "0" * 64 if wrong == "artifact" else ""
        await sign_notation(world, pushed, SigningAuthority() if wrong == "authority" else authority, other)
    scopes = ("other.example/app",) if wrong == "scope" else ("*",)
    world.secret("trust", {"trustpolicy.json": trust_policy(scopes=scopes), "ca.crt": authority.pem})
    is_refused(await world.failure(world.object(verify=notation())), "no matching signatures were found")


@pytest.mark.spec("SRC-OCI-25")
async def test_a_policy_that_skips_makes_the_artifact_ready_but_not_verified(world: OciWorld) -> None:
    pushed = await world.pusher().push("latest")
    world.secret("trust", {"trustpolicy.json": trust_policy("skip"), "ca.crt": SigningAuthority().pem})
    obj, outcome = await world.run(world.object(verify=notation()))
    assert obj.status.artifact is not None
    assert outcome.reason == "Succeeded"
    assert verified(obj) == ("", "")
    await sign_notation(world, pushed, SigningAuthority())
    world.secret("trust", {"trustpolicy.json": trust_policy("audit"), "ca.crt": SigningAuthority().pem})
    obj, _ = await world.run(world.object(verify=notation()))
    assert verified(obj) == ("", ""), "an unknown signer is only noted under audit"
    proven = Condition("SourceVerified", "True", "Succeeded", "of an earlier policy")
    obj = world.with_status(obj, msgspec.structs.replace(outcome, conditions=(proven,), remove=()))
    obj, _ = await world.run(world.changed_spec(obj, interval="2m"))
    assert verified(obj) == ("", ""), "what was verified before is said no more"


def test_statements_say_what_they_are() -> None:
    assert json.loads(statement("sha256:00"))["predicateType"] == SIGN
