"""References to other namespaces under strict tenancy: every one that the API types can express is tried (SEC-24).

The cases are made from the Structs of all kinds, so a kind that is added is tested before anybody has thought of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec import inspect

from headrace.api.kinds import KINDS, KindInfo
from headrace.api.references import NO_REFERENCES, cross_references
from headrace.core.random import Random
from headrace.engine.engine import Engine
from headrace.engine.settings import EngineSettings
from headrace.model.outcome import Outcome
from headrace.model.read import Part
from headrace.model.reference import Reference
from headrace.model.scope import Scope
from tests.unit.engine.virtual_clock import settle
from tests.unit.engine.world import Thing, World, thing

HOME, ELSEWHERE = "team-a", "team-b"
Json = dict[str, Any]


class Case(NamedTuple):
    """One field of one kind that says a namespace. `spec` is a smallest specification in which it names another."""

    info: KindInfo[Any]
    path: str
    spec: Json

    @property
    def name(self) -> str:
        return f"{self.info.kind}.{self.path}"


# -- cases from types --------------------------------------------------------------------------------------------------


def spec_of(info: KindInfo[Any]) -> inspect.StructType:
    whole = inspect.type_info(info.type)
    assert isinstance(whole, inspect.StructType)
    found = next(field.type for field in whole.fields if field.name == "spec")
    assert isinstance(found, inspect.StructType)
    return found


def inner(kind: inspect.Type) -> inspect.Type:
    """What a type holds, without its being optional, many, or described."""
    match kind:
        case inspect.Metadata(type=of):
            return inner(of)
        case inspect.UnionType(types=types):
            return inner(next(t for t in types if not isinstance(t, inspect.NoneType)))
        case inspect.VarTupleType(item_type=of) | inspect.ListType(item_type=of):
            return inner(of)
        case _:
            return kind


def sample(kind: inspect.Type) -> Any:
    """A smallest value of a type."""
    match kind:
        case inspect.Metadata(type=of):
            return sample(of)
        case inspect.StructType(fields=fields):
            return {field.encode_name: sample(field.type) for field in fields if field.required}
        case inspect.VarTupleType() | inspect.ListType():
            return []
        case inspect.DictType():
            return {}
        case inspect.BoolType():
            return False
        case inspect.IntType():
            return 1
        case _:
            return "x"


def many(kind: inspect.Type) -> bool:
    match kind:
        case inspect.Metadata(type=of):
            return many(of)
        case inspect.UnionType(types=types):
            return any(many(t) for t in types)
        case _:
            return isinstance(kind, inspect.VarTupleType | inspect.ListType)


def fields(struct: inspect.StructType, seen: tuple[type, ...] = ()) -> Iterator[tuple[str, inspect.Field, type, Any]]:
    """All fields below a Struct: path, field, the Struct that has it, and how a value of it becomes one of `struct`."""
    for field in struct.fields:
        yield field.encode_name, field, struct.cls, lambda v, f=field: sample(struct) | {f.encode_name: v}
        of = inner(field.type)
        if isinstance(of, inspect.StructType) and of.cls not in seen:
            for path, found, holder, wrap in fields(of, (*seen, of.cls)):
                yield f"{field.encode_name}.{path}", found, holder, _wrapping(struct, field, wrap)


def _wrapping(struct: inspect.StructType, field: inspect.Field, wrap: Any) -> Any:
    def made(value: Any) -> Json:
        content = wrap(value)
        whole: Json = sample(struct) | {field.encode_name: [content] if many(field.type) else content}
        return whole

    return made


def cases() -> Iterator[Case]:
    for info in KINDS.values():
        for path, field, holder, wrap in fields(spec_of(info)):
            if "namespace" in field.name.lower() and (holder.__name__, field.name) not in NO_REFERENCES:
                yield Case(info, path, wrap(ELSEWHERE))


CASES = tuple(cases())


# -- the engine --------------------------------------------------------------------------------------------------------


class Recorder:
    """A controller that would do whatever it is asked, and says that it was asked."""

    finalizer = ""
    parts: tuple[Part, ...] = ()

    def __init__(self, kind: KindInfo[Any]) -> None:
        self.kind = kind
        self.runs = 0

    async def reconcile(self, obj: Any, scope: Scope) -> Outcome:
        self.runs += 1
        return Outcome("Succeeded", "done", after=600.0)

    async def finalize(self, obj: Any, scope: Scope) -> None:
        return None

    def timeout(self, obj: Any) -> float:
        return 60.0

    def suspended(self, obj: Any) -> bool:
        return False

    def retry_interval(self, obj: Any) -> float | None:
        return None


class Served(World):
    """A world whose engine serves one of our kinds."""

    def __init__(self, info: KindInfo[Any], settings: EngineSettings) -> None:
        super().__init__(settings)
        self.recorder = Recorder(info)
        self.engine = Engine(self.objects, [self.recorder], self.statuses, settings, clock=self.clock,
                             random=Random(1), metrics=self.metrics)


STRICT = EngineSettings(isolated=True)


@pytest.mark.spec("SEC-24")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_reference_to_another_namespace_is_denied_before_anything_is_done(case: Case) -> None:
    world = Served(case.info, STRICT)
    app = case.info.reference(HOME, "app")
    async with world.running():
        await world.put(app, spec=case.spec)

        ready = world.objects.condition(app)

    assert ready is not None
    assert (ready["status"], ready["reason"]) == ("False", "AccessDenied")
    assert ELSEWHERE in ready["message"]
    assert world.recorder.runs == 0
    assert world.objects.fetched == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_same_reference_is_served_when_it_leads_home_or_tenancy_is_not_strict(case: Case) -> None:
    app = case.info.reference(HOME, "app")
    home = msgspec.json.decode(msgspec.json.encode(case.spec).replace(ELSEWHERE.encode(), HOME.encode()))
    for settings, spec in ((STRICT, home), (EngineSettings(), case.spec)):
        world = Served(case.info, settings)
        async with world.running():
            await world.put(app, spec=spec)

        assert world.recorder.runs == 1, settings


@pytest.mark.spec("SEC-24")
def test_every_kind_has_its_fields_walked_and_no_reference_hides_in_a_text() -> None:
    """A reference that is a bare text could be `namespace/name`, which nobody would look into."""
    for info in KINDS.values():
        for path, field, _, _ in fields(spec_of(info)):
            if re.search(r"(_ref|_refs|reference|_from)$", field.name):
                of = inner(field.type)
                assert isinstance(of, inspect.StructType), f"{info.kind}.{path} refers to something by a {of}"


def test_the_walk_finds_what_the_types_can_express() -> None:
    names = {case.name for case in CASES}

    assert {"Kustomization.sourceRef.namespace", "Kustomization.dependsOn.namespace",
            "Kustomization.kubeConfig.secretRef.namespace", "GitRepository.secretRef.namespace",
            "GitRepository.verify.secretRef.namespace"} <= names


@pytest.mark.spec("SEC-24")
def test_a_field_for_a_namespace_that_nobody_has_classified_counts_as_a_reference() -> None:
    class Strange(msgspec.Struct, frozen=True):
        other_namespaces: tuple[str, ...] = ()

    class Spec(msgspec.Struct, frozen=True):
        strange: tuple[Strange, ...] = (Strange((ELSEWHERE,)),)

    class Meta(msgspec.Struct, frozen=True):
        namespace: str = HOME

    class Object(msgspec.Struct):
        metadata: Meta = Meta()
        spec: Spec = Spec()

    assert [each.field for each in cross_references(Object(), "Strange")] == ["spec.strange[0].other_namespaces"]


# -- consent of the target ---------------------------------------------------------------------------------------------

KUSTOMIZATION = next(info for info in KINDS.values() if info.kind == "Kustomization")
GIT_REPOSITORY = next(info for info in KINDS.values() if info.kind == "GitRepository")
SPEC = {"interval": "1h", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "lib", "namespace": ELSEWHERE}}


@pytest.mark.spec("SEC-24")
@pytest.mark.parametrize("said", ["", "team-c", "team", "team-a-b"])
async def test_a_target_that_does_not_name_the_consumer_stays_closed(said: str) -> None:
    world = Served(KUSTOMIZATION, STRICT)
    async with world.running():
        annotations = {"headrace.dev/shared-with": said}
        await world.put(GIT_REPOSITORY.reference(ELSEWHERE, "lib"), metadata={"annotations": annotations})
        await world.put(KUSTOMIZATION.reference(HOME, "app"), spec=SPEC)

    assert world.recorder.runs == 0


@pytest.mark.spec("SEC-24")
@pytest.mark.parametrize("said", ["team-a", "team-c, team-a", "*"])
async def test_a_target_that_names_the_consumer_is_open_to_it_from_then_on(said: str) -> None:
    world = Served(KUSTOMIZATION, STRICT)
    lib = GIT_REPOSITORY.reference(ELSEWHERE, "lib")
    async with world.running():
        await world.put(lib, metadata={"annotations": {}})
        await world.put(KUSTOMIZATION.reference(HOME, "app"), spec=SPEC)
        assert world.recorder.runs == 0

        await world.put(lib, metadata={"annotations": {"headrace.dev/shared-with": said}})
        await settle()

    assert world.recorder.runs == 1


async def test_the_answer_does_not_tell_whether_the_target_exists() -> None:
    said = set()
    for exists in (False, True):
        world = Served(KUSTOMIZATION, STRICT)
        app = KUSTOMIZATION.reference(HOME, "app")
        async with world.running():
            if exists:
                await world.put(GIT_REPOSITORY.reference(ELSEWHERE, "lib"), metadata={})
            await world.put(app, spec=SPEC)
            said.add(str(world.objects.condition(app)))

    assert len(said) == 1


# -- verified only -----------------------------------------------------------------------------------------------------

SIGNED = {"verify": {"mode": "HEAD", "secretRef": {"name": "keys"}}}


@pytest.mark.parametrize(("namespaces", "extra", "runs"), [
    pytest.param({HOME}, {}, 0, id="required and missing"),
    pytest.param({"*"}, {}, 0, id="required everywhere and missing"),
    pytest.param({HOME}, SIGNED, 1, id="required and there"),
    pytest.param({ELSEWHERE}, {}, 1, id="required elsewhere"),
])
async def test_the_operator_can_require_verified_sources_by_namespace(
    namespaces: set[str], extra: Json, runs: int
) -> None:
    world = Served(GIT_REPOSITORY, EngineSettings(verified_namespaces=frozenset(namespaces)))
    async with world.running():
        spec = {"interval": "1h", "url": "https://example.com/x"} | extra
        await world.put(GIT_REPOSITORY.reference(HOME, "app"), spec=spec)

    assert world.recorder.runs == runs


# -- by whatever way a controller comes to it --------------------------------------------------------------------------

DATA = Part("data", lambda live: live.content().get("data"), secret=True)
ENGINES = EngineSettings(isolated=True, tenant_account="default", runtime_namespace="flux-system")


@pytest.mark.spec("SEC-24")
@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
@pytest.mark.parametrize(("namespace", "account", "reads"), [
    pytest.param(HOME, (HOME, "default"), True, id="its own, as the tenant"),
    pytest.param(ELSEWHERE, None, False, id="another tenant's"),
    pytest.param("flux-system", None, True, id="the operator's, as the engine"),
])
async def test_a_run_gets_no_data_of_another_namespace(
    kind: str, namespace: str, account: tuple[str, str] | None, reads: bool
) -> None:
    world = World(ENGINES)
    target, app = Reference("", kind, namespace, "data"), thing("app", HOME)
    seen: list[object] = []

    @world.things.does("app")
    async def _(obj: Thing, scope: Scope) -> Outcome:
        seen.append(await scope.read(target, DATA))
        return Outcome("Succeeded", "done", after=600.0)

    async with world.running():
        await world.put(target, data={"k": "v"})
        await world.put(app, spec={})
        ready = world.objects.condition(app)

    assert bool(seen) is reads
    assert ready is not None
    assert ready["reason"] == ("Succeeded" if reads else "AccessDenied")
    assert world.objects.accounts == ([account] if reads else [])


async def test_an_account_that_the_object_names_reads_for_it() -> None:
    world = World(ENGINES)
    target, app = Reference("", "Secret", HOME, "data"), thing("app", HOME)

    @world.things.does("app")
    async def _(obj: Thing, scope: Scope) -> Outcome:
        await scope.read(target, DATA)
        return Outcome("Succeeded", "done", after=600.0)

    async with world.running():
        await world.put(target, data={"k": "v"})
        await world.put(app, spec={"serviceAccountName": "deployer"})

    assert world.objects.accounts == [(HOME, "deployer")]
