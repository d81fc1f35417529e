"""Pure decisions about other Kustomizations: who holds a teardown, who claims objects, which revision is newer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headrace.api.kinds import GIT_REPOSITORY, KUSTOMIZATION
from headrace.api.kustomization import Kustomization
from headrace.controllers.kustomize.coherence import Repository, knows, repository, same_url
from headrace.controllers.kustomize.handover import claimed, has_handled, is_new
from headrace.controllers.kustomize.neighbours import Neighbour, seen_by_others
from headrace.controllers.kustomize.teardown import holders
from headrace.kube.objects import decode_object
from headrace.model.reference import Reference


def ref(name: str) -> Reference:
    return KUSTOMIZATION.reference("ns", name)


def other(name: str, *depends_on: str, **fields: Any) -> Neighbour:
    return Neighbour(
        reference=ref(name), uid=name, source=("GitRepository", "ns", "app"), target=(),
        depends_on=tuple(map(ref, depends_on)), inventory=fields.pop("inventory", frozenset()), **fields,
    )


def test_a_dependent_that_is_deleted_too_goes_first() -> None:
    assert holders(ref("a"), (), [other("b", "a", deleting=True, finalizing=True)]) == (ref("b"),)


@pytest.mark.parametrize("fields", [{}, {"deleting": True}], ids=["stays", "has only foreign finalizers left"])
def test_a_dependent_with_nothing_left_to_tear_down_holds_nothing(fields: dict[str, bool]) -> None:
    assert holders(ref("a"), (), [other("b", "a", **fields)]) == ()


def test_a_circle_holds_none_of_its_members_but_those_below_it() -> None:
    leaving = {"deleting": True, "finalizing": True}
    b, c = other("b", "a", "c", **leaving), other("c", **leaving)
    assert holders(ref("a"), (ref("b"),), [b, c]) == ()
    assert holders(ref("c"), (), [b, other("a", "b", **leaving)]) == (ref("b"),)
    assert holders(ref("a"), (ref("a"),), []) == ()


def viewed(*, generation: int = 2, observed: int = 2, deleted: bool = False, finalizer: str = "", **spec: Any) -> Any:
    """A Kustomization in the eyes of another, whose generation and Ready condition may be behind."""
    metadata = {"name": "b", "namespace": "ns", "uid": "u", "generation": generation, "resourceVersion": "1",
                "finalizers": [finalizer] if finalizer else []}
    condition = {"type": "Ready", "status": "True", "reason": "R", "message": "", "observedGeneration": observed,
                 "lastTransitionTime": "2027-01-01T00:00:00Z"}
    status = {"conditions": [condition], "observedGeneration": observed, "lastAppliedRevision": "r1",
              "lastAttemptedRevision": "r2", "inventory": {"entries": [{"id": "ns_x__ConfigMap", "v": "v1"}]}}
    stated = {"interval": "1h", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "app"}} | spec
    content = {"apiVersion": KUSTOMIZATION.api_version, "kind": "Kustomization", "spec": stated, "status": status,
               "metadata": metadata | ({"deletionTimestamp": "2027-01-01T00:00:00Z"} if deleted else {})}
    return seen_by_others(decode_object(msgspec.json.encode(content)))


def test_a_neighbour_is_seen_as_its_object_says() -> None:
    seen = viewed(dependsOn=[{"name": "a"}, {"name": "c", "namespace": "other"}])
    assert seen == Neighbour(
        reference=ref("b"), uid="u", source=("GitRepository", "ns", "app"), target=(),
        depends_on=(ref("a"), KUSTOMIZATION.reference("other", "c")), inventory=frozenset({"ns_x__ConfigMap"}),
        ready="True", reason="R", current=True, told=True, applied="r1", attempted="r2")
    assert viewed(suspend=True).suspended
    behind = viewed(generation=3)
    assert (behind.current, behind.told) == (False, False)


@pytest.mark.parametrize(("finalizer", "finalizing"), [("finalizers.fluxcd.io", True), ("other/one", False)])
def test_a_neighbour_is_torn_down_as_long_as_our_finalizer_stays(finalizer: str, finalizing: bool) -> None:
    assert not viewed(finalizer=finalizer).finalizing
    seen = viewed(finalizer=finalizer, deleted=True)
    assert (seen.deleting, seen.finalizing) == (True, finalizing)


def test_kubeconfigs_tell_clusters_apart() -> None:
    configs: list[dict[str, Any]] = [
        {"secretRef": {"name": "x"}}, {"secretRef": {"name": "y"}}, {"secretRef": {"name": "x", "key": "k"}},
        {"configMapRef": {"name": "x"}}]
    assert len({viewed(kubeConfig=config).target for config in configs} | {viewed().target}) == 5


def test_what_another_inventory_lists_is_claimed() -> None:
    others = [other("b", inventory=frozenset({"x", "y"})), other("c", inventory=frozenset({"z"}))]
    assert claimed(others, ["x", "z", "w"]) == {"x": ref("b"), "z": ref("c")}


def test_a_success_says_what_is_wanted_at_its_revision() -> None:
    done = {"current": True, "ready": "True", "applied": "r2"}
    assert has_handled(other("b", **done), "r2")
    for missing in ({"current": False}, {"ready": "False"}, {"applied": "r1"}):
        assert not has_handled(other("b", **(done | missing)), "r2")


def test_a_failure_after_the_inventory_was_written_says_what_is_wanted() -> None:
    failed = {"ready": "False", "told": True, "attempted": "r2", "reason": "HealthCheckFailed"}
    assert has_handled(other("b", **failed), "r2")
    for missing in ({"told": False}, {"attempted": "r1"}, {"reason": "BuildFailed"}):
        assert not has_handled(other("b", **(failed | missing)), "r2")


def test_of_other_failures_only_the_run_knows_whether_the_inventory_was_written() -> None:
    failed = other("b", ready="False", told=True, attempted="r2", reason="ReconciliationFailed")
    assert not has_handled(failed, "r2")
    assert not has_handled(failed, "r2", "r1")
    assert has_handled(failed, "r2", "r2")


def test_one_that_has_failed_or_is_suspended_is_not_new() -> None:
    assert is_new(other("b"))
    for fields in ({"ready": "False"}, {"attempted": "r1"}, {"suspended": True}):
        assert not is_new(other("b", **fields))


@pytest.mark.parametrize("url", [
    "https://example.com/org/app", "https://example.com/org/app/", "https://example.com/org/app.git",
    "https://user:pass@EXAMPLE.com/org/app.git",
])  # fmt: skip
def test_one_repository_has_many_spellings(url: str) -> None:
    assert same_url(url) == "https://example.com/org/app"


def git_repository(url: str = "https://example.com/app", **ref: str) -> Repository:
    spec = {"interval": "1m", "url": url} | ({"ref": ref} if ref else {})
    content = {"apiVersion": GIT_REPOSITORY.api_version, "kind": "GitRepository", "metadata": {"name": "app"},
               "spec": spec}
    found = repository(decode_object(msgspec.json.encode(content)))
    assert found is not None
    return found


def test_sources_follow_the_same_with_one_url_and_one_ref_which_is_master_when_unset() -> None:
    plain = git_repository()
    assert plain.follows_the_same(git_repository(branch="master"))
    assert git_repository(tag="v1").follows_the_same(git_repository("https://example.com/app.git", tag="v1"))
    for other in (git_repository(branch="main"), git_repository(tag="v1"), git_repository("https://example.com/b")):
        assert not plain.follows_the_same(other)


def test_the_path_of_a_repository_counts_as_it_is_written() -> None:
    assert same_url("https://example.com/org/App") != same_url("https://example.com/org/app")


def test_a_revision_is_known_from_the_history_of_successes_or_from_this_process() -> None:
    def snapshot(revision: str, status: str) -> dict[str, Any]:
        return {"digest": "d", "firstReconciled": "2027-01-01T00:00:00Z", "lastReconciled": "2027-01-01T00:00:00Z",
                "lastReconciledDuration": "1s", "lastReconciledStatus": status, "totalReconciliations": 1,
                "metadata": {"revision": revision}}

    history = [snapshot("r2", "ReconciliationSucceeded"), snapshot("r1", "BuildFailed")]
    content = {"metadata": {"name": "b"}, "status": {"history": history},
               "spec": {"interval": "1h", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "app"}}}
    ks = msgspec.json.decode(msgspec.json.encode(content), type=Kustomization)
    assert knows(ks, frozenset(), "r2")
    assert not knows(ks, frozenset(), "r1")
    assert knows(ks, frozenset({"r0"}), "r0")
