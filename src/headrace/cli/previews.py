"""Rendering and previewing Kustomizations outside of the engine, with the engine's own stages: what `build`, `diff`,
`plan` and `adopt` share."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
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
from headrace.cli.diff_text import ABSENT, FieldChange, field_changes, masked
from headrace.cli.engine_settings import engine_settings
from headrace.cli.exits import FAILED, CommandError
from headrace.cli.key_services import key_services
from headrace.cli.kustomization_object import Named, combined
from headrace.cli.local_tree import Files, local_files
from headrace.cli.masking import MASK, is_secret, mask_secret
from headrace.cli.options import kustomization_options
from headrace.cli.single_run import SingleRun
from headrace.cli.source_files import SourceFiles
from headrace.controllers.kustomize.decryption import KeyReader, secret_values
from headrace.controllers.kustomize.handover import claimed
from headrace.controllers.kustomize.kustomization import KustomizationOptions, ignored, owner_labels, prune_budget
from headrace.controllers.kustomize.neighbours import seen_by_others, target_of
from headrace.controllers.kustomize.targets import Targets
from headrace.controllers.kustomize.variables import Variables, read_variables
from headrace.controllers.sources.artifact import SourcePolicy, Sources
from headrace.core.clock import Clock, SystemClock
from headrace.core.egress import EgressPolicy
from headrace.kube.cluster import Cluster, Clusters
from headrace.kube.errors import Forbidden, NotFound
from headrace.kube.tokens import ServiceAccountTokens
from headrace.model.errors import Retry, StepError
from headrace.model.manifests import Manifests
from headrace.model.plan import Action, InventoryEntry
from headrace.model.reference import Reference
from headrace.render.kustomize import DecryptionKeys, RenderOptions, render
from headrace.toolbox import Toolbox, ToolboxError


@dataclass(frozen=True, slots=True)
class Previewed:
    """A preview of one Kustomization, and how to show what differs without a secret."""

    named: Named
    revision: str
    preview: Preview
    variables: Variables
    encrypted: frozenset[str] = frozenset()
    """Kinds, besides Secret, of which something was decrypted for the preview."""
    notes: tuple[str, ...] = ()

    def fields(self, seen: Seen) -> list[FieldChange]:
        """What differs between an object as it is and as it would be; values of Secrets, and all of what was encrypted,
        masked (SEC-36)."""
        if seen.live is None or seen.answer is None:
            return []
        before, after = comparable(seen.live.content()), comparable(seen.answer.content())
        if is_secret(seen.live, seen.answer):
            before, after = mask_secret(before, after)
        changes = [masked(change, self.variables.masked) for change in field_changes(before, after)]
        if self.encrypted.isdisjoint((seen.reference.kind, sops_mask.ANY_KIND)):
            return changes
        return [FieldChange(change.path, _covered(change.before), _covered(change.after)) for change in changes]


def _covered(value: object) -> object:
    return value if value is ABSENT else MASK


class _Rendered(msgspec.Struct, frozen=True):
    """A build, and what has to be known to show it."""

    manifests: Manifests
    variables: Variables
    revision: str
    encrypted: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


class Previews:
    """Makes previews. Without clusters nothing is asked of one: variables of ConfigMaps and Secrets are left out."""

    def __init__(
        self, toolbox: Toolbox, clock: Clock, clusters: Clusters | None = None, sources: SourceFiles | None = None,
        options: KustomizationOptions | None = None,
    ) -> None:
        self._options = options or KustomizationOptions()
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

    async def build(
        self, named: Named, files: Files, *, strict: bool, keys: DecryptionKeys | None = None
    ) -> tuple[Manifests, Variables]:
        """What the Kustomization delivers from these files, decrypted with `keys`; what was decrypted into Secrets is
        among what the variables mask. Raises StepError, KubeError."""
        ks, post_build = named.ks, named.ks.spec.post_build
        if self._clusters is None and post_build is not None:
            ks = _with_spec(ks, post_build=msgspec.structs.replace(post_build, substitute_from=()))
        variables = await read_variables(ks, self._scope(named))
        options = RenderOptions(
            labels=owner_labels(ks), strict=strict, allow_remote=not self._options.no_remote_bases, keys=keys)
        manifests = await render(
            self._toolbox, files.tree, _with_spec(ks, path=files.path), variables.values, options
        )
        if keys is not None:
            secrets = (*variables.secrets, *secret_values(manifests.items))
            return manifests, msgspec.structs.replace(variables, secrets=secrets)
        shown = tuple(sops_mask.mask_manifest(manifest) for manifest in manifests.items)
        return msgspec.structs.replace(manifests, items=shown), variables

    @contextlib.asynccontextmanager
    async def files(self, named: Named, path: Path | None, *, encrypted: bool = False) -> AsyncIterator[Files]:
        """A local directory, or, without one, the current artifact of the source; what is encrypted in it masked,
        unless it is wanted as it is. Raises CommandError, StepError."""
        spec = named.ks.spec
        if path is not None:
            with local_files(path, spec.path, encrypted=encrypted) as files:
                yield files
            return
        sources = Sources(SourcePolicy(external_artifacts=True))
        artifact = await sources.artifact(spec.source_ref, named.ks.metadata.namespace, 0.0, self._scope(named))
        assert self._sources is not None
        async with self._sources.open(artifact, spec.path, encrypted=encrypted) as files:
            yield files

    async def _render(self, named: Named, path: Path | None) -> _Rendered:
        """What would be delivered: decrypted where whoever asks may read the keys and they fit, else with masks."""
        keys, note = await self._keys(named), ""
        if keys is not None:
            try:
                async with self.files(named, path, encrypted=True) as files:
                    manifests, variables = await self.build(named, files, strict=True, keys=keys)
                    kinds = sops_mask.encrypted_kinds(files.tree.directory)
                    return _Rendered(manifests, variables, files.revision, kinds)
            except Retry as error:
                note = f"not decrypted, so values of encrypted Secrets are not compared: {error.message}"
        async with self.files(named, path) as files:
            manifests, variables = await self.build(named, files, strict=True)
            return _Rendered(manifests, variables, files.revision, notes=(note,) if note else ())

    async def _keys(self, named: Named) -> DecryptionKeys | None:
        """The keys of spec.decryption; None where there are none for whoever runs the command."""
        try:
            return await KeyReader(self._options.decryption).read(named.ks.spec.decryption, self._scope(named))
        except (Retry, Forbidden):
            return None

    async def preview(self, named: Named, path: Path | None) -> Previewed:
        """What a delivery would do. Only reads and dry-runs are sent. Raises CommandError, StepError, KubeError."""
        assert self._clusters is not None
        ks, options = named.ks, self._options
        rendered = await self._render(named, path)
        manifests = rendered.manifests
        targets = Targets(
            self._clusters, options.targets, self._clock, ServiceAccountTokens(self.cluster.client, self._clock))
        target = await targets.open(ks.spec.kube_config, ks.spec.service_account_name, self._scope(named))
        items = tuple(
            msgspec.structs.replace(m, reference=m.reference.on(target.name)) for m in manifests.items
        )
        owned = ks.status.inventory.entries if ks.status.inventory is not None else ()
        found = await preview(
            target, msgspec.structs.replace(manifests, items=items), owned,
            DeliveryOptions(
                labels=owner_labels(ks), prune=ks.spec.prune, custom_stages=options.custom_stages,
                apply=ApplyOptions(
                    force=ks.spec.force, ignored=ignored(ks.spec), concurrent=options.concurrent_ssa,
                    guard=options.guard,
                ),
                budget=prune_budget(ks, options, rendered.revision),
            ),
            await self._claims(named, owned) if ks.spec.prune else {},
        )
        objects = tuple(map(_known_keys_only, found.objects))
        return Previewed(
            named, rendered.revision, msgspec.structs.replace(found, objects=objects), rendered.variables,
            rendered.encrypted, rendered.notes,
        )

    async def _claims(self, named: Named, owned: Iterable[InventoryEntry]) -> dict[str, Reference]:
        """What of an inventory other Kustomizations of the same cluster list as theirs: it is handed over. Nothing for
        those who may not list them."""
        ids = [entry.id for entry in owned]
        if not ids:
            return {}
        try:
            listing = await self.cluster.client.list(resource_of(KUSTOMIZATION), "")
        except Forbidden:
            return {}
        others = [seen for live in listing.items if live.reference != named.live.reference
                  and (seen := seen_by_others(live)) is not None]
        return claimed([o for o in others if o.target == target_of(named.ks) and not o.deleting], ids)

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
        network = paths.private(folder / "remote-bases")
        if offline:
            toolbox = Toolbox(size=1, network=network)
            yield Previews(await stack.enter_async_context(toolbox), clock)
            return
        config = client_config(target.kubeconfig, target.context)
        settings = await engine_settings(config.server)
        # Whoever runs the command runs it on a machine of their own: nothing on it is closed to them.
        policy = EgressPolicy(allow_loopback=True, allow_hosts=frozenset(settings.tenancy.allow_hosts))
        toolbox = Toolbox(size=1, network=network, key_services=key_services(settings.apply, policy))
        stack.enter_context(cluster_errors(config.server))
        clusters = await stack.enter_async_context(Clusters(config, user_agent="headrace-cli", clock=clock))
        sources = SourceFiles(clusters.management.client, folder / "artifacts", clock)
        stack.push_async_callback(sources.close)
        yield Previews(
            await stack.enter_async_context(toolbox), clock, clusters, sources, kustomization_options(settings)
        )


@contextlib.contextmanager
def step_errors() -> Iterator[None]:
    """What goes wrong in a stage, as what the user reads."""
    try:
        yield
    except StepError as error:
        raise CommandError(error.message, FAILED) from None
    except ToolboxError as error:
        raise CommandError(error.message, FAILED) from None
