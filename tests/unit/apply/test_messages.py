import pytest

from headrace.apply.messages import apply_failure, cures, dry_run_failure, namespace_missing, stage_failed
from headrace.kube.errors import Forbidden, Invalid, NoMatch, NotFound, ServerError, StatusDetails, Unreachable
from headrace.model.cures import access_reference, admission_reference, settled_reference
from headrace.model.plan import Action, Change, ChangeSet
from headrace.model.reference import Reference
from tests.unit.apply.builders import manifest

WANTED = manifest(cluster="remote-1")
INVALID = Invalid(422, "Invalid", "no good")


def test_a_refusal_is_told_in_upstreams_words_with_the_file() -> None:
    assert dry_run_failure(WANTED, INVALID).message == (
        "ConfigMap/default/app dry-run failed (Invalid): no good (from configmap.yaml)")
    missing = NotFound(404, "NotFound", 'namespaces "default" not found')
    assert dry_run_failure(WANTED, missing).message == (
        'ConfigMap/default/app not found: namespaces "default" not found (from configmap.yaml)')
    assert apply_failure(WANTED, INVALID).message == (
        "ConfigMap/default/app apply failed: no good (from configmap.yaml)")
    assert dry_run_failure(WANTED, NoMatch("x.io", "Y", "v1")).message.startswith(
        'ConfigMap/default/app dry-run failed: no matches for kind "Y" in version "x.io/v1"')


def test_a_missing_namespace_field_is_told_without_asking() -> None:
    bare = manifest(namespace="")
    assert namespace_missing(bare).message.startswith("ConfigMap/app namespace not specified: ")


def test_an_error_knows_what_would_cure_it() -> None:
    reference = WANTED.reference
    assert cures(reference, NoMatch("x.io", "Y")) == (Reference("x.io", "Y", "", "", "remote-1"),)
    missing = NotFound(404, "NotFound", 'namespaces "default" not found', StatusDetails("default", "", "namespaces"))
    assert cures(reference, missing) == (Reference("", "Namespace", "", "default", "remote-1"),)
    unknown_path = NotFound(404, "NotFound", "the server could not find the requested resource")
    assert cures(reference, unknown_path) == (settled_reference("", "ConfigMap", "remote-1"),)
    assert cures(reference, Forbidden(403, "Forbidden", "no")) == (access_reference("default", "remote-1"),)
    assert cures(reference, Unreachable("refused"))[0].cluster == "remote-1"
    assert cures(reference, INVALID) == ()


@pytest.mark.parametrize(
    ("message", "namespace", "service"),
    [
        ('failed calling webhook "x": Post "https://hook.infra.svc:443/?timeout=5s": refused', "infra", "hook"),
        ('failed calling webhook "x": Post "https://hook.example.com/": refused', "", ""),
        ('admission webhook "x" denied the request: because', "", ""),
        ("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: because", "", ""),
    ],
)
def test_a_refused_admission_is_cured_by_the_service_that_the_message_names(
    message: str, namespace: str, service: str
) -> None:
    for error in (ServerError(500, "InternalError", message), Forbidden(403, "Forbidden", message)):
        assert cures(WANTED.reference, error) == (admission_reference(namespace, service, "remote-1"),)


@pytest.mark.spec("KS-APPLY-23")
def test_the_error_of_a_stage_lists_every_failure_and_what_was_done_before() -> None:
    done = ChangeSet((Change(Reference("", "Namespace", "", "ns"), Action.CREATED),
                      Change(Reference("", "Namespace", "", "same"), Action.UNCHANGED)))
    error = stage_failed([dry_run_failure(WANTED, INVALID), apply_failure(WANTED, INVALID)], done)
    assert error.message.splitlines()[2:] == ["Namespace/ns created"]
    assert len(error.message.splitlines()) == 3
    assert error.objects == (WANTED.reference, WANTED.reference)
