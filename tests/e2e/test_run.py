"""`headrace run`: shards, leaders, probes and metrics. On the shared control plane, as a shard of its own, so that it
serves nothing but its own objects."""

from __future__ import annotations

import hashlib
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import headrace.api
from headrace.edge.listen import free_port
from tests.e2e.command_line import CommandLine, Process, until
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.timeout(300)

CRDS = Path(headrace.api.__file__).parent / "crds"
CANARY = "s3cr3t-canary"

REPOSITORY = """
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: %(name)s, namespace: %(namespace)s, labels: {%(label)s}}
spec: {interval: 1h, url: "https://user:%(canary)s@127.0.0.1:9/nothing"}
"""


@dataclass
class Shard:
    """A namespace with the objects of one shard, and the command line of an administrator."""

    namespace: str
    headrace: CommandLine

    @property
    def selector(self) -> str:
        return f"sharding.fluxcd.io/key={self.namespace}"

    @property
    def lease(self) -> str:
        digest = hashlib.sha256(self.selector.encode()).hexdigest()[:8]
        return f"headrace-leader-election-{digest}"

    def holder(self) -> str:
        return self.headrace.kubectl("get", "lease", self.lease, "-n", self.namespace, "-o",
                                     "jsonpath={.spec.holderIdentity}")  # fmt: skip

    def create(self, name: str, label: str) -> None:
        text = REPOSITORY % {"name": name, "namespace": self.namespace, "label": label, "canary": CANARY}
        self.headrace.kubectl("apply", "-f", "-", stdin=text)

    def reason(self, name: str) -> str:
        path = 'jsonpath={.status.conditions[?(@.type=="Ready")].reason}'
        return self.headrace.kubectl("get", "gitrepository", name, "-n", self.namespace, "-o", path)


class Engine:
    """`headrace run` of a shard, and what it answers."""

    def __init__(self, shard: Shard, home: Path) -> None:
        self._health, self._metrics, self._storage = free_port(), free_port(), free_port()
        self.process: Process = shard.headrace.start(
            "run", f"--watch-label-selector={shard.selector}", f"--runtime-namespace={shard.namespace}",
            "--enable-leader-election=true", f"--health-addr=127.0.0.1:{self._health}",
            f"--metrics-addr=127.0.0.1:{self._metrics}", f"--storage-addr=127.0.0.1:{self._storage}",
            f"--storage-path={home}", f"--socket={home}/engine.sock", "--leader-election-retry-period=1s",
        )  # fmt: skip

    def get(self, port: int, path: str) -> tuple[int, str]:
        """Status and text of an answer; 0 when nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> tuple[int, str]:
        return self.get(self._health, "/readyz")

    def live(self) -> int:
        return self.get(self._health, "/healthz")[0]

    def metrics(self) -> str:
        return self.get(self._metrics, "/metrics")[1]

    def storage(self) -> int:
        return self.get(self._storage, "/")[0]


@pytest.fixture(scope="module")
def shard(cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Shard:
    administrator = CommandLine(tmp_path_factory.mktemp("run"), cluster.kubeconfig)
    administrator.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    namespace = f"shard-{secrets.token_hex(4)}"
    administrator.kubectl("create", "namespace", namespace)
    administrator.kubectl("wait", "--for=condition=Established", "crd", "gitrepositories.source.toolkit.fluxcd.io")
    return Shard(namespace, administrator)


@pytest.fixture(scope="module")
def leader(shard: Shard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(shard, tmp_path_factory.mktemp("leader"))
    engine.process.until_said("serving")
    yield engine
    engine.process.kill()


@pytest.mark.spec("KS-OPS-01", "SRC-OPS-03")
def test_only_the_objects_of_the_shard_are_served_under_a_lease_of_its_own(shard: Shard, leader: Engine) -> None:
    shard.create("other", "")
    shard.create("own", f"sharding.fluxcd.io/key: {shard.namespace}")
    until(lambda: shard.reason("own") == "GitOperationFailed", "a run of the own object")
    assert shard.reason("other") == ""
    assert shard.holder() != ""


@pytest.mark.spec("SEC-58")
def test_probes_and_metrics_answer_and_hold_no_secret(shard: Shard, leader: Engine) -> None:
    until(lambda: leader.ready() == (200, "ok"), "readiness")
    assert leader.live() == 200
    page = leader.metrics()
    assert "headrace_objects_without_timer 0" in page
    assert f'leader_election_master_status{{name="{shard.lease}"}} 1' in page
    assert CANARY not in page + leader.ready()[1] + leader.process.log


@pytest.mark.spec("KS-OPS-02", "SRC-OPS-04")
def test_the_duration_of_an_object_goes_when_the_object_goes(shard: Shard, leader: Engine) -> None:
    series = f'gotk_reconcile_duration_seconds_count{{kind="GitRepository",name="own",namespace="{shard.namespace}"}}'
    until(lambda: series in leader.metrics(), "the series of the object")
    shard.headrace.kubectl("delete", "gitrepository", "own", "-n", shard.namespace)
    until(lambda: 'name="own"' not in leader.metrics(), "the end of its series")


@pytest.mark.spec("SRC-ART-08")
def test_who_does_not_lead_is_alive_but_not_ready_and_serves_no_artifact(
    shard: Shard, leader: Engine, tmp_path: Path
) -> None:
    standby = Engine(shard, tmp_path)
    try:
        until(lambda: standby.live() == 200, "the probe of the standby")
        assert standby.ready() == (500, "leader: another process holds the lease\nwatches: not started")
        assert (standby.storage(), leader.storage()) == (0, 200)
        held = shard.holder()
        assert leader.process.stop() == 0
        until(lambda: standby.ready()[0] == 200, "the standby as leader")
        assert shard.holder() not in ("", held)
        assert standby.storage() == 200
        assert standby.process.stop() == 0
    finally:
        standby.process.kill()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--requeue-dependency=soon"], "flag --requeue-dependency: invalid duration 'soon'"),
        (["--tenancy=lax"], "tenancy must be flux or strict"),
        (["--config=nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_settings_that_cannot_be_used_are_a_usage_error(shard: Shard, flags: list[str], said: str) -> None:
    done = shard.headrace("run", *flags)
    assert (done.code, said in done.err) == (2, True), done.said
