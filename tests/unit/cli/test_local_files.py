import json
from pathlib import Path

import pytest

from headrace.cli.exits import NOT_FOUND, USAGE, CommandError
from headrace.cli.kustomization_object import combined
from headrace.cli.local_tree import local_files, root_of
from headrace.cli.source_files import service_path
from headrace.kube.objects import decode_object

KUSTOMIZATION = """
apiVersion: v1
kind: ConfigMap
metadata: {name: app}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: app%s}
spec: {interval: 1h, prune: true, path: ./new, sourceRef: {kind: GitRepository, name: app}}
"""
STORED = {
    "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
    "metadata": {"name": "app", "namespace": "team", "uid": "u1"},
    "spec": {"interval": "1h", "prune": True, "path": "./old", "sourceRef": {"kind": "GitRepository", "name": "app"}},
    "status": {"inventory": {"entries": [{"id": "team_a__ConfigMap", "v": "v1"}]}},
}
SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: s}
data: {a: "ENC[AES256_GCM,data:x]"}
sops: {mac: "ENC[AES256_GCM,data:y]"}
"""


def test_the_root_is_what_stands_before_the_path_of_the_specification() -> None:
    assert root_of(Path("/repo/apps/prod"), "./apps/prod") == Path("/repo")
    assert root_of(Path("/repo/apps/prod"), "apps/prod/") == Path("/repo")


def test_the_root_is_the_work_tree_when_the_path_is_another(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    directory = tmp_path / "deploy" / "prod"
    directory.mkdir(parents=True)
    assert root_of(directory, "./apps") == tmp_path


def test_a_directory_without_surroundings_is_its_own_root(tmp_path: Path) -> None:
    assert root_of(tmp_path, "./") == tmp_path


def test_encrypted_secrets_are_masked_in_a_copy_and_stay_as_they_are_in_the_directory(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SECRET)
    (tmp_path / "plain.yaml").write_text("a: 1\n")
    with local_files(tmp_path, "") as files:
        assert files.tree.directory != tmp_path
        assert "ENC[" not in (files.tree.directory / "s.yaml").read_text()
        assert (files.tree.directory / "plain.yaml").read_text() == "a: 1\n"
    assert not files.tree.directory.exists()
    assert (tmp_path / "s.yaml").read_text() == SECRET


def test_a_directory_with_nothing_encrypted_is_used_as_it_is(tmp_path: Path) -> None:
    with local_files(tmp_path, "") as files:
        assert (files.tree.directory, files.path) == (tmp_path, "./.")


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="invalid resource path"), local_files(tmp_path / "none", ""):
        pass


@pytest.mark.parametrize("namespace", ["", ", namespace: team"])
def test_the_specification_of_a_file_goes_before_the_clusters_which_keeps_the_inventory(
    tmp_path: Path, namespace: str
) -> None:
    file = tmp_path / "ks.yaml"
    file.write_text(KUSTOMIZATION % namespace)
    live = decode_object(json.dumps(STORED).encode())
    found = combined("app", "team", file, live).ks
    assert (found.spec.path, found.metadata.namespace) == ("./new", "team")
    assert found.status.inventory is not None
    assert found.status.inventory.entries[0].id == "team_a__ConfigMap"
    assert combined("app", "team", file, None).ks.status.inventory is None


def test_a_kustomization_of_another_namespace_is_not_taken(tmp_path: Path) -> None:
    file = tmp_path / "ks.yaml"
    file.write_text(KUSTOMIZATION % ", namespace: other")
    with pytest.raises(CommandError, match="failed to find kustomization with name 'app'") as error:
        combined("app", "team", file, None)
    assert error.value.code == USAGE


def test_a_kustomization_that_is_nowhere_is_not_found() -> None:
    with pytest.raises(CommandError) as error:
        combined("app", "team", None, None)
    assert error.value.code == NOT_FOUND


def test_an_address_in_the_cluster_is_reached_through_the_api_server() -> None:
    url = "http://source-controller.flux-system.svc.cluster.local./gitrepository/a/b/c.tar.gz"
    assert service_path(url) == (
        "/api/v1/namespaces/flux-system/services/http:source-controller:80/proxy/gitrepository/a/b/c.tar.gz")
    assert service_path("http://headrace.x.svc:9090/a") == "/api/v1/namespaces/x/services/http:headrace:9090/proxy/a"
    assert service_path("http://127.0.0.1:9090/a") == ""
