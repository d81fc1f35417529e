import base64

import msgspec
import pytest

from headrace.api.kustomization import Decryption, KustomizationSpec, SourceReference
from headrace.controllers.kustomize.decryption import DecryptionPolicy, check_decryption, keep_secret
from headrace.core.redaction import redact
from headrace.core.secrecy import keeping_secrets
from headrace.model.errors import Stalled
from headrace.model.manifests import Manifest
from headrace.model.reference import Reference
from headrace.render.kustomize import DecryptionKeys
from headrace.toolbox import BuildKeys

SPEC = KustomizationSpec(SourceReference("GitRepository", "app"), "10m", prune=True)


def manifest(kind: str, value: str) -> Manifest:
    body = msgspec.json.encode({"data": {"k": base64.b64encode(value.encode()).decode()}})
    return Manifest(Reference("", kind, "default", "s"), "v1", body, "d")


@pytest.mark.spec("KS-SOPS-13")
def test_values_of_delivered_secrets_are_taken_out_of_messages() -> None:
    with keeping_secrets():
        keep_secret([manifest("Secret", "open-sesame"), manifest("ConfigMap", "well-known")])
        encoded = base64.b64encode(b"open-sesame").decode()
        assert redact(f"refused open-sesame ({encoded}), well-known") == "refused *** (***), well-known"


def test_keys_are_not_shown_by_accident() -> None:
    assert "AGE" not in repr(DecryptionKeys("default/keys", BuildKeys(entries={"a.agekey": b"AGE-SECRET-KEY-1"})))


@pytest.mark.spec("KS-SOPS-13")
def test_age_keys_of_both_sorts_are_taken_out_of_messages() -> None:
    assert redact("AGE-SECRET-KEY-1ABC AGE-SECRET-KEY-PQ-1ABC") == "*** ***"


def test_an_identity_of_a_workload_is_refused_and_nothing_else() -> None:
    off = DecryptionPolicy()
    named = msgspec.structs.replace(SPEC, decryption=Decryption("sops", service_account_name="x"))
    check_decryption(SPEC, off)
    check_decryption(msgspec.structs.replace(SPEC, decryption=Decryption("sops")), off)
    with pytest.raises(Stalled, match="ObjectLevelWorkloadIdentity"):
        check_decryption(named, off)
    check_decryption(named, DecryptionPolicy(workload_identity=True))
