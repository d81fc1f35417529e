"""What a failed attempt leaves in the status, by how far it came."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headrace.api.kustomization import Kustomization
from headrace.controllers.kustomize.attempt import Attempt
from headrace.kube.errors import Unreachable
from headrace.model.artifact import Artifact
from headrace.model.errors import Retry, Stalled, StepError
from tests.manual_clock import ManualClock

ARTIFACT = Artifact("p", "http://x/p", "main@sha1:2", metadata={"org.opencontainers.image.revision": "v1@sha1:9"})
SPEC = {"interval": "1m", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "app"}}


def attempt() -> Attempt:
    content = {"metadata": {"name": "app", "namespace": "default"}, "spec": SPEC}
    return Attempt(msgspec.json.decode(msgspec.json.encode(content), type=Kustomization), ARTIFACT, ManualClock())


def status_of(error: Exception, digest: str = "") -> dict[str, Any]:
    tried = attempt()
    tried.digest = digest
    with pytest.raises(StepError) as failed, tried.recorded():
        raise error
    return dict(failed.value.status)


@pytest.mark.spec("KS-REC-10")
def test_a_revision_without_the_path_was_not_attempted() -> None:
    assert status_of(Retry("ArtifactFailed", "kustomization path not found: x")) == {}


@pytest.mark.spec("KS-REC-10", "KS-REC-12")
@pytest.mark.parametrize("error", [Retry("BuildFailed", "x"), Stalled("AccessDenied", "x"), Unreachable("x")])
def test_what_fails_before_the_manifests_are_known_was_attempted_and_is_not_in_the_history(error: Exception) -> None:
    assert status_of(error) == {"lastAttemptedRevision": "main@sha1:2"}


@pytest.mark.spec("KS-REC-11", "KS-REC-12")
def test_what_fails_later_is_in_the_history_with_its_reason_and_both_revisions() -> None:
    status = status_of(Retry("HealthCheckFailed", "x", status={"inventory": {"entries": []}}), "sha256:1")
    (entry,) = status.pop("history")
    assert status == {"lastAttemptedRevision": "main@sha1:2", "inventory": {"entries": []}}
    assert (entry["digest"], entry["lastReconciledStatus"]) == ("sha256:1", "HealthCheckFailed")
    assert entry["metadata"] == {"revision": "main@sha1:2", "originRevision": "v1@sha1:9"}


def test_a_bug_passes_unchanged() -> None:
    with pytest.raises(ZeroDivisionError), attempt().recorded():
        raise ZeroDivisionError
