"""`headrace up` and the commands beside it, as a user types them. One cluster for the whole file; the tests go from an
empty home to an empty home, in their order."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import CommandLine, Process, until

pytestmark = pytest.mark.timeout(300)

EXAMPLE = Path(__file__).parents[2] / "examples" / "hello"
REFUSED = 6


@pytest.fixture(scope="module")
def headrace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    home = tmp_path_factory.mktemp("home")
    headrace = CommandLine(home)
    yield headrace
    headrace("down", "--delete")


@pytest.fixture(scope="module")
def directory(headrace: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example that has been delivered once."""
    copy = tmp_path_factory.mktemp("work") / "hello"
    shutil.copytree(EXAMPLE, copy)
    done = headrace("up", copy, "--once", "--timeout", "2m", timeout=240)
    assert done.code == 0, done.said
    return copy


@pytest.fixture(scope="module")
def up(headrace: CommandLine, directory: Path) -> Iterator[Process]:
    """`headrace up DIR` in the foreground."""
    process = headrace.start("up", directory)
    process.until_said("✔ Kustomization/flux-system/app applied revision")
    yield process
    process.kill()


def replicas(headrace: CommandLine) -> str:
    return headrace.kubectl("get", "deployment", "web", "-n", "hello", "-o", "jsonpath={.spec.replicas}")


def revision(headrace: CommandLine) -> str:
    """What the root source has fetched."""
    path = "jsonpath={.status.artifact.revision}"
    return headrace.kubectl("get", "gitrepository", "flux-system", "-n", "flux-system", "-o", path)


def save(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_once_delivers_and_leaves_the_cluster_running(headrace: CommandLine, directory: Path) -> None:
    table = headrace("get", "all").ok()
    assert table.count("\tTrue ") == 4
    assert "gitrepository/flux-system" in table
    assert headrace.kubectl("get", "job", "greet", "-n", "hello", "-o", "jsonpath={.status.succeeded}") == "1"
    page = headrace.kubectl("get", "configmap", "page", "-n", "hello", "-o", "jsonpath={.data}")
    assert "Hello, world!" in page


def test_kubectl_shows_the_columns_of_upstream(headrace: CommandLine, directory: Path) -> None:
    out = headrace.kubectl("get", "gitrepositories,kustomizations", "-n", "flux-system")
    assert out.splitlines()[0].split() == ["NAME", "URL", "AGE", "READY", "STATUS"]
    assert ["NAME", "AGE", "READY", "STATUS"] in [line.split() for line in out.splitlines()]


def test_the_tree_goes_through_nested_kustomizations(headrace: CommandLine, directory: Path) -> None:
    lines = headrace("tree", "kustomization", "flux-system").ok().splitlines()
    assert lines[0] == "Kustomization/flux-system/flux-system"
    assert "├── Kustomization/flux-system/app" in lines
    assert "│   └── Deployment/hello/web" in lines
    data = headrace("tree", "ks/flux-system", "-o", "json").data()
    assert {child["name"] for child in data["resources"]} == {"app", "infra"}


def test_a_saved_file_is_delivered(headrace: CommandLine, directory: Path, up: Process) -> None:
    assert replicas(headrace) == "2"
    save(directory / "infra" / "settings.yaml", 'replicas: "2"', 'replicas: "3"')
    until(lambda: replicas(headrace) == "3", "three replicas")
    assert up.running


def test_the_directory_itself_is_not_touched(directory: Path, up: Process) -> None:
    assert not (directory / ".git").exists()
    names = {p.relative_to(directory).as_posix() for p in directory.rglob("*")}
    assert names == {p.relative_to(EXAMPLE).as_posix() for p in EXAMPLE.rglob("*")}


def test_a_broken_manifest_is_explained_by_file_and_object_and_nothing_is_pruned(
    headrace: CommandLine, directory: Path, up: Process
) -> None:
    save(directory / "app" / "deployment.yaml", "replicas: ${replicas:=1}", "replicas: many")
    explained = until(
        lambda: (e := headrace("explain", "ks", "app")).code == 1 and "file:" in e.out and e, "an explanation"
    )
    assert explained
    assert "Deployment/hello/web" in explained.out
    assert "file: app/deployment.yaml" in explained.out
    assert "to unblock: correct app/deployment.yaml and push" in explained.out
    data = headrace("explain", "ks/app", "-o", "json")
    assert '"file": "app/deployment.yaml"' in data.out
    assert replicas(headrace) == "3"
    save(directory / "app" / "deployment.yaml", "replicas: many", "replicas: ${replicas:=1}")
    until(lambda: headrace("explain", "ks", "app").code == 0, "the object Ready again")


def test_a_pod_that_no_node_fits_is_the_root_cause(headrace: CommandLine, directory: Path, up: Process) -> None:
    deployment = directory / "app" / "deployment.yaml"
    save(deployment, "    spec:\n      containers", "    spec:\n      nodeSelector: {disk: ssd}\n      containers")
    explained = until(
        lambda: "Unschedulable" in (e := headrace("explain", "kustomization/app")).out and e, "an explanation"
    )
    assert explained
    assert "root cause: Pod/hello/web-" in explained.out
    assert "to unblock: add a node with the label disk=ssd" in explained.out
    assert "blocked since: " in explained.out
    assert "next wake-up: " in explained.out
    save(deployment, "      nodeSelector: {disk: ssd}\n", "")
    # The fixing commit does not wait for the timeout of the health check, which is 2 minutes.
    until(lambda: headrace("explain", "ks", "app").code == 0, "the object Ready again")


def test_reconcile_waits_for_the_run_it_asked_for(headrace: CommandLine, up: Process) -> None:
    done = headrace("reconcile", "kustomization", "app", "--with-source")
    assert done.code == 0, done.said
    lines = done.err.splitlines()
    assert lines[0] == "► annotating GitRepository flux-system in flux-system namespace"
    assert lines[-1].startswith("✔ applied revision main@sha1:")


def test_a_suspended_object_stays_as_it_is_until_it_is_resumed(
    headrace: CommandLine, directory: Path, up: Process
) -> None:
    headrace("suspend", "ks", "app").ok()
    refused = headrace("reconcile", "ks", "app")
    assert (refused.code, "suspended" in refused.err) == (1, True)
    assert "headrace resume kustomization app" in headrace("explain", "ks", "app").out
    before = revision(headrace)
    save(directory / "app" / "configmap.yaml", "${subject}!", "${subject}?")
    until(lambda: revision(headrace) != before, "the new commit")
    headrace("reconcile", "ks", "infra").ok()
    page = ("get", "configmap", "page", "-n", "hello", "-o", "jsonpath={.data}")
    assert "world!" in headrace.kubectl(*page)
    resumed = headrace("resume", "ks", "app")
    assert resumed.code == 0, resumed.said
    assert "world?" in headrace.kubectl(*page)


def test_a_removed_file_is_pruned(headrace: CommandLine, directory: Path, up: Process) -> None:
    (directory / "app" / "service.yaml").unlink()
    until(lambda: "web" not in headrace.kubectl("get", "service", "-n", "hello", "-o", "name"), "the Service pruned")


def test_drift_is_corrected(headrace: CommandLine, up: Process) -> None:
    headrace.kubectl("delete", "deployment", "web", "-n", "hello", "--wait=false")
    until(lambda: "web" in headrace.kubectl("get", "deployment", "-n", "hello", "-o", "name"), "the Deployment again")
    headrace.kubectl("scale", "deployment", "web", "-n", "hello", "--replicas=7")
    until(lambda: replicas(headrace) == "3", "the replicas of the source")
    headrace.kubectl("label", "deployment", "web", "-n", "hello", "kustomize.toolkit.fluxcd.io/name-")
    owned = ("get", "deployment", "-n", "hello", "-l", "kustomize.toolkit.fluxcd.io/name=app", "-o", "name")
    until(lambda: "web" in headrace.kubectl(*owned), "the owner label again")


def test_check_finds_everything_in_order(headrace: CommandLine, up: Process) -> None:
    done = headrace("check")
    assert done.code == 0, done.said
    assert "runs here (pid" in done.err


def test_a_second_up_is_refused(headrace: CommandLine, directory: Path, up: Process) -> None:
    done = headrace("up", directory, "--once")
    assert done.code == REFUSED
    assert "another headrace up is running" in done.err


def test_run_refuses_beside_a_live_flux_controller(headrace: CommandLine, up: Process) -> None:
    lease = """
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: kustomize-controller-leader-election, namespace: default}
spec: {holderIdentity: kustomize-controller-0_1, leaseDurationSeconds: 3600, renewTime: "%s"}
"""
    now = headrace.kubectl("get", "lease", "-n", "flux-system", "headrace-leader-election", "-o",
                           "jsonpath={.spec.renewTime}")  # fmt: skip
    headrace.kubectl("apply", "-f", "-", stdin=lease % now)
    done = headrace("run", "--metrics-addr=", "--health-addr=")
    assert done.code == REFUSED
    assert "default/kustomize-controller-leader-election held by kustomize-controller-0_1" in done.err
    headrace.kubectl("delete", "lease", "-n", "default", "kustomize-controller-leader-election")


@pytest.mark.spec("REL-35")
def test_sigterm_drains_and_releases_the_lease(headrace: CommandLine, up: Process) -> None:
    holder = ("get", "lease", "-n", "flux-system", "headrace-leader-election", "-o", "jsonpath={.spec.holderIdentity}")
    assert headrace.kubectl(*holder) != ""
    assert up.stop() == 0
    assert headrace.kubectl(*holder) == ""


def test_down_stops_the_cluster_and_keeps_its_data(headrace: CommandLine, directory: Path, up: Process) -> None:
    assert "cluster stopped" in headrace("down").err
    assert headrace("get", "ks").code == 3
    done = headrace("up", directory, "--once", timeout=240)
    assert done.code == 0, done.said


def test_down_ends_the_up_that_is_running(headrace: CommandLine, directory: Path) -> None:
    process = headrace.start("up", directory)
    process.until_said("✔ Kustomization/flux-system/app applied revision")
    assert headrace("down").code == 0
    until(lambda: not process.running, "the end of up")
    assert process.stop() == 0


def test_down_delete_leaves_nothing(headrace: CommandLine) -> None:
    headrace("down", "--delete").ok()
    assert not (Path(headrace.env["XDG_STATE_HOME"]) / "headrace").exists()
