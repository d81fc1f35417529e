"""Faults at random: what is done to the engine, its connection, the API server and the objects, and what ends it.

Which fault comes when is drawn from the seed alone; what it meets depends on the moment, which is the point.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from headrace.cluster import EmbeddedCluster
from headrace.kube.client import MERGE_PATCH, Client
from headrace.kube.errors import ApiError, KubeError
from headrace.kube.resource import Resource
from tests.fault.model.commits import POOL
from tests.fault.model.desired import GROUP, HOME, OWNERS, Item, Json, Key, manifest
from tests.fault.model.judge import NAME, NAMESPACE, Foreign
from tests.fault.model.observer import PATHS
from tests.fault.model.process import EngineProcess
from tests.servers.fault_proxy import FaultProxy, Match

Undo = Callable[[], Awaitable[None]]

STATUSES = {
    400: "BadRequest", 409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError",
    503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip
PLACES = ("", "/configmaps", "/secrets", "/deployments", "/widgets", "/kustomizations", "/gitrepositories", "/status",
          "/apis$", "/events")  # fmt: skip
YEAR, DAY = 365 * 86400.0, 86400.0
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
DENIED = "denied"
"""The ConfigMap whose keys are the names of objects that the policy guards, and whose values are verbs."""

POLICY: list[Json] = [
    {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "denied"},
        "spec": {
            "failurePolicy": "Fail", "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["", "apps", GROUP], "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE", "DELETE"],
                "resources": ["configmaps", "secrets", "serviceaccounts", "deployments", "widgets"],
            }]},
            "matchConditions": [{"name": "others", "expression": "has(request.name) && request.name != 'denied'"}],
            "validations": [{
                "expression": "!has(params.data) || !(request.name in params.data)"
                              " || !params.data[request.name].contains(request.operation)",
                "message": "the policy denies this for a while",
            }],
        },
    },
    {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "denied"},
        "spec": {
            "policyName": "denied", "validationActions": ["Deny"],
            "paramRef": {"name": DENIED, "namespace": HOME, "parameterNotFoundAction": "Allow"},
        },
    },
]  # fmt: skip


@dataclass
class Trouble:
    """See the module. `begin` does one fault and returns what ends it; `foreign` says what was done to objects."""

    client: Client
    cluster: EmbeddedCluster
    proxy: FaultProxy
    engine: EngineProcess
    foreign: Foreign
    tell: Callable[[str], None]
    counts: dict[str, int] = field(default_factory=dict)
    _down: bool = False

    async def begin(self, what: str, chance: random.Random) -> Undo:
        self.counts[what] = self.counts.get(what, 0) + 1
        undo: Undo = await getattr(self, what)(chance)
        return undo

    # -- the engine ------------------------------------------------------------------------------------------------

    async def kill(self, chance: random.Random) -> Undo:
        await asyncio.sleep(chance.uniform(0.0, 0.4))
        self.tell("kill -9 of the engine")
        await self.engine.kill()
        return self.engine.start

    async def freeze(self, chance: random.Random) -> Undo:
        await asyncio.sleep(chance.uniform(0.0, 0.3))
        self.tell("the engine is frozen")
        self.engine.freeze()
        return _afterwards(self.engine.thaw)

    async def clock(self, chance: random.Random) -> Undo:
        wrong = chance.choice((YEAR, -DAY, 3600.0, -40.0, 0.0))
        self.tell(f"the clock is wrong by {wrong:g}s")
        self.engine.set_clock(wrong)
        return _nothing

    # -- the connection --------------------------------------------------------------------------------------------

    def _requests(self, chance: random.Random) -> Match:
        match: Match = {"path": chance.choice(PLACES), "watch": False, "times": chance.choice((1, 1, 2, 5, 12))}
        if chance.random() < 0.7:
            match["method"] = chance.choice(("PATCH", "PATCH", "GET", "DELETE", "POST"))
        return match

    async def refusals(self, chance: random.Random) -> Undo:
        status, match = chance.choice((409, 429, 500, 500, 503, 504)), self._requests(chance)
        if status == 409:
            match["method"] = chance.choice(("PATCH", "DELETE"))
        reason = STATUSES[status]
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason,
                "message": f"made up: {reason}"}  # fmt: skip
        headers = {"Content-Type": "application/json"} | ({"Retry-After": "1"} if status == 429 else {})
        plain = status >= 500 and chance.random() < 0.5
        self.tell(f"{status} to {match}{' without a body' if plain else ''}")
        fault = self.proxy.fail(status, headers={} if plain else headers,
                                body=b"" if plain else json.dumps(body).encode(), **match)  # fmt: skip
        return self._removal(fault)

    async def resets(self, chance: random.Random) -> Undo:
        match, answered = self._requests(chance), chance.random() < 0.6
        self.tell(f"reset {'after' if answered else 'before'} the request: {match}")
        return self._removal(self.proxy.reset(answered=answered, **match))

    async def slowness(self, chance: random.Random) -> Undo:
        match, seconds = self._requests(chance), chance.uniform(0.1, 1.5)
        self.tell(f"{seconds:.1f}s later: {match}")
        return self._removal(self.proxy.delay(seconds, **match))

    async def truncation(self, chance: random.Random) -> Undo:
        match = self._requests(chance)
        self.tell(f"answers broken off: {match}")
        return self._removal(self.proxy.truncate(chance.choice((0, 20, 300)), **match))

    async def partition(self, chance: random.Random) -> Undo:
        self.tell("partition")
        self.proxy.partition()
        return _afterwards(self.proxy.heal)

    async def watch_loss(self, chance: random.Random) -> Undo:
        """Open watches end, or new ones are of no use."""
        place, times = chance.choice(PLACES[:7]), chance.choice((1, 3, None))
        kind = chance.choice(("end", "reset", "410", "error", "truncate", "silence"))
        self.tell(f"watches of '{place}' {times} times: {kind}")
        match: Match = {"path": place, "times": times}
        match_watch: Match = {**match, "watch": True}
        code = 410 if kind == "410" else 500
        status = {"kind": "Status", "status": "Failure", "code": code, "reason": STATUSES[code], "message": "made up"}
        fault = None
        if kind in ("410", "error"):
            fault = self.proxy.insert_event({"type": "ERROR", "object": status}, **match)
        elif kind == "truncate":
            fault = self.proxy.truncate(chance.choice((10, 700, 4000)), **match_watch)
        elif kind == "silence":
            fault = self.proxy.silence(path=place)
        if kind != "silence":
            self.proxy.end_watches(reset=kind == "reset")
        return _nothing if fault is None else self._removal(fault)

    def _removal(self, fault: object) -> Undo:
        async def remove() -> None:
            with contextlib.suppress(ValueError):
                self.proxy.remove(fault)  # type: ignore[arg-type]

        return remove

    # -- the API server --------------------------------------------------------------------------------------------

    async def api_server(self, chance: random.Random) -> Undo:
        """kill -9; its supervisor starts it again."""
        info = self.cluster.status()
        if info is None or self._down:
            return _nothing
        self.tell("kill -9 of the API server")
        self._down = True
        os.kill(info.pids["kube-apiserver"], signal.SIGKILL)
        return self._served

    async def _served(self) -> None:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(KubeError):
                    await self.client.request("GET", "/readyz", timeout=2)
                    break
                await asyncio.sleep(0.1)
        self._down = False
        self.tell("the API server serves again")

    async def denial(self, chance: random.Random) -> Undo:
        """A policy of the cluster denies what is done to some objects, by whomever."""
        verbs = ",".join(chance.sample(("CREATE", "UPDATE", "DELETE"), chance.randint(1, 3)))
        names = sorted({key.name for key in chance.sample(POOL, 4)})
        self.tell(f"denied: {verbs} of {names}")
        await self._deny(dict.fromkeys(names, verbs))

        async def allow() -> None:
            await self._deny(dict.fromkeys(names))

        return allow

    async def _deny(self, data: dict[str, str | None] | dict[str, str] | dict[str, None]) -> None:
        body = json.dumps({"data": data}).encode()
        while True:
            try:
                await self.client.patch(CONFIG_MAPS, HOME, DENIED, body, content_type=MERGE_PATCH)
                return
            except KubeError:
                await asyncio.sleep(0.2)  # the API server may be away

    # -- somebody else ---------------------------------------------------------------------------------------------

    async def somebody(self, chance: random.Random) -> Undo:
        """One to three objects are edited, deleted, made foreign, or made by somebody else."""
        for _ in range(chance.randint(1, 3)):
            key = chance.choice(POOL)
            what = chance.choice(("edit", "edit", "delete", "strip", "create", "create", "add", "forge"))
            await self._meddle(key, what, chance)
        return _nothing

    async def _meddle(self, key: Key, what: str, chance: random.Random) -> None:
        manager = chance.choice(("somebody", "kubectl-edit"))
        path, collection = _path(key), _collection(key)
        uid = ""
        try:
            if what == "create":
                item = Item(key, f"foreign-{chance.randrange(1000)}")
                answer = await self._send("POST", collection, manifest(item), manager)
            elif what == "delete":
                live = json.loads(await self.client.request("GET", path))
                uid = live["metadata"]["uid"]
                self.foreign.deleted.add(uid)
                await self.client.request("DELETE", path, body=json.dumps({"preconditions": {"uid": uid}}).encode())
                self.tell(f"somebody deletes {key}")
                return
            else:
                answer = await self._send("PATCH", path, _patch(key, what, chance), manager)
            self.foreign.versions.add(int(json.loads(answer)["metadata"]["resourceVersion"]))
            self.tell(f"somebody ({manager}): {what} {key}")
        except ApiError as error:
            if not 400 <= error.status < 500:
                self._unsure(key)
            else:
                self.foreign.deleted.discard(uid)
        except KubeError:
            self._unsure(key)

    def _unsure(self, key: Key) -> None:
        self.tell(f"whether somebody did anything to {key} is not known")
        self.foreign.unsure.add(key)

    async def _send(self, method: str, path: str, body: Json, manager: str) -> bytes:
        kind = MERGE_PATCH if method == "PATCH" else None
        query = {"fieldManager": manager}
        return await self.client.request(
            method, path, query=query, body=json.dumps(body).encode(), content_type=kind, timeout=10
        )


def _patch(key: Key, what: str, chance: random.Random) -> Json:
    """A merge patch of somebody who edits a value, adds one, takes the owner labels away, or puts some on."""
    if what in ("strip", "forge"):
        labels = {NAME: None, NAMESPACE: None}
        if what == "forge":
            labels = {NAME: chance.choice(OWNERS), NAMESPACE: HOME}  # type: ignore[dict-item]
        return {"metadata": {"labels": labels}}
    field_name, text = ("foreign" if what == "add" else "value"), f"foreign-{chance.randrange(1000)}"
    match key.kind:
        case "ConfigMap":
            return {"data": {field_name: text}}
        case "Secret":
            return {"data": {field_name: base64.b64encode(text.encode()).decode()}}
        case "Widget":
            return {"spec": {field_name: text}}
        case "Deployment":
            return {"spec": {"replicas": chance.choice((0, 2))}}
    return {"metadata": {"annotations": {f"{GROUP}/{field_name}": text}}}


def _collection(key: Key) -> str:
    prefix, _, plural = PATHS[key.kind].rpartition("/")
    return f"{prefix}/namespaces/{key.namespace}/{plural}"


def _path(key: Key) -> str:
    return f"{_collection(key)}/{key.name}"


async def _nothing() -> None:
    """Nothing is to be ended."""


def _afterwards(end: Callable[[], object]) -> Undo:
    async def undo() -> None:
        end()

    return undo


FAULTS: dict[str, int] = {
    "kill": 12, "freeze": 4, "clock": 6, "refusals": 20, "resets": 14, "slowness": 8, "truncation": 6, "partition": 3,
    "watch_loss": 14, "denial": 10, "somebody": 25,
}  # fmt: skip
"""Weights; the API server is killed now and then by the run itself."""

