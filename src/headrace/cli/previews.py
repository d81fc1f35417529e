"""Rendering and previewing Kustomizations outside of the engine, with the engine's own stages: what `build`, `diff`,
`plan` and `adopt` share."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.api.kinds import KUSTOMIZATION
from headrace.api.kustomization import Kustomization
from headrace.apply.applier import ApplyOptions
from headrace.apply.decision import comparable
from headrace.apply.delivery import DeliveryOptions
from headrace.apply.preview import Preview, Seen, preview
from headrace.cli import paths, sops_mask
from headrace.cli.connect import Target, client_config, cluster_errors, resource_of
from headrace.cli.diff_text import FieldChange, field_changes, masked
from headrace.cli.exits import FAILED, CommandError
from headrace.cli.kustomization_object import Named, combined
from headrace.cli.local_tree import Files, local_files
from headrace.cli.masking import is_secret, mask_secret
from headrace.cli.single_run import SingleRun
from headrace.cli.source_files import SourceFiles
from headrace.controllers.kustomization import ignored, owner_labels
from headrace.controllers.source_artifact import SourcePolicy, Sources
from headrace.controllers.targets import TargetPolicy, Targets
from headrace.controllers.variables import Variables, read_variables
from headrace.core.clock import Clock, SystemClock
from headrace.kube.cluster import Cluster, Clusters
from headrace.kube.errors import NotFound
from headrace.model.errors import StepError
from headrace.model.manifests import Manifests
from headrace.model.plan import Action
from headrace.render.kustomize import RenderOptions, render
from headrace.toolbox import Toolbox, ToolboxError


@dataclass(frozen=True, slots=True)
class Previewed:
    """A preview of one Kustomization, and how to show what differs without a secret."""

    named: Named
    revision: str
    preview: Preview
    variables: Variables

    def fields(self, seen: Seen) -> list[FieldChange]:
        """What differs between an object as it is and as it would be; values of Secrets masked (SEC-36)."""
        if seen.live is None or seen.answer is None:
            return []
        before, after = comparable(seen.live.content()), comparable(seen.answer.content())
        if is_secret(seen.live, seen.answer):
            before, after = mask_secret(before, after)
        return [masked(change, self.variables.masked) for change in field_changes(before, after)]


class Previews:
    """Makes previews. Without clusters nothing is asked of one: variables of ConfigMaps and Secrets are left out."""

    def __init__(
        self, toolbox: Toolbox, clock: Clock, clusters: Clusters | None = None, sources: SourceFiles | None = None
    ) -> None:
        self._toolbox = toolbox
        self._clock = clock
        self._clusters = clusters
        self._sources = sources

    @property
    def cluster(self) -> Cluster:
        """The cluster that holds the Kustomizations."""
        if self._clusters is None:
            raise RuntimeError("there is no cluster in dry-run mode")
        return self._clusters.management

    async def find(self, name: str, namespace: str, file: Path | None) -> Named:
        """The Kustomization. Raises CommandError."""
        live = None
        if self._clusters is not None:
            with contextlib.suppress(NotFound):
                live = await self.cluster.client.get(resource_of(KUSTOMIZATION), namespace, name)
        return combined(name, namespace, file, live)

    async def build(self, named: Named, files: Files, *, strict: bool) -> tuple[Manifests, Variables]:
        """What the Kustomization delivers from these files. Raises StepError, KubeError."""
        ks, post_build = named.ks, named.ks.spec.post_build
        if self._clusters is None and post_build is not None:
            ks = _with_spec(ks, post_build=msgspec.structs.replace(post_build, substitute_from=()))
        variables = await read_variables(ks, self._scope(named))
        options = RenderOptions(labels=owner_labels(ks), strict=strict, allow_remote=True)
        manifests = await render(
            self._toolbox, files.tree, _with_spec(ks, path=files.path), variables.values, options
        )
        shown = tuple(sops_mask.mask_manifest(manifest) for manifest in manifests.items)
        return msgspec.structs.replace(manifests, items=shown), variables

    @contextlib.asynccontextmanager
    async def files(self, named: Named, path: Path | None) -> AsyncIterator[Files]:
        """A local directory, or, without one, the current artifact of the source. Raises CommandError, StepError."""
        spec = named.ks.spec
        if path is not None:
            with local_files(path, spec.path) as files:
                yield files
            return
        sources = Sources(SourcePolicy(external_artifacts=True), self._clock)
        artifact = await sources.artifact(spec.source_ref, named.ks.metadata.namespace, 0.0, self._scope(named))
        assert self._sources is not None
        async with self._sources.open(artifact, spec.path) as files:
            yield files

    async def preview(self, named: Named, path: Path | None) -> Previewed:
        """What a delivery would do. Only reads and dry-runs are sent. Raises CommandError, StepError, KubeError."""
        assert self._clusters is not None
        ks = named.ks
        async with self.files(named, path) as files:
            manifests, variables = await self.build(named, files, strict=True)
        targets = Targets(self._clusters, TargetPolicy(), self._clock)
        target = await targets.open(ks.spec.kube_config, ks.spec.service_account_name, self._scope(named))
        items = tuple(
            msgspec.structs.replace(m, reference=m.reference.on(target.name)) for m in manifests.items
        )
        owned = ks.status.inventory.entries if ks.status.inventory is not None else ()
        found = await preview(
            target, msgspec.structs.replace(manifests, items=items), owned,
            DeliveryOptions(
                labels=owner_labels(ks), prune=ks.spec.prune,
                apply=ApplyOptions(force=ks.spec.force, ignored=ignored(ks.spec)),
            ),
        )
        objects = tuple(map(_known_keys_only, found.objects))
        return Previewed(named, files.revision, msgspec.structs.replace(found, objects=objects), variables)

    def _scope(self, named: Named) -> SingleRun:
        return SingleRun(named.live, self._clusters.management if self._clusters is not None else None)


def _with_spec(ks: Kustomization, **changes: object) -> Kustomization:
    return msgspec.structs.replace(ks, spec=msgspec.structs.replace(ks.spec, **changes))


def _known_keys_only(seen: Seen) -> Seen:
    """An encrypted Secret counts as changed only when its keys differ: its values cannot be compared."""
    if seen.live is None or seen.answer is None or not is_secret(seen.live):
        return seen
    values = sops_mask.unmasked_values(seen.answer, seen.live)
    if seen.action is not Action.CONFIGURED or values == seen.answer.content():
        return seen
    answer = msgspec.structs.replace(seen.answer, raw=msgspec.json.encode(values))
    if comparable(values) == comparable(seen.live.content()):
        return msgspec.structs.replace(seen, action=Action.UNCHANGED, reason="same keys, values encrypted")
    return msgspec.structs.replace(seen, answer=answer)


@contextlib.asynccontextmanager
async def previews(target: Target, *, offline: bool = False) -> AsyncIterator[Previews]:
    """Everything that is needed, for as long as the context is open. Errors of the cluster and of the stages leave as
    CommandErrors."""
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-")))
        stack.enter_context(step_errors())
        toolbox = Toolbox(size=1, network=paths.private(folder / "remote-bases"))
        if offline:
            yield Previews(await stack.enter_async_context(toolbox), clock)
            return
        config = client_config(target.kubeconfig, target.context)
        stack.enter_context(cluster_errors(config.server))
        clusters = await stack.enter_async_context(Clusters(config, user_agent="headrace-cli", clock=clock))
        sources = SourceFiles(clusters.management.client, folder / "artifacts", clock)
        stack.push_async_callback(sources.close)
        yield Previews(await stack.enter_async_context(toolbox), clock, clusters, sources)


@contextlib.contextmanager
def step_errors() -> Iterator[None]:
    """What goes wrong in a stage, as what the user reads."""
    try:
        yield
    except StepError as error:
        raise CommandError(error.message, FAILED) from None
    except ToolboxError as error:
        raise CommandError(error.message, FAILED) from None
