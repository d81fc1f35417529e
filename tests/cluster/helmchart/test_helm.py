"""What is packaged is read by Helm's own loader, dependencies and values included."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

from headrace.toolbox import Toolbox
from tests.servers.go_program import program
from tests.servers.helm_http import chart_files
from tests.servers.helm_world import helm_world

META = """apiVersion: v2
name: app
version: 1.0.0
appVersion: 1.10
dependencies:
- {{name: common, version: ~0.1, repository: 'file://../common'}}
- {{name: lib, version: '*', repository: '{url}', alias: other}}
"""


async def test_helm_reads_what_is_packaged(tmp_path: Path) -> None:
    loader = await asyncio.to_thread(program, "helm")
    async with Toolbox(size=1) as toolbox, helm_world(tmp_path, toolbox) as world:
        world.server.add("lib", "1.2.0")
        app = chart_files(**{"Chart.yaml": META.format(url=world.server.url)})
        files: dict[str, str | bytes] = {f"charts/app/{name}": content for name, content in app.items()}
        files |= {f"charts/common/{name}": content for name, content in chart_files("common", "0.1.3").items()}
        await world.tree(files | {"prod.yaml": "text: 'yes'\nnested: {list: [1, {a: b}]}\nimage: {tag: '1.10'}\n"})
        source = {"kind": "GitRepository", "name": "files"}
        names = ["charts/app/values.yaml", "prod.yaml"]
        done, _ = await world.run(world.chart(chart="charts/app", generation=5, valuesFiles=names, sourceRef=source))
        archive = tmp_path / "app.tgz"
        archive.write_bytes(world.archive(done))
    answer = await asyncio.to_thread(subprocess.run, [loader, archive], capture_output=True, check=True, text=True)
    assert json.loads(answer.stdout) == {
        "name": "app",
        "version": "1.0.0+5",
        "appVersion": "1.1",
        "values": {
            "replicas": 1,
            "image": {"name": "app", "tag": "1.10"},
            "list": ["a", "b"],
            "text": "yes",
            "nested": {"list": [1, {"a": "b"}]},
        },
        "dependencies": {"common": "0.1.3", "lib": "1.2.0"},
        "templates": 1,
    }
