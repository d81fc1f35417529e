"""What the benchmark delivers: the objects of one app, and the custom resources that name it."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

NAMESPACE = "bench"
CHAIN_NAMESPACE = "bench-chain"
MANDATORY_NAMESPACE = "bench-mandatory"
CHAIN_LENGTH = 21
FIRST_IMAGE = "registry.example.com/app:1.0.0"
OWNER = "kustomize.toolkit.fluxcd.io"


def app_name(index: int) -> str:
    """Name of an app; the paths in the repository sort like the numbers up to 1000."""
    return f"app-{index:03d}"


def app_objects(name: str, namespace: str, image: str = FIRST_IMAGE) -> list[Object]:
    """The four objects of an app. The Deployment has no replicas, so that no pods are measured."""
    return [_service_account(name, namespace), _service(name, namespace), _deployment(name, namespace, image),
            _ingress(name, namespace)]


def config_map(name: str, namespace: str) -> Object:
    """The one object of a link of the chain."""
    return _object("v1", "ConfigMap", name, namespace, data={"link": name})


def git_repository(name: str, namespace: str, url: str) -> Object:
    """A GitRepository that follows branch main and polls once an hour."""
    spec = {"interval": "1h", "url": url, "ref": {"branch": "main"}}
    return _object("source.toolkit.fluxcd.io/v1", "GitRepository", name, namespace, spec=spec)


def oci_repository(name: str, namespace: str, url: str) -> Object:
    """An OCIRepository that follows the tag latest and polls once an hour."""
    spec = {"interval": "1h", "url": url, "ref": {"tag": "latest"}}
    return _object("source.toolkit.fluxcd.io/v1", "OCIRepository", name, namespace, spec=spec)


def kustomization(
    name: str, namespace: str, *, source: str, path: str, depends_on: str = "", kind: str = "GitRepository"
) -> Object:
    """A Kustomization with `wait: true` and an interval of an hour."""
    spec: Object = {"interval": "1h", "path": path, "prune": True, "wait": True, "timeout": "5m",
                    "sourceRef": {"kind": kind, "name": source}}
    if depends_on:
        spec["dependsOn"] = [{"name": depends_on}]
    return _object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", name, namespace, spec=spec)


def _object(api_version: str, kind: str, name: str, namespace: str, **content: object) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **content}


def _service_account(name: str, namespace: str) -> Object:
    return _object("v1", "ServiceAccount", name, namespace, automountServiceAccountToken=False)


def _service(name: str, namespace: str) -> Object:
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]
    return _object("v1", "Service", name, namespace, spec={"selector": {"app": name}, "ports": ports})


def _deployment(name: str, namespace: str, image: str) -> Object:
    container = {"name": "app", "image": image, "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                 "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"serviceAccountName": name, "containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template}
    return _object("apps/v1", "Deployment", name, namespace, spec=spec)


def _ingress(name: str, namespace: str) -> Object:
    backend = {"service": {"name": name, "port": {"name": "http"}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    spec = {"rules": [{"host": f"{name}.example.com", "http": {"paths": [path]}}]}
    return _object("networking.k8s.io/v1", "Ingress", name, namespace, spec=spec)
