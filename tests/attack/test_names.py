"""Names out of Secrets and ConfigMaps are data: no shell sees them, none becomes a path or an option."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path

import msgspec
import pytest

import headrace
from headrace.api.kustomization import Kustomization
from headrace.controllers.kustomize.variables import read_variables
from headrace.core import sandbox
from headrace.kube.objects import decode_object
from headrace.model.errors import Retry
from headrace.model.objects import LiveObject
from tests.servers.sources import RecordedScope

NAMES = ["$(id)", ";id", "../k", "`id`", "a b", "-o", "a\nb", "$IFS", "a|b", ""]


def stored(kind: str, **content: object) -> LiveObject:
    meta = {"name": "app", "namespace": "default", "generation": 1}
    version = "v1" if kind == "Secret" else "kustomize.toolkit.fluxcd.io/v1"
    return decode_object(msgspec.json.encode({"apiVersion": version, "kind": kind, "metadata": meta} | content))


@pytest.mark.spec("SEC-18", "KS-SUB-09")
@pytest.mark.parametrize("name", NAMES)
async def test_a_key_of_a_secret_must_be_a_name_before_it_is_used(name: str) -> None:
    spec = {"interval": "1m", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "app"},
            "postBuild": {"substituteFrom": [{"kind": "Secret", "name": "app"}]}}
    ks = stored("Kustomization", spec=spec)
    secret = stored("Secret", data={name: base64.b64encode(b"x").decode()})
    scope = RecordedScope(ks, objects={secret.reference: secret})
    with pytest.raises(Retry, match="var name is invalid"):
        await read_variables(ks.decode(Kustomization), scope)


@pytest.mark.spec("SEC-18")
@pytest.mark.parametrize("name", NAMES)
async def test_an_argument_arrives_as_it_is(name: str, tmp_path: Path) -> None:
    tell = "import sys; sys.stdout.write(repr(sys.argv[1:]))"
    done = await sandbox.run([sys.executable, "-c", tell, name], cwd=tmp_path, timeout=30)
    assert done.stdout.decode() == repr([name])


@pytest.mark.spec("SEC-18")
def test_no_shell_is_ever_started() -> None:
    shells = re.compile(r"shell\s*=\s*True|create_subprocess_shell|os\.system|os\.popen|[\"']sh[\"'],\s*[\"']-c")
    sources = Path(headrace.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if shells.search(path.read_text())] == []
