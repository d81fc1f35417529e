"""`headrace install` and `uninstall`: the manifests printed, checked by the API server, or applied."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import orjson

from headrace import api
from headrace.api.kinds import KINDS
from headrace.cli.connect import FIELD_MANAGER, Connection, Target, connect
from headrace.cli.exits import OK
from headrace.cli.manifests import NAME, InstallOptions, Manifest, manifests
from headrace.cli.output import action, success, waiting, warning
from headrace.kube.errors import NoMatch, NotFound
from headrace.kube.resource import Resource
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference, split_api_version

_CRD = ("apiextensions.k8s.io", "CustomResourceDefinition")
_ESTABLISHED_SECONDS = 30.0


async def install(target: Target, options: InstallOptions, *, export: bool, dry_run: bool) -> int:
    """Print (`export`), check (`dry_run`) or apply CRDs and engine. CRDs of others are left as they are."""
    if export:
        print_manifests([*crds(), *manifests(options, crds())])
        return OK
    async with connect(target) as connection:
        await install_crds(connection, dry_run=dry_run)
        for manifest in manifests(options, crds()):
            await apply(connection, manifest, dry_run=dry_run)
    if not dry_run and not options.cluster_admin:
        _explain_rights(options)
    return OK


def print_manifests(found: Sequence[Manifest]) -> None:
    """YAML documents on stdout, fit for `kubectl apply -f -`."""
    import yaml

    yaml.dump_all(found, sys.stdout, Dumper=yaml.CSafeDumper, sort_keys=False, explicit_start=True)


def crds() -> list[Manifest]:
    """The CRDs as data."""
    import yaml

    return [yaml.load(document, Loader=yaml.CSafeLoader) for document in api.crds()]


async def install_crds(
    connection: Connection, *, dry_run: bool = False, annotations: dict[str, str] | None = None, quiet: bool = False
) -> None:
    """Apply the CRDs and wait until they are served. One that somebody else installed stays as it is."""
    resource = await connection.discovery.resource(*_CRD)
    for crd in crds():
        name = crd["metadata"]["name"]
        if await _foreign(connection, resource, name):
            warning(f"CustomResourceDefinition/{name} is installed by somebody else and stays as it is")
            continue
        crd["metadata"]["annotations"] = {**crd["metadata"].get("annotations", {}), **(annotations or {})}
        await apply(connection, crd, dry_run=dry_run, quiet=quiet)
    if not dry_run:
        async with asyncio.timeout(_ESTABLISHED_SECONDS):
            for info in KINDS.values():
                await connection.discovery.wait(info.group, info.kind, info.storage_version)


async def _foreign(connection: Connection, resource: Resource, name: str) -> bool:
    """Whether a CRD is there that is not ours."""
    try:
        live = await connection.client.get(resource, "", name, metadata_only=True)
    except NotFound:
        return False
    return live.metadata.label("app.kubernetes.io/managed-by") != NAME


async def apply(
    connection: Connection, manifest: Manifest, *, dry_run: bool = False, quiet: bool = False
) -> LiveObject:
    """Apply one object server-side; returns it as it is now. A dry run is made in `default` while the namespace is not
    there yet."""
    group, version = split_api_version(manifest["apiVersion"])
    resource = await connection.discovery.resource(group, manifest["kind"], version)
    metadata = manifest["metadata"]
    namespace = metadata.get("namespace", "")
    if dry_run and namespace and not await _exists(connection, namespace):
        namespace, manifest = "default", {**manifest, "metadata": {**metadata, "namespace": "default"}}
    body = orjson.dumps(manifest)
    applied = await connection.client.apply(
        resource, namespace, metadata["name"], body, field_manager=FIELD_MANAGER, dry_run=dry_run
    )
    if not quiet:
        reference = Reference(group, manifest["kind"], metadata.get("namespace", ""), metadata["name"])
        success(f"{reference} {'would be applied' if dry_run else 'applied'}")
    return applied.live


async def _exists(connection: Connection, namespace: str) -> bool:
    return await connection.find(Reference("", "Namespace", "", namespace)) is not None


async def uninstall(target: Target, *, keep_crds: bool) -> int:
    """Delete the engine, then (unless `keep_crds`) the CRDs. Objects lose their finalizers first, so that nothing that
    was delivered is deleted with them. The namespace stays: others may live there."""
    options = InstallOptions(namespace=target.namespace, cluster_admin=True, storage="1Gi", tenancy="strict")
    async with connect(target) as connection:
        engine = [m for m in manifests(options, crds()) if m["kind"] != "Namespace"]
        for manifest in reversed(engine):
            await _delete(connection, manifest)
        if not keep_crds:
            await _release_objects(connection)
            for crd in crds():
                await _delete_own_crd(connection, crd)
    return OK


async def _delete(connection: Connection, manifest: dict[str, Any]) -> None:
    group, version = split_api_version(manifest["apiVersion"])
    metadata = manifest["metadata"]
    try:
        resource = await connection.discovery.resource(group, manifest["kind"], version)
        await connection.client.delete(
            resource, metadata.get("namespace", ""), metadata["name"], propagation="Background"
        )
    except (NotFound, NoMatch):
        return
    reference = Reference(group, manifest["kind"], metadata.get("namespace", ""), metadata["name"])
    success(f"{reference} deleted")


async def _delete_own_crd(connection: Connection, crd: dict[str, Any]) -> None:
    resource = await connection.discovery.resource(*_CRD)
    if await _foreign(connection, resource, crd["metadata"]["name"]):
        warning(f"CustomResourceDefinition/{crd['metadata']['name']} is installed by somebody else and stays")
        return
    await _delete(connection, crd)


async def _release_objects(connection: Connection) -> None:
    """Take our finalizer off all objects: their deletion with the CRD must not wait for an engine that is gone."""
    from headrace.api.meta import FINALIZER
    from headrace.cli.connect import resource_of

    waiting("releasing the objects of all kinds; what they delivered stays")
    for info in KINDS.values():
        for live in await connection.list(info, ""):
            kept = [name for name in live.metadata.finalizers or () if name != FINALIZER]
            body = orjson.dumps({"metadata": {"finalizers": kept, "resourceVersion": live.metadata.resource_version}})
            await connection.client.patch(resource_of(info), live.reference.namespace, live.reference.name, body)


def _explain_rights(options: InstallOptions) -> None:
    if options.default_service_account:
        action(f"objects without serviceAccountName are delivered as '{options.default_service_account}'")
        return
    warning(
        "the engine itself may only read: objects need spec.serviceAccountName with the rights to deliver, or install "
        "with --default-service-account NAME, or with --cluster-admin as Flux does"
    )
