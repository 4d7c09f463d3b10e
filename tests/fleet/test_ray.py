"""The same work by a Ray cluster on this machine: one cluster for all tests, it starts slowly."""

import builtins
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from normcheck.config.examination import Examination
from normcheck.config.policy import LayerIgnore, Policy
from normcheck.errors import NormcheckError, UsageError
from normcheck.fleet import ray_cluster
from normcheck.fleet.file_task import FileTask
from normcheck.fleet.fleet_request import Cluster, Engine, Fleet
from normcheck.fleet.ray_cluster import examined_by_ray
from normcheck.formats.targets import Target
from normcheck.live.run_request import Isolation, Running
from normcheck.pipeline.results import FileResult
from normcheck.report.machines.as_json import render_json
from normcheck.rules.catalogue import RULES
from normcheck.runs.scan import scan
from tests.conftest import PATIENCE, ROOT
from tests.fleet.deadly import EXITS, RULE, write_model

pytestmark = pytest.mark.slow

pytest.importorskip("ray", reason="Ray is an extra: pip install 'normcheck[ray]'")
BY_RAY = Fleet(engine=Engine.RAY)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two processors; what normcheck does with a cluster that is there already."""
    printing = builtins.print
    ray = ray_cluster._ray()
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        logging_level="ERROR",
    )  # fmt: skip
    yield ray
    ray.shutdown()
    assert builtins.print is printing, "Ray put its own in its place"


def test_the_report_is_that_of_this_machine(cluster: object, mixed: Path) -> None:
    """The same bytes, with relative names, ignores, and files that cannot be read."""
    policy = Policy(layer_ignores=(LayerIgnore("stem.*", ("NC101",), "known"),))
    targets = [mixed, "missing.pt"]
    there = scan(targets, policy=policy, fleet=BY_RAY)
    assert render_json(there) == render_json(scan(targets, policy=policy))


def test_a_task_that_dies_costs_its_file_only(cluster: object, mixed: Path) -> None:
    """Ray tries it once more; then it is an error, and the rest is as without it."""
    examination = Examination(rules=(*RULES, RULE))
    before = scan(mixed, examination)
    dead = write_model(mixed / "epoch-3a.safetensors", EXITS)
    after = scan(mixed, examination, fleet=BY_RAY)
    lost = [error for error in after.errors if error.model == str(dead)]
    assert "died, each of 2 times" in lost[0].message
    left = tuple(error for error in after.errors if error not in lost)
    assert render_json(replace(after, errors=left)) == render_json(before)


def test_tasks_are_handed_over_as_there_is_room(
    cluster: object, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The walk is never more than some files ahead."""
    monkeypatch.setattr(ray_cluster, "AHEAD", 3)
    taken = 0

    def work() -> Iterator[Target | FileResult]:
        nonlocal taken
        for number in range(8):
            taken += 1
            yield Target(mixed / f"epoch-{number}.safetensors", explicit=True)

    given = 0
    for result in examined_by_ray(work(), FileTask(), Cluster()):
        assert taken - given <= 3
        given += result is not None
    assert (taken, given) == (8, 8)


def test_models_run_in_tasks(cluster: object, samples: Path, tmp_path: Path) -> None:
    """A live scan, each model in a process of its own beneath the task."""
    pytest.importorskip("torch")
    (tmp_path / "one.pt").write_bytes((samples / "mlp-batchnorm-module.pt").read_bytes())
    here = scan(tmp_path, Examination(running=Running()))
    there = scan(tmp_path, Examination(running=Running(isolation=Isolation())), fleet=BY_RAY)
    assert here.models[0].run is not None
    assert render_json(there) == render_json(here)


def test_more_than_the_cluster_has_is_an_error(cluster: object, mixed: Path) -> None:
    """Ray would wait for ever for a machine with accelerators to join."""
    with pytest.raises(UsageError, match="--gpus-per-task 64"):
        scan(mixed, fleet=replace(BY_RAY, cluster=Cluster(gpus=64)))


def test_another_version_on_the_cluster_is_an_error(
    cluster: object, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two versions would report differently, and nobody would know where."""
    monkeypatch.setattr(ray_cluster, "VERSION", "0.0.0")
    with pytest.raises(NormcheckError, match="the cluster has normcheck"):
        scan(mixed, fleet=BY_RAY)


def test_the_command_keeps_stdout_for_the_report(mixed: Path) -> None:
    """Ray says on stdout that a process died; that must not get into the JSON."""
    write_model(mixed / "epoch-3a.safetensors", EXITS)
    code = (
        "import sys; import normcheck.config.merge as m; from normcheck.cli.main import main; "
        "from tests.fleet.deadly import RULE; chosen = m.select; "
        "m.select = lambda *words: (*chosen(*words), RULE); sys.exit(main(sys.argv[1:]))"
    )
    words = ["scan", "runs", "--engine", "ray", "-f", "json-lines"]
    ran = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 2, ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(lines) == 13 + 1 + 1
    assert lines[-1]["summary"]["unread"] == 2


def test_no_cluster_at_the_address() -> None:
    """An error with a hint at once, where Ray would try for minutes."""
    with pytest.raises(NormcheckError, match=r"no Ray cluster at 127\.0\.0\.1:1") as caught:
        ray_cluster._connect(ray_cluster._ray(), Cluster(address="127.0.0.1:1"))
    assert "ray start --head" in caught.value.hint
