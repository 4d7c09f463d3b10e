"""What decides a result is hashed whole and sent whole; what counts of it is applied afterwards."""

import pickle
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from normcheck.config.examination import Examination, ModelSettings
from normcheck.config.policy import Policy
from normcheck.errors import UsageError
from normcheck.findings import Finding
from normcheck.fleet.cache_scope import Scopes
from normcheck.fleet.file_task import FileTask
from normcheck.live.run_request import Running
from normcheck.report.form import Wish
from normcheck.rules.catalogue import RULES
from normcheck.rules.rule import Subject

FILE = Path("runs/model.pt")
ENTRY = ModelSettings("*.pt", Path("/project"), select=("NC1",), model_args=(("width", [1, 2.5]),))
ASKED = Examination(rules=RULES[:2], running=Running(), models=(ENTRY,))
TASK = FileTask(ASKED, frozenset({Wish.LINES}))


def _another(_subject: Subject) -> Iterator[Finding]:
    yield from ()


def variants(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The value with one field changed, for each field of it and of all that it holds."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            if not field.compare:
                continue  # who is told how a run goes on, which changes no result
            here = getattr(value, field.name)
            for name, other in variants(here, f"{path}.{field.name}"):
                yield name, replace(value, **{field.name: other})
    elif isinstance(value, tuple) and value:
        yield f"{path} without its last", value[:-1]
        for name, other in variants(value[-1], f"{path}[-1]"):
            yield name, (*value[:-1], other)
    elif callable(value):
        yield path, _another
    elif path.endswith(".pattern"):
        yield path, "model.*"  # of an entry that means the file, as before
    else:
        yield path, "another value"


VARIANTS = dict(variants(TASK))


def scope(task: FileTask, *, explicit: bool = False, file: Path = FILE) -> bytes:
    """Of a file in the cache."""
    return Scopes(task, b"code").of(file, explicit=explicit)


def test_the_variants_reach_every_field() -> None:
    """Those of the task, of the examination, and of what these hold."""
    limits, feeding = ".examination.limits.opcodes", ".examination.running.feeding.samples"
    rule, entry = ".examination.rules[-1].forced_severity", ".examination.models[-1].data"
    assert {".wishes", limits, feeding, rule, entry} <= VARIANTS.keys()
    for field in fields(Examination):
        assert any(name.startswith(f".examination.{field.name}") for name in VARIANTS)


@pytest.mark.parametrize("what", VARIANTS)
def test_each_field_decides_which_result_is_kept(what: str) -> None:
    """A field that is added and forgotten would give the results of another task."""
    assert scope(VARIANTS[what]) != scope(TASK)


def test_equal_tasks_have_the_results_of_each_other() -> None:
    """Also where one of them went through another process, and whoever is told of the run."""
    copy: FileTask = pickle.loads(pickle.dumps(TASK))
    assert scope(copy) == scope(TASK)
    told = replace(Running(), announce=print)
    assert replace(ASKED, running=told) == ASKED
    assert scope(TASK, explicit=True) != scope(TASK)


def test_entries_for_other_files_change_nothing() -> None:
    """What a configuration says of one file leaves the results of the others as they are."""
    more = replace(ASKED, models=(ENTRY, ModelSettings("*.ckpt", Path("/project"))))
    assert scope(replace(TASK, examination=more)) == scope(TASK)
    assert scope(TASK, file=Path("runs/model.ckpt")) != scope(TASK)


@pytest.mark.parametrize("what", VARIANTS)
def test_each_field_reaches_the_workers(what: str) -> None:
    """What is sent is the whole task: all that compares equal, and nothing left out."""
    task = VARIANTS[what]
    if isinstance(task.examination.running, Running):
        assert pickle.loads(task.sent()) == task


def test_nobody_listens_where_the_task_is_done() -> None:
    """Who is told of a run stays in this process, so a lambda there is no obstacle."""
    heard = replace(Running(), progress=lambda _what, _count: None)
    task = FileTask(replace(ASKED, running=heard))
    assert pickle.loads(task.sent()) == task


def test_what_has_no_hash_is_refused() -> None:
    """An object of the caller's would look the same whatever it is."""
    entry = replace(ENTRY, model_args=(("net", object()),))
    with pytest.raises(UsageError, match="cannot tell one object from another"):
        scope(FileTask(replace(ASKED, models=(entry,))))


def test_each_field_is_in_one_of_the_two_values() -> None:
    """Its place says whether files are examined anew when it changes."""
    assert not {f.name for f in fields(Examination)} & {f.name for f in fields(Policy)}
    assert {f.name for f in fields(FileTask)} == {"examination", "wishes"}
