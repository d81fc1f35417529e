from headrace.apply.rivalry import FORGOTTEN, FREE, Rivalry
from headrace.core.backoff import Backoff
from headrace.model.reference import Reference

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


def test_other_objects_are_not_delayed() -> None:
    rivalry = Rivalry(ManualClock(), Backoff(1.0, 60.0))
    for _ in range(FREE + 1):
        rivalry.corrected(REF)
    assert rivalry.delay(Reference("apps", "Deployment", "default", "other")) == 0.0
