"""Files side by side in processes of this machine."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from selectors import DefaultSelector

import pytest

from normcheck.config.baseline import Baseline, KnownFinding
from normcheck.config.examination import Examination
from normcheck.config.policy import LayerIgnore, Policy
from normcheck.errors import NormcheckError
from normcheck.fleet import engine
from normcheck.fleet import local_processes as local
from normcheck.fleet.file_task import FileTask
from normcheck.fleet.fleet_request import Fleet
from normcheck.fleet.local_processes import examined_by_processes
from normcheck.fleet.worker_messages import Result
from normcheck.formats.targets import Target
from normcheck.live.process import process_link
from normcheck.live.process.wire import read_message
from normcheck.live.run_request import Feeding, Isolation, Running
from normcheck.pipeline.results import FileResult, models_of
from normcheck.report.form import Wish
from normcheck.report.machines.as_json_lines import JsonLines
from normcheck.report.people.text_style import TextStyle
from normcheck.report.report import Report
from normcheck.rules.catalogue import RULES
from normcheck.runs.scan import parts, scan
from tests.conftest import PATIENCE, ROOT
from tests.fleet.deadly import EXITS, KILLED, RULE, write_model
from tests.report.everything import render, text_of

pytestmark = [pytest.mark.slow, pytest.mark.posix]

DEADLY = Examination(rules=(*RULES, RULE))
ALONE = frozenset({Wish.LINES, Wish.LINES_ALONE})


def every_form(report: Report) -> list[str]:
    forms = ("json", "json-lines", "sarif", "junit", "github", "markdown")
    texts = [render(report, form, Path.cwd()) for form in forms]
    return [*texts, text_of(report, TextStyle(verbose=True))]


def test_the_report_does_not_depend_on_the_number_of_processes(mixed: Path) -> None:
    """The same bytes in every form, with ignores and a baseline, from one process and three."""
    known = KnownFinding("runs/mixed-modes-module.pt", "", "NC202", "block.first.norm")
    policy = Policy(
        layer_ignores=(LayerIgnore("stem.*", ("NC101",), "known"), LayerIgnore("neck.*", ("ALL",))),
        baseline=Baseline(Path("baseline.json"), (known,)),
    )
    targets = [mixed, mixed / "missing.pt", "no-such-*.pt"]
    alone = scan(targets, policy=policy)
    assert (len(alone.errors), len(alone.unused)) == (3, 2)
    assert every_form(scan(targets, policy=policy, fleet=Fleet(jobs=3))) == every_form(alone)


def test_lines_alone_are_the_same_without_models(mixed: Path) -> None:
    """Of whoever read the file; one that is lost has no line, and is told of all the same."""
    write_model(mixed / "deadly.safetensors", EXITS)
    told = [
        [JsonLines().part(part) for part in parts(mixed, DEADLY, fleet=Fleet(jobs=2), wishes=these)]
        for these in (frozenset[Wish](), frozenset({Wish.LINES}), ALONE)
    ]
    assert told[0] == told[1] == told[2]
    assert "ended with exit code 7" in "".join(told[0])


@pytest.mark.parametrize("jobs", [1, 2])
def test_who_wants_lines_alone_gets_no_models(mixed: Path, jobs: int) -> None:
    """Nothing of them is made ready for the way, nor sent."""
    work = (Target(file, explicit=True) for file in sorted(mixed.glob("epoch-*")))
    with closing(engine.examined(work, FileTask(wishes=ALONE), Fleet(jobs=jobs))) as results:
        for result in results:
            assert result.line
            assert result.verdicts
            assert not result.models
            assert not result.packed


@pytest.mark.parametrize(
    ("layer", "why"),
    [(EXITS, "ended with exit code 7"), (KILLED, "was ended by SIGKILL")],
)
def test_a_process_that_dies_costs_its_file_only(mixed: Path, layer: str, why: str) -> None:
    """Its file is an error with a hint; all others are what they are without it."""
    before = scan(mixed, DEADLY)
    dead = write_model(mixed / "epoch-3a.safetensors", layer)
    after = scan(mixed, DEADLY, fleet=Fleet(jobs=2))
    lost = [error for error in after.errors if error.model == str(dead)]
    assert [why in error.message for error in lost] == [True]
    assert lost[0].hint
    left = tuple(error for error in after.errors if error not in lost)
    assert every_form(replace(after, errors=left)) == every_form(before)


def test_every_process_may_die(tmp_path: Path) -> None:
    """Each loses its own file, in the order of the files."""
    names = [str(write_model(tmp_path / f"{n}.safetensors", EXITS)) for n in range(5)]
    report = scan(tmp_path, DEADLY, fleet=Fleet(jobs=2))
    assert [error.model for error in report.errors] == names


def test_a_worker_killed_from_outside_is_replaced(mixed: Path) -> None:
    """An idle or busy process that the system kills loses one file at most."""
    healthy = len(scan(mixed).models)
    with closing(parts(mixed, Examination(), fleet=Fleet(jobs=2))) as stream:
        seen = [next(stream)]
        for pid in children():
            os.kill(pid, 9)
        seen += stream
    models = sum(len(part.heads) for part in seen)
    lost = [e for part in seen for e in part.rest.errors if "SIGKILL" in e.message]
    assert healthy - len(lost) <= models <= healthy  # a file that is lost may hold no model
    assert len(lost) <= 2


def test_work_is_taken_up_as_it_is_done(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk is never more than some files ahead of what was given on."""
    monkeypatch.setattr(local, "AHEAD", 3)
    taken = 0

    def work() -> Iterator[Target | FileResult]:
        nonlocal taken
        for number in range(8):
            taken += 1
            yield Target(mixed / f"epoch-{number}.safetensors", explicit=True)

    given = 0
    for result in examined_by_processes(work(), FileTask(), 2):
        assert taken - given <= 3
        given += result is not None
    assert (taken, given) == (8, 8)


def children() -> list[int]:
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not listed.exists():
        pytest.skip("this system does not list the children of a process")
    return [int(word) for word in listed.read_text(encoding="ascii").split()]


def test_whoever_stops_the_run_ends_its_processes(mixed: Path) -> None:
    """Closing the stream, which an interruption does too, leaves no process behind."""
    before = set(children())
    stream = parts(mixed, Examination(), fleet=Fleet(jobs=2))
    next(stream)
    assert set(children()) - before
    stream.close()
    assert set(children()) <= before


def _runs(pid: str) -> bool:
    """Whether a process goes on; one that ended and waits to be buried does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_ctrl_c_ends_the_command_and_its_processes(mixed: Path) -> None:
    """Exit code 130, no traceback, and nothing goes on."""
    first = write_model(mixed / "more.safetensors")
    # So many that on a busy machine, too, the run is not over before the signal comes.
    for number in range(5_000):
        (mixed / f"more-{number}.safetensors").hardlink_to(first)
    # A shell starts what runs in its background with this signal ignored, which is inherited.
    heeding = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('normcheck', run_name='__main__')"
    )
    words = [sys.executable, "-c", heeding, "scan", "runs", "--jobs", "2", "-f", "json-lines"]
    with subprocess.Popen(
        [*words, "-o", "out.jsonl"], stderr=subprocess.PIPE, text=True
    ) as process:
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while process.poll() is None and not (workers := listed.read_text().split()):
            time.sleep(0.02)
        process.send_signal(2)
        _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (130, "error: interrupted\n")
    ended = time.monotonic() + PATIENCE
    while any(map(_runs, workers)) and time.monotonic() < ended:
        time.sleep(0.05)  # a busy system takes a moment to bury them
    assert not any(map(_runs, workers))
    assert list(Path.cwd().glob("*out.jsonl*")) == []


def test_processes_that_cannot_start_are_one_error(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No endless restarts: the run ends and says what to do."""
    monkeypatch.setattr(process_link, "BOOT", "raise SystemExit(3)")
    with pytest.raises(NormcheckError, match="exit code 3") as caught:
        scan(mixed, fleet=Fleet(jobs=2))
    assert "--jobs 1" in caught.value.hint


def test_what_cannot_be_handed_over_is_said(mixed: Path) -> None:
    """Live data stay in their process; the error says how to name them."""
    examination = Examination(running=Running(feeding=Feeding(data=lambda: None)))
    with pytest.raises(NormcheckError, match="cannot be handed"):
        scan(mixed, examination, fleet=Fleet(jobs=2))


@pytest.mark.parametrize(("patience", "files", "wanted"), [(60, 8, 0), (-1, 8, 1), (-1, 3, 0)])
def test_processes_are_started_where_it_is_worth_it(
    mixed: Path, monkeypatch: pytest.MonkeyPatch, patience: float, files: int, wanted: int
) -> None:
    """By default after some work, and only where files are left for them."""
    calls = []

    def counted(*words: object, **how: object) -> Iterator[FileResult | None]:
        calls.append(words)
        yield from examined_by_processes(*words, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(local, "examined_by_processes", counted)
    monkeypatch.setattr(engine, "_PATIENCE_SECONDS", patience)
    monkeypatch.setattr(engine, "_WORTH_SECONDS", 0.0)
    monkeypatch.setattr(engine, "processors", lambda: 2)
    names = [mixed / f"epoch-{number}.safetensors" for number in range(files)]
    assert len(scan(names, fleet=Fleet(jobs=0)).models) == files
    assert len(calls) == wanted


@pytest.mark.parametrize(
    ("done", "seconds", "files"), [(1, 60.0, 4), (1, 0.1, 15), (50, 0.5, 150), (9999, 0.5, 512)]
)
def test_quick_files_are_worth_processes_only_where_many_are_left(
    done: int, seconds: float, files: int
) -> None:
    """As many as take a second and a half at the speed so far: at least a few, at most 512."""
    assert engine.worth_processes(done, seconds, 1.5) == files


def test_there_is_work_here_while_the_others_start(mixed: Path) -> None:
    """Until the first of them is ready; the order and the results are the same."""
    here: list[str] = []

    def meanwhile(target: Target) -> FileResult:
        here.append(target.path.name)
        return FileTask().result_of(target)

    names = [mixed / f"epoch-{number}.safetensors" for number in range(8)]
    targets = [Target(name, explicit=True) for name in names]
    stream = examined_by_processes(iter(targets), FileTask(), 2, meanwhile)
    results = [result for result in stream if result is not None]
    assert [result.target for result in results] == list(map(str, names))
    assert [models_of(result) for result in results] == [
        FileTask().result_of(target).models for target in targets
    ]
    # Four are handed out first, two to each.
    assert here
    assert set(here) <= {name.name for name in names[4:]}


def test_nobody_is_waited_for_where_all_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of a cache pass through as fast as they come, however many: not 256 in a moment."""
    monkeypatch.setattr(DefaultSelector, "select", lambda *_: pytest.fail("waited"))
    known = [FileResult(f"{number}.pt") for number in range(3 * local.AHEAD)]
    results = examined_by_processes(iter(known), FileTask(), 2)
    assert [result for result in results if result is not None] == known


def test_a_result_of_another_file_is_no_result(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process speaks of the file that it was given: what it says of another ends it."""

    def lying(data: bytes, kinds: dict[str, type]) -> object:
        message = read_message(data, kinds)
        if isinstance(message, Result) and message.result.target.endswith("epoch-1.safetensors"):
            return Result(replace(message.result, target=str(mixed / "epoch-0.safetensors")))
        return message

    monkeypatch.setattr(process_link, "read_message", lying)
    names = [mixed / f"epoch-{number}.safetensors" for number in range(3)]
    report = scan(names, fleet=Fleet(jobs=2))
    assert [model.target for model in report.models] == [str(names[0]), str(names[2])]
    assert [error.model for error in report.errors] == [str(names[1])]


COPIES = """
import sys
from pathlib import Path
from normcheck.config.examination import Examination
from normcheck.fleet import engine
from normcheck.fleet.fleet_request import Fleet
from normcheck.process_copy import can_copy
from normcheck.report.machines.as_json_lines import JsonLines
from normcheck.rules.catalogue import RULES
from normcheck.runs.scan import parts
from tests.fleet.deadly import RULE

assert can_copy()
engine._COPIED_SECONDS, engine.processors = (0.0, 0.0), lambda: 2
sys.stdout.write("begin ")  # waits in a buffer that is copied, too
lines, copies, me = [], 0, Path("/proc/self").resolve()
for part in parts("runs", Examination(rules=(*RULES, RULE)), fleet=Fleet(JOBS, copies=True)):
    lines.append(JsonLines().part(part))
    for child in (me / "task" / me.name / "children").read_text().split():
        copies += (me.parent / child / "cmdline").read_bytes() == (me / "cmdline").read_bytes()
assert copies
sys.stdout.write("".join(lines))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux alone")
@pytest.mark.parametrize("jobs", [0, 2])
def test_copies_of_this_process_report_as_others(mixed: Path, jobs: int) -> None:
    """Also of what dies in them; they print nothing of what this one had still to print."""
    write_model(mixed / "epoch-3a.safetensors", KILLED)
    write_model(mixed / "epoch-3b.safetensors", EXITS)
    there = "".join(JsonLines().part(part) for part in parts("runs", DEADLY, fleet=Fleet(jobs=2)))
    assert "SIGKILL" in there
    done = subprocess.run(
        [sys.executable, "-c", COPIES.replace("JOBS", str(jobs))],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.stdout) == ("", f"begin {there}")


def test_runs_side_by_side_report_as_one_after_the_other(samples: Path, tmp_path: Path) -> None:
    """Live scans in processes of processes; what they say on the way arrives here."""
    pytest.importorskip("torch")
    for name in ("one.pt", "two.pt"):
        (tmp_path / name).write_bytes((samples / "mlp-batchnorm-module.pt").read_bytes())
    steps: list[str] = []
    running = Running(progress=lambda what, *_: steps.append(what))
    here = scan(tmp_path, Examination(running=running))
    assert here.models[0].run is not None
    steps.clear()
    apart = replace(running, isolation=Isolation())
    there = scan(tmp_path, Examination(running=apart), fleet=Fleet(jobs=2))
    assert every_form(there) == every_form(here)
    assert steps


def test_who_collects_runs_has_run_nothing_itself(samples: Path, tmp_path: Path) -> None:
    """In a process of its own: here, whatever a run needs is imported already."""
    pytest.importorskip("torch")
    for name in ("one.pt", "two.pt"):
        (tmp_path / name).write_bytes((samples / "mlp-batchnorm-module.pt").read_bytes())
    words = [sys.executable, "-m", "normcheck", "scan", str(tmp_path), "--run", "--trust"]
    alone, shared = (
        subprocess.run([*words, "--jobs", jobs], capture_output=True, text=True, check=False)
        for jobs in ("1", "2")
    )
    assert (shared.stdout, shared.returncode) == (alone.stdout, alone.returncode)
    assert "2 models" in shared.stdout
