"""`headrace create source --export` in the form of the flux command line, and what it refuses."""

from __future__ import annotations

import pytest
import yaml

from headrace.cli.app import run

GIT = """\
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata:
  labels:
    team: web
  name: podinfo
  namespace: apps
spec:
  ignore: |-
    docs
    tests
  interval: 10m0s
  ref:
    semver: '>=1.0.0'
  secretRef:
    name: creds
  url: https://github.com/stefanprodan/podinfo
"""


def test_a_source_is_printed_as_flux_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    code = run([
        "create", "source", "git", "podinfo", "--url=https://github.com/stefanprodan/podinfo", "--tag-semver=>=1.0.0",
        "--interval=10m", "--secret-ref=creds", "--ignore-paths=docs,tests", "--label=team=web", "-n", "apps",
        "--export",
    ])  # fmt: skip
    assert code == 0
    assert capsys.readouterr().out == GIT


@pytest.mark.parametrize(
    ("words", "kind", "spec"),
    [
        pytest.param(
            ["oci", "app", "--url=oci://ghcr.io/app", "--tag=1.0", "--insecure"], "OCIRepository",
            {"insecure": True, "interval": "1m0s", "provider": "generic", "ref": {"tag": "1.0"},
             "url": "oci://ghcr.io/app"}, id="oci",
        ),
        pytest.param(
            ["helm", "app", "--url=oci://ghcr.io/charts", "--interval=1h30m"], "HelmRepository",
            {"interval": "1h30m0s", "type": "oci", "url": "oci://ghcr.io/charts"}, id="helm",
        ),
        pytest.param(
            ["bucket", "app", "--bucket-name=b", "--endpoint=s3.example.com", "--region=r"], "Bucket",
            {"bucketName": "b", "endpoint": "s3.example.com", "interval": "1m0s", "provider": "generic",
             "region": "r"}, id="bucket",
        ),
        pytest.param(
            ["chart", "app", "--source=HelmRepository/x", "--chart=c", "--chart-version=1.x"], "HelmChart",
            {"chart": "c", "interval": "1m0s", "reconcileStrategy": "ChartVersion",
             "sourceRef": {"kind": "HelmRepository", "name": "x"}, "version": "1.x"}, id="chart",
        ),
    ],
)  # fmt: skip
def test_every_kind_of_source_can_be_made(
    capsys: pytest.CaptureFixture[str], words: list[str], kind: str, spec: dict[str, object]
) -> None:
    assert run(["create", "source", *words, "--export"]) == 0
    content = yaml.safe_load(capsys.readouterr().out)
    assert (content["kind"], content["spec"]) == (kind, spec)
    assert content["metadata"] == {"name": "app", "namespace": "flux-system"}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        pytest.param(["git", "app", "--url=https://x"], "ref is required", id="no ref"),
        pytest.param(["git", "app", "--url=https://x", "--branch=b", "--interval=soon"], "interval", id="interval"),
        pytest.param(["git", "app", "--url=https://x", "--branch=b", "--label=x"], "KEY=VALUE", id="label"),
        pytest.param(["chart", "app", "--source=x", "--chart=c"], "KIND/NAME", id="source"),
    ],
)
def test_what_cannot_be_meant_is_refused(capsys: pytest.CaptureFixture[str], words: list[str], named: str) -> None:
    assert run(["create", "source", *words, "--export"]) == 2
    assert named in capsys.readouterr().err
