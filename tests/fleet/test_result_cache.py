"""Results of earlier runs: when they are good, and when they are not."""

import json
import os
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch.distributed.checkpoint as dcp
from torch import nn

from normcheck.config.baseline import Baseline
from normcheck.config.examination import Examination
from normcheck.config.policy import LayerIgnore, Policy
from normcheck.errors import NormcheckError, UsageError
from normcheck.findings import Severity
from normcheck.fleet import cache_row as row
from normcheck.fleet import file_stamp as stamp
from normcheck.fleet import file_task as task
from normcheck.fleet import result_cache as cache
from normcheck.fleet.cache_seal import Seal, users_seal
from normcheck.fleet.fleet_request import Fleet
from normcheck.formats.targets import Target
from normcheck.live.process.wire import written
from normcheck.live.run_request import Running
from normcheck.pipeline.examine import examine
from normcheck.pipeline.results import FileResult
from normcheck.report.form import Wish
from normcheck.report.machines.as_json import render_json
from normcheck.report.machines.as_json_lines import JsonLines
from normcheck.report.tally import Tally
from normcheck.rules.catalogue import RULES, select
from normcheck.runs.scan import parts, scan
from normcheck.sources.limits import Limits
from tests.fleet.deadly import write_model

pytestmark = pytest.mark.slow

CACHED = Fleet(cache=Path("cache.sqlite"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are really read."""
    names: list[str] = []

    def counted(target: Target, *how: Any) -> FileResult:
        names.append(target.path.name)
        return examine(target, *how)

    monkeypatch.setattr(task, "examine", counted)
    return names


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as changed long ago, as most are when they are scanned."""
    monkeypatch.setattr(stamp, "TICK_SECONDS", -3600.0)


@pytest.fixture
def stamps_only(settled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is a large one: its content is not hashed."""
    monkeypatch.setattr(stamp, "HASHED_BYTES", -1)


def test_a_second_run_reads_nothing_that_was_well(mixed: Path, read: list[str]) -> None:
    """The same bytes in the report; only what failed is tried again."""
    first = render_json(scan(mixed, fleet=CACHED))
    assert len(read) == 13
    read.clear()
    assert render_json(scan(mixed, fleet=CACHED)) == first
    assert read == ["cut-off.pt"]


def test_processes_and_cache_go_together(mixed: Path) -> None:
    """Hits keep their place among what processes send back."""
    alone = render_json(scan(mixed))
    scan(mixed / "epoch-3.safetensors", fleet=CACHED)
    both = replace(CACHED, jobs=2)
    assert render_json(scan(mixed, fleet=both)) == alone
    assert render_json(scan(mixed, fleet=both)) == alone


@pytest.mark.usefixtures("stamps_only")
def test_a_change_that_keeps_length_and_time_is_seen(mixed: Path, read: list[str]) -> None:
    """The inode's own time moves with every write, and nobody can set it back."""
    file = mixed / "epoch-1.safetensors"
    scan(file, fleet=CACHED)
    before = file.stat()
    write_model(mixed / "other.safetensors", mean=float("nan"))
    file.write_bytes((mixed / "other.safetensors").read_bytes())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert "NC104" in {f.rule for f in scan(file, fleet=CACHED).findings}
    assert read == ["epoch-1.safetensors"] * 2


def test_a_change_within_a_tick_of_the_clock_is_seen(
    mixed: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is as young as its result is held against its content, whatever its stamp."""
    real = stamp.stamp_of

    def frozen(file: str) -> stamp.Stamp | None:
        found = real(file)
        return found and replace(found, changed="stopped clock")

    monkeypatch.setattr(cache, "stamp_of", frozen)
    file = mixed / "epoch-1.safetensors"
    scan(file, fleet=CACHED)
    write_model(file, mean=float("nan"))
    assert "NC104" in {f.rule for f in scan(file, fleet=CACHED).findings}


@pytest.mark.usefixtures("settled")
def test_a_copied_or_touched_file_is_known_by_its_content(mixed: Path, read: list[str]) -> None:
    """A fresh checkout has other times and inodes, and the same bytes."""
    scan(mixed, fleet=CACHED)
    read.clear()
    for file in list(mixed.iterdir()):
        shutil.copy(file, "copy")
        Path("copy").replace(file)
    scan(mixed, fleet=CACHED)
    assert read == ["cut-off.pt"]


@pytest.mark.usefixtures("stamps_only")
def test_a_large_file_that_was_touched_is_read_again(mixed: Path, read: list[str]) -> None:
    """To hash it would take longer."""
    file = mixed / "epoch-1.safetensors"
    scan(file, fleet=CACHED)
    scan(file, fleet=CACHED)
    assert len(read) == 1
    os.utime(file)
    scan(file, fleet=CACHED)
    assert len(read) == 2


@pytest.mark.usefixtures("stamps_only")
def test_a_shard_that_changed_counts(mixed: Path, read: list[str]) -> None:
    """The result of an index rests on all files that it names."""
    index = Path("model.safetensors.index.json")
    shard = write_model(Path("model-00001-of-00001.safetensors"), mean=1.0)
    names = [f"norm____.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    index.write_text(json.dumps({"weight_map": {name: str(shard) for name in names}}))
    scan(index, fleet=CACHED)
    scan(index, fleet=CACHED)
    assert len(read) == 1
    write_model(shard, mean=float("nan"))
    assert "NC104" in {f.rule for f in scan(index, fleet=CACHED).findings}


OTHER: dict[str, Callable[[], Examination]] = {
    "fewer rules": lambda: Examination(rules=select(["NC104"], [])),
    "a severity": lambda: Examination(rules=(replace(RULES[3], forced_severity=Severity.INFO),)),
    "a threshold": lambda: Examination(rules=(replace(RULES[2], chosen={"max-residue": 0.5}),)),
    "limits": lambda: Examination(limits=Limits(nesting=999)),
}


@pytest.mark.usefixtures("settled")
def test_a_folder_that_is_one_checkpoint(tmp_path: Path, read: list[str]) -> None:
    """It is what it was as long as all in it is."""
    folder, fleet = tmp_path / "step-1", Fleet(cache=tmp_path / "cache")
    dcp.save(nn.BatchNorm1d(8).state_dict(), checkpoint_id=folder)
    first = render_json(scan(folder, fleet=fleet))
    assert read == ["step-1"]
    assert json.loads(first)["errors"] == []

    def changed(change: Callable[[], object]) -> bool:
        read.clear()
        change()
        scan(folder, fleet=fleet)
        return bool(read)

    assert not changed(lambda: None)
    assert render_json(scan(folder, fleet=fleet)) == first
    (chunks,) = folder.glob("*.distcp")
    assert changed(lambda: os.utime(chunks))
    assert not changed(lambda: None)
    below = folder / "rng"
    assert changed(below.mkdir)
    assert changed(lambda: (below / "0").write_text("a"))
    assert changed(lambda: (below / "0").write_text("b"))
    assert changed((below / "0").unlink)
    assert not changed(lambda: None)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert changed(lambda: (below / "linked").symlink_to(elsewhere))
    assert changed(lambda: (elsewhere / "1").write_text("a"))
    assert not changed(lambda: None)
    assert changed(lambda: (below / "back").symlink_to(folder))
    assert changed(lambda: None)


def test_a_folder_of_too_many_files_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look through them would take as long."""
    assert stamp.stamp_of(str(tmp_path))
    for number in range(3):
        (tmp_path / str(number)).touch()
    monkeypatch.setattr(stamp, "_MOST_FILES", 3)
    assert stamp.stamp_of(str(tmp_path)) is None


def test_what_an_output_wants_has_results_of_its_own(mixed: Path, read: list[str]) -> None:
    """Predictions that are kept for a figure are not in a result that was made without."""
    file = mixed / "epoch-1.safetensors"
    for wishes in (frozenset[Wish](), frozenset({Wish.PREDICTIONS})) * 2:
        scan(file, fleet=CACHED, wishes=wishes)
    assert len(read) == 2


@pytest.mark.parametrize("what", OTHER)
def test_other_settings_have_results_of_their_own(mixed: Path, read: list[str], what: str) -> None:
    """What decides on the result is part of its key."""
    file = mixed / "epoch-1.safetensors"
    scan(file, fleet=CACHED)
    scan(file, OTHER[what](), fleet=CACHED)
    assert len(read) == 2
    scan(file, fleet=CACHED)
    scan(file, OTHER[what](), fleet=CACHED)
    assert len(read) == 2


def test_what_is_wanted_of_the_findings_needs_no_reading(mixed: Path, read: list[str]) -> None:
    """Ignores, baseline and severities are applied to results, known or not."""
    scan(mixed, fleet=CACHED)
    read.clear()
    policy = Policy(
        min_severity=Severity.ERROR,
        layer_ignores=(LayerIgnore("stem.*", ("ALL",), "known"),),
        baseline=Baseline(Path("baseline.json"), ()),
    )
    cached = render_json(scan(mixed, policy=policy, fleet=CACHED))
    assert read == ["cut-off.pt"]
    assert cached == render_json(scan(mixed, policy=policy))


def test_another_version_of_the_rules_starts_afresh(
    mixed: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results of other code are of no use, and are thrown away."""
    file = mixed / "epoch-1.safetensors"
    scan(file, fleet=CACHED)
    monkeypatch.setattr(cache, "code_digest", lambda: b"another")
    scan(file, fleet=CACHED)
    assert len(read) == 2
    with closing(sqlite3.connect("cache.sqlite")) as base:
        assert base.execute("SELECT count(*) FROM results").fetchone() == (1,)


def test_a_run_that_was_cut_off_goes_on_where_it_was(mixed: Path, read: list[str]) -> None:
    """What was done before the interruption is not done again."""
    with closing(parts(mixed, fleet=CACHED)) as stream:
        for _ in range(5):
            next(stream)
    done = len(read) - 1  # cut-off.pt was among them, and is tried again
    read.clear()
    assert render_json(scan(mixed, fleet=CACHED)) == render_json(scan(mixed))
    assert len(read) == (13 - done) + 13


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows which of its states the result is of."""
    file = mixed / "epoch-1.safetensors"

    def overtaken(target: Target, *how: Any) -> FileResult:
        result = examine(target, *how)
        write_model(file, mean=float("nan"))
        return result

    with monkeypatch.context() as patch:
        patch.setattr(task, "examine", overtaken)
        assert not scan(file, fleet=CACHED).findings
    assert "NC104" in {f.rule for f in scan(file, fleet=CACHED).findings}


def test_another_file_is_not_taken_for_a_cache(mixed: Path) -> None:
    """A text or a foreign database is an error, and stays as it is."""
    Path("notes.txt").write_text("not a database, but long enough to be taken for one" * 20)
    with closing(sqlite3.connect("other.sqlite")) as base:
        base.execute("CREATE TABLE results (precious TEXT)")
    for name in ("notes.txt", "other.sqlite"):
        before = Path(name).read_bytes()
        with pytest.raises(UsageError, match=name) as caught:
            scan(mixed, fleet=Fleet(cache=Path(name)))
        assert caught.value.hint
        assert Path(name).read_bytes() == before
    with pytest.raises(UsageError, match="no such folder"):
        scan(mixed, fleet=Fleet(cache=Path("no/such/folder")))


def test_damaged_entries_cost_time_and_nothing_else(mixed: Path, read: list[str]) -> None:
    """Bytes that make no sense are as good as none; nothing in them is run."""
    file = mixed / "epoch-1.safetensors"
    first = render_json(scan(file, fleet=CACHED))
    columns = ("stamp", "digest", "head", "line", "models", "seal")
    for broken in (b"", b"garbage", None, 5, "text"):
        for column in columns:
            change(column, broken)
            assert render_json(scan(file, fleet=CACHED)) == first
    # What cannot be NULL was not changed.
    assert len(read) == 1 + 4 * len(columns) + 1


def change(column: str, value: object) -> None:
    with closing(sqlite3.connect("cache.sqlite")) as base, suppress(sqlite3.IntegrityError):
        base.execute(f"UPDATE results SET {column} = ?", (value,))  # noqa: S608  (ours)
        base.commit()


def sealed_anew(seal: Seal) -> None:
    """Seal whatever the rows are now, as who has the key can."""
    with closing(sqlite3.connect("cache.sqlite")) as base:
        columns = "scope, name, stamp, digest, head, line, models"
        for scope, name, stamps, digest, *pieces in base.execute(f"SELECT {columns} FROM results"):  # noqa: S608  (ours)
            made = seal.of(*row.sealed(scope, name, stamps, digest, pieces))
            base.execute("UPDATE results SET seal = ? WHERE name = ?", (made, name))
        base.commit()


HOSTILE = {
    "runs a command": b"cposix\nsystem\n(S'touch pwned'\ntR.",
    "changes a class": b"cnormcheck.findings\nSeverity\n(N}S'ERROR'\nS'info'\nstb.",
    "unfolds": b" " * (64 << 20),
    "is another's": written(FileResult("other.pt")),
    "is nothing": b"[]",
}


@pytest.mark.parametrize("column", ["head", "models"])
@pytest.mark.parametrize("what", HOSTILE)
def test_whoever_writes_to_the_cache_runs_nothing(mixed: Path, column: str, what: str) -> None:
    """Also where the seal is right: what is read there are values of a result."""
    file = mixed / "statistics-lost.pt"
    first = render_json(scan(file, fleet=CACHED))
    assert "NC101" in first
    change(column, zlib.compress(HOSTILE[what], 9))
    # Without the key the row is as good as none.
    assert render_json(scan(file, fleet=CACHED)) == first
    change(column, zlib.compress(HOSTILE[what], 9))
    sealed_anew(users_seal())
    if column == "head":
        assert render_json(scan(file, fleet=CACHED)) == first
    else:
        with pytest.raises(NormcheckError, match=r"statistics-lost.*makes no sense") as caught:
            scan(file, fleet=CACHED)
        assert "delete it" in caught.value.hint
    assert not Path("pwned").exists()
    assert Severity.ERROR.rank == 2


@pytest.mark.usefixtures("settled")
def test_a_row_under_another_name_is_not_believed(mixed: Path, read: list[str]) -> None:
    """Nor one whose stamps or digest are those of another file: a clean row hides nothing."""
    sick, clean = mixed / "statistics-lost.pt", mixed / "epoch-3.safetensors"
    scan([sick, clean], fleet=CACHED)
    everything = render_json(scan(sick))
    read.clear()
    moves = [
        ["UPDATE results SET name = 'gone' WHERE name = :sick",
         "UPDATE results SET name = :sick WHERE name = :clean"],
        [f"UPDATE results SET {part} = (SELECT {part} FROM results WHERE name = :clean) "  # noqa: S608  (ours)
         "WHERE name = :sick" for part in ("stamp", "digest", "head", "line", "models", "seal")],
        ["UPDATE results SET stamp = replace(stamp, :sick, :clean) WHERE name = :sick"],
        [("UPDATE results SET head = (SELECT head FROM results WHERE name = :clean) "
          "WHERE name = :sick")],
        ["UPDATE results SET scope = zeroblob(16) WHERE name = :sick"],
    ]  # fmt: skip
    for number, statements in enumerate(moves, 1):
        with closing(sqlite3.connect("cache.sqlite")) as base:
            for statement in statements:
                base.execute(statement, {"sick": str(sick), "clean": str(clean)})
            base.commit()
        assert render_json(scan(sick, fleet=CACHED)) == everything
        assert len(read) == number
        scan(clean, fleet=CACHED)
        read[:] = [name for name in read if name == sick.name]


def test_stamps_of_another_file_do_not_vouch_even_with_the_key(
    mixed: Path, read: list[str]
) -> None:
    """The first stamp is the file's own, whatever a row says."""
    sick, clean = mixed / "statistics-lost.pt", mixed / "epoch-3.safetensors"
    scan([sick, clean], fleet=CACHED)
    with closing(sqlite3.connect("cache.sqlite")) as base:
        words = (str(clean), str(sick))
        base.execute(
            "UPDATE results SET digest = NULL, stamp = (SELECT stamp FROM results WHERE name = ?) "
            "WHERE name = ?", words,
        )  # fmt: skip
        base.commit()
    sealed_anew(users_seal())
    read.clear()
    scan(sick, fleet=CACHED)
    assert read == [sick.name]


def test_a_cache_of_another_user_is_not_believed(
    mixed: Path, read: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor is one that was downloaded: the key is not in it. Both go on with what they write."""
    file = mixed / "epoch-1.safetensors"
    for number in (1, 2):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / f"user-{number}"))
        scan(file, fleet=CACHED)
        scan(file, fleet=CACHED)
        assert len(read) == number


def test_without_a_key_there_is_no_cache(
    mixed: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan goes on, and says why the cache is not used."""
    monkeypatch.setenv("NORMCHECK_CACHE_KEY", "short")
    said: list[str] = []
    file = mixed / "epoch-1.safetensors"
    for _ in range(2):
        report = scan(file, fleet=replace(CACHED, announce=said.append))
    assert render_json(report) == render_json(scan(file))
    assert len(read) == 3
    assert said == [said[0]] * 2
    assert said[0].startswith("the cache cache.sqlite is not used: NORMCHECK_CACHE_KEY has fewer")
    assert not Path("cache.sqlite").exists()


def test_a_cache_with_more_in_it_than_a_cache_has(mixed: Path) -> None:
    """A trigger or a view would be asked where a table is meant."""
    file = mixed / "epoch-1.safetensors"
    scan(file, fleet=CACHED)
    with closing(sqlite3.connect("cache.sqlite")) as base:
        base.execute(
            "CREATE TRIGGER t BEFORE DELETE ON results BEGIN SELECT RAISE(FAIL, 'trigger'); END"
        )
    with pytest.raises(UsageError, match="not those of a cache"):
        scan(file, fleet=CACHED)


def test_a_result_too_long_to_keep_is_not_kept(
    mixed: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made again each time, and is the same."""
    monkeypatch.setattr(row, "MOST_BYTES", 500)
    file = mixed / "epoch-1.safetensors"
    assert render_json(scan(file, fleet=CACHED)) == render_json(scan(file, fleet=CACHED))
    assert len(read) == 2


def test_an_earlier_layout_is_replaced_and_a_later_one_refused(
    mixed: Path, read: list[str]
) -> None:
    """After an update the first run fills the cache again; an older normcheck leaves it alone."""
    file = mixed / "epoch-1.safetensors"
    scan(file, fleet=CACHED)
    for layout in (1, 99):
        with closing(sqlite3.connect("cache.sqlite")) as base:
            base.execute("DROP TABLE IF EXISTS results")
            base.execute("CREATE TABLE results (result BLOB)")
            base.execute(f"PRAGMA user_version = {layout}")
            base.commit()
        if layout == 1:
            scan(file, fleet=CACHED)
            scan(file, fleet=CACHED)
            assert len(read) == 2
        else:
            with pytest.raises(UsageError, match="a later version's"):
                scan(file, fleet=CACHED)


def lines(
    target: Path,
    fleet: Fleet | None,
    policy: Policy | None = None,
    wishes: frozenset[Wish] = frozenset(),
) -> str:
    """What ``--format json-lines`` writes."""
    form, tally, text = JsonLines(), Tally(), ""
    stream = parts(target, Examination(), policy, fleet=fleet, wishes=wishes)
    with closing(stream):
        for part in stream:
            tally.add(part)
            text += form.part(part)
    return text + "".join(form.end(tally))


@pytest.mark.parametrize("filled_by_lines", [False, True])
def test_lines_are_the_same_with_and_without_a_cache(mixed: Path, *, filled_by_lines: bool) -> None:
    """Those that are kept are used where nothing is suppressed, and made anew elsewhere."""
    wishes = frozenset({Wish.LINES}) if filled_by_lines else frozenset[Wish]()
    known = LayerIgnore("stem.*", ("NC103",), "frozen on purpose")
    for policy in (None, None, Policy(layer_ignores=(known,)), None):
        assert lines(mixed, CACHED, policy, wishes) == lines(mixed, None, policy)


def test_a_known_healthy_file_is_not_unpacked(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its line is kept; the layers, most of what is kept, are left alone."""
    (mixed / "cut-off.pt").unlink()
    scan(mixed, fleet=CACHED)
    monkeypatch.setattr("normcheck.pipeline.report_parts.models_of", None)
    assert '"statistics-lost.pt"' in lines(mixed, CACHED).replace("runs/", "")


def test_two_runs_may_share_a_cache(mixed: Path, read: list[str]) -> None:
    """Both write; neither waits for the end of the other, nothing is lost."""
    one = parts([mixed / f"epoch-{n}.safetensors" for n in range(4)], fleet=CACHED)
    next(one)
    one.close()
    two = parts(
        [mixed / f"epoch-{n}.safetensors" for n in range(4, 8)], Examination(), fleet=CACHED
    )
    with closing(parts(mixed / "epoch-0.safetensors", fleet=CACHED)) as three:
        next(three)
        assert len(list(two)) == 5
    read.clear()
    scan([mixed / f"epoch-{n}.safetensors" for n in (0, 4, 5, 6, 7)], fleet=CACHED)
    assert read == []


def test_a_run_is_not_cached(mixed: Path) -> None:
    """It depends on code and data, which no key covers."""
    with pytest.raises(UsageError, match="a run also depends"):
        scan(mixed, Examination(running=Running()), fleet=CACHED)
