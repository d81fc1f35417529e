import msgspec
import pytest

from headrace.api.kustomization import KustomizationSpec, SourceReference
from headrace.controllers.kustomize.dependencies import Readiness, readiness
from headrace.controllers.kustomize.kustomization import deletes, timeout
from headrace.controllers.kustomize.variables import Variables
from headrace.controllers.sources.artifact import ARTIFACT, artifact_of
from headrace.kube.objects import decode_object
from headrace.model.objects import LiveObject

SPEC = KustomizationSpec(SourceReference("GitRepository", "app"), "10m", prune=True)


def live(**content: object) -> LiveObject:
    meta = {"name": "app", "namespace": "default", "generation": 2}
    return decode_object(msgspec.json.encode({"kind": "X", "metadata": meta} | content))


@pytest.mark.spec("KS-SPEC-05")
@pytest.mark.parametrize(
    ("interval", "stated", "seconds"),
    [("10m", "", 570.0), ("10m", "2m", 120.0), ("10m", "1s", 30.0), ("40s", "", 30.0)],
)
def test_the_timeout_is_the_stated_one_or_follows_the_interval(interval: str, stated: str, seconds: float) -> None:
    assert timeout(msgspec.structs.replace(SPEC, interval=interval, timeout=stated)) == seconds


@pytest.mark.spec("KS-FIN-01", "KS-FIN-02")
@pytest.mark.parametrize(
    ("policy", "prune", "suspend", "wanted"),
    [("", True, False, True), ("", False, False, False), ("", True, True, False),
     ("MirrorPrune", True, False, True), ("MirrorPrune", False, False, False), ("Delete", False, False, True),
     ("WaitForTermination", False, False, True), ("Orphan", True, False, False), ("Delete", True, True, False)],
)
def test_the_deletion_policy_decides(policy: str, prune: bool, suspend: bool, wanted: bool) -> None:
    spec = msgspec.structs.replace(SPEC, deletion_policy=policy, prune=prune, suspend=suspend)
    assert deletes(spec) is wanted


def test_values_of_secrets_are_masked_longest_first() -> None:
    variables = Variables(secrets=("hunter2", "hunter2-and-more", "abc"))
    assert variables.masked("got hunter2-and-more, hunter2 and abc") == "got ***, *** and abc"


def test_an_artifact_that_only_got_a_new_time_is_no_news() -> None:
    artifact = {"path": "p", "url": "http://x/p", "revision": "r", "digest": "sha256:1", "lastUpdateTime": "a"}
    one, two = live(status={"artifact": artifact}), live(status={"artifact": artifact | {"lastUpdateTime": "b"}})
    three = live(status={"artifact": artifact | {"revision": "r2"}})
    assert ARTIFACT.digest(one) == ARTIFACT.digest(two) != ARTIFACT.digest(three)


def test_an_artifact_that_does_not_decode_is_none() -> None:
    assert artifact_of(live(status={"artifact": {"path": 1}})) is None
    assert artifact_of(live()) is None


def test_a_dependency_is_ready_only_at_its_present_generation() -> None:
    spec = {"interval": "1m", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "s"}}
    ready = {"type": "Ready", "status": "True", "reason": "x", "message": "", "lastTransitionTime": "t"}
    source = ("GitRepository", "default", "s")

    def state(**status: object) -> Readiness:
        return readiness(live(spec=spec, status=status))

    assert state(observedGeneration=2, conditions=[ready], lastAppliedRevision="r") == Readiness(True, source, "r")
    assert not state(observedGeneration=1, conditions=[ready]).ready
    assert not state(observedGeneration=2, conditions=[ready | {"status": "False"}]).ready
    assert not state().ready
