from headrace.apply.rivalry import FORGOTTEN, FREE, Rivalry, last_manager, other_owner
from headrace.core.backoff import Backoff
from headrace.model.reference import Reference
from tests.unit.apply.builders import OWNER, field, live

REF = Reference("apps", "Deployment", "default", "web")


class ManualClock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


def test_the_first_corrections_are_immediate_and_later_ones_wait_longer_and_longer() -> None:
    clock = ManualClock()
    rivalry = Rivalry(clock, Backoff(1.0, 60.0))
    delays = []
    for _ in range(12):
        rivalry.corrected(REF)
        delays.append(rivalry.delay(REF))
        clock.time += delays[-1]
    assert delays[: FREE - 1] == [0.0] * (FREE - 1)
    assert 0 < delays[FREE - 1] < delays[FREE + 1] < delays[FREE + 3]
    assert max(delays) <= 60.001
    assert rivalry.fighting(REF)


def test_an_object_that_was_left_alone_for_long_starts_anew() -> None:
    clock = ManualClock()
    rivalry = Rivalry(clock, Backoff(1.0, 60.0))
    for _ in range(FREE + 1):
        rivalry.corrected(REF)
    clock.time += FORGOTTEN + 60
    rivalry.corrected(REF)
    assert rivalry.delay(REF) == 0.0
    assert not rivalry.fighting(REF)


def test_the_rival_is_who_wrote_last_besides_us_and_writers_of_status() -> None:
    fields = [field(time="2026-11-21T12:00:00Z"), field("first", "Update"),
              field("second", "Update", time="2026-11-21T11:00:00Z"),
              field("kubelet", "Update", time="2026-11-21T13:00:00Z", subresource="status")]
    assert last_manager(live(fields=fields)) == "second"
    assert last_manager(live()) == ""


def test_another_owner_is_named_when_either_label_differs() -> None:
    assert other_owner(live(labels=OWNER).metadata, OWNER) == ""
    assert other_owner(live(labels=None).metadata, OWNER) == ""
    for name, value, said in (("name", "b", "default/b"), ("namespace", "b", "b/app")):
        labels = OWNER | {f"kustomize.toolkit.fluxcd.io/{name}": value}
        assert other_owner(live(labels=labels).metadata, OWNER) == f"Kustomization/{said}"


def test_other_objects_are_not_delayed() -> None:
    rivalry = Rivalry(ManualClock(), Backoff(1.0, 60.0))
    for _ in range(FREE + 1):
        rivalry.corrected(REF)
    assert rivalry.delay(Reference("apps", "Deployment", "default", "other")) == 0.0
