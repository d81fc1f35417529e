"""Leader election by a Lease, with client-go's rules and Flux's times (35 s, 30 s, 5 s).

Whether another's lease has run out is judged by our own monotonic clock from the moment we saw it renewed,
never by the times written in it: clocks of machines differ.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from headrace.core.clock import Clock, SystemClock, parse_rfc3339, rfc3339_micro
from headrace.core.random import Random
from headrace.kube.client import Client
from headrace.kube.counter import LEASE
from headrace.kube.errors import AlreadyExists, Conflict, Fenced, KubeError, NotFound
from headrace.kube.resource import Resource
from headrace.model.objects import LiveObject, Metadata

log = logging.getLogger(__name__)

LEASES = Resource(group="coordination.k8s.io", version="v1", kind="Lease", plural="leases", namespaced=True)
_RELEASE_TIMEOUT = 5.0


class LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    """coordination.k8s.io/v1 LeaseSpec."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(msgspec.Struct, frozen=True, rename="camel"):
    """What is needed of a Lease."""

    metadata: Metadata = Metadata()
    spec: LeaseSpec = LeaseSpec()


class LeaseTimes(msgspec.Struct, frozen=True):
    """Seconds. `duration`: how long others leave a silent holder alone; `renew_deadline`: how long the holder
    tries to renew before it gives up, less than `duration`; `retry_period` between two tries."""

    duration: float = 35.0
    renew_deadline: float = 30.0
    retry_period: float = 5.0


class LeaseLost(Exception):
    """The lease is not ours any more: whatever it protects must stop."""


class LeaderElection:
    """One candidate. `identity` must be unique; `holder` is whoever held the lease when it was last seen."""

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        name: str,
        identity: str,
        times: LeaseTimes | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self.identity = identity
        self.holder = ""
        self.leading = False
        self._client = client
        self._namespace = namespace
        self._name = name
        self._times = times or LeaseTimes()
        self._clock: Clock = clock or SystemClock()
        self._random = random or Random()
        self._seen: Lease | None = None
        self._seen_at = 0.0
        self._renewed_at = 0.0

    def fence(self) -> None:
        """Raises Fenced when another may hold the lease by now: to be called before each write.

        A process that was frozen, or whose clock is slow, has had no chance to notice; the cancellation of its work
        comes after the writes that were due. A lease that was renewed in time is nobody else's before it runs out.
        """
        if not self.leading or self._clock.monotonic() - self._renewed_at >= self._times.renew_deadline:
            raise Fenced("nothing is written: the lease was not renewed in time")

    async def run(self, lead: Callable[[], Awaitable[None]], *, on_lost: Callable[[], None] | None = None) -> None:
        """Wait for the lease, run `lead` while it is ours, release it when `lead` ends or this is cancelled.

        When the lease is lost, `on_lost` is called at once, `lead` is cancelled, and LeaseLost is raised.
        What `lead` raises is raised.
        """
        await self.acquire()
        try:
            async with asyncio.TaskGroup() as tasks:
                renewing = tasks.create_task(self._renew(on_lost), name="renew lease")
                await lead()
                renewing.cancel()
        except BaseExceptionGroup as group:
            lost = group.subgroup(LeaseLost)
            raise (lost or group).exceptions[0] from None
        finally:
            await self.release()

    async def acquire(self) -> None:
        """Return once the lease is ours. Tries on through every error of the API server."""
        while not await self._try():
            await self._clock.sleep(self._times.retry_period * self._random.uniform(1.0, 1.2))
        self.leading = True
        log.info("became leader", extra={"lease": f"{self._namespace}/{self._name}", "identity": self.identity})

    async def release(self) -> None:
        """Give the lease up, so that the next one need not wait for it to run out. Never raises."""
        if not self.leading or self._seen is None:
            return
        self.leading = False
        now = rfc3339_micro(self._clock.now())
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now, "acquireTime": now}
        try:
            async with asyncio.timeout(_RELEASE_TIMEOUT):
                await self._write(spec)
        except (KubeError, TimeoutError) as error:
            log.warning("the lease could not be released; it runs out by itself", extra={"error": str(error)})

    async def _renew(self, on_lost: Callable[[], None] | None) -> None:
        times = self._times
        while True:
            await self._clock.sleep(times.retry_period)
            if await self._try():
                continue
            taken = self.holder not in ("", self.identity)
            if taken or self._clock.monotonic() - self._renewed_at >= times.renew_deadline:
                self.leading = False
                if on_lost is not None:
                    on_lost()
                raise LeaseLost(f"the lease is held by {self.holder}" if taken else "the lease could not be renewed")

    async def _try(self) -> bool:
        """Acquire or renew once; whether the lease is ours now."""
        since = self._clock.monotonic()
        try:
            if ours := await self._acquire_or_renew():
                self._renewed_at = since
            return ours
        except (Conflict, AlreadyExists):
            # Somebody else was faster: look again next time.
            self._seen = None
            return False
        except KubeError as error:
            log.warning("the lease could not be acquired or renewed", extra={"error": str(error)})
            return False

    async def _acquire_or_renew(self) -> bool:
        if self.leading and self._seen is not None:
            await self._write({"renewTime": rfc3339_micro(self._clock.now())})
            return True
        try:
            self._look(await self._get())
        except NotFound:
            await self._create()
            return True
        assert self._seen is not None
        if self._held_by_other(self._seen.spec):
            return False
        await self._write(self._own_spec(self._seen.spec))
        return True

    def _held_by_other(self, spec: LeaseSpec) -> bool:
        if not spec.holder_identity or spec.holder_identity == self.identity:
            return False
        duration = spec.lease_duration_seconds or self._times.duration
        return self._clock.monotonic() < self._seen_at + duration

    def _own_spec(self, before: LeaseSpec) -> dict[str, object]:
        now = rfc3339_micro(self._clock.now())
        spec: dict[str, object] = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": round(self._times.duration),
            "renewTime": now,
        }
        if before.holder_identity != self.identity:
            transitions = before.lease_transitions or 0
            spec |= {"acquireTime": now, "leaseTransitions": transitions + bool(before.holder_identity is not None)}
        return spec

    async def _get(self) -> LiveObject:
        timeout = self._times.retry_period
        return await self._client.get(LEASES, self._namespace, self._name, timeout=timeout, purpose=LEASE)

    async def _create(self) -> None:
        spec = self._own_spec(LeaseSpec())
        body = {
            "apiVersion": LEASES.api_version,
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": spec | {"leaseTransitions": 0},
        }
        timeout = self._times.retry_period
        encoded = msgspec.json.encode(body)
        live = await self._client.create(LEASES, self._namespace, encoded, timeout=timeout, purpose=LEASE)
        self._look(live)

    async def _write(self, spec: dict[str, object]) -> None:
        """Change the lease that was seen, and only that version of it."""
        assert self._seen is not None
        body = {"metadata": {"resourceVersion": self._seen.metadata.resource_version}, "spec": spec}
        live = await self._client.patch(
            LEASES,
            self._namespace,
            self._name,
            msgspec.json.encode(body),
            timeout=self._times.retry_period,
            purpose=LEASE,
        )
        self._look(live)

    def _look(self, live: LiveObject) -> None:
        lease = live.decode(Lease)
        if self._seen is None or self._seen.spec != lease.spec:
            self._seen_at = self._clock.monotonic()
        self._seen = lease
        self.holder = lease.spec.holder_identity or ""


def held_now(live: LiveObject, clock: Clock) -> str:
    """The holder that a Lease names, by the times written in it; empty when it has run out.

    For a look at somebody else's lease (Flux's own controllers next door); an election never relies on it.
    """
    spec = live.decode(Lease).spec
    if not spec.holder_identity or spec.renew_time is None:
        return ""
    end = parse_rfc3339(spec.renew_time) + (spec.lease_duration_seconds or 0)
    return spec.holder_identity if clock.now() < end else ""
