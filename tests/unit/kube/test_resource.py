from __future__ import annotations

import pytest

from headrace.kube.errors import ConfigError
from headrace.kube.resource import Resource

DEPLOYMENT = Resource("apps", "v1", "Deployment", "deployments", namespaced=True)
NODE = Resource("", "v1", "Node", "nodes", namespaced=False)
ROLE = Resource("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False)


def test_paths_are_those_of_the_api() -> None:
    assert DEPLOYMENT.collection() == "/apis/apps/v1/deployments"
    assert DEPLOYMENT.collection("ns") == "/apis/apps/v1/namespaces/ns/deployments"
    assert DEPLOYMENT.object("ns", "web", "status") == "/apis/apps/v1/namespaces/ns/deployments/web/status"
    assert NODE.object("ignored", "one") == "/api/v1/nodes/one"
    assert ROLE.object("", "system:node") == "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a%2fb", "../../secrets/x"])
def test_a_name_never_leads_to_another_path(name: str) -> None:
    with pytest.raises(ConfigError):
        DEPLOYMENT.object("ns", name)
    with pytest.raises(ConfigError):
        DEPLOYMENT.object(name, "web")


def test_what_is_special_in_urls_is_quoted() -> None:
    assert NODE.object("", "a?b#c d") == "/api/v1/nodes/a%3Fb%23c%20d"
