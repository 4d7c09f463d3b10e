"""Files made to harm: nothing of them runs, and none takes the machine's time or memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.formats import by_hand as hand
from tests.formats.watched import FLOATS, MODEL
from tests.pickles import attacks
from tests.pickles.bombs import bombs

VICTIM = """
import copyreg, pickle, sys
from pathlib import Path
copyreg.add_extension("evil_module", "run", 7)
for name in sys.argv[2:]:
    Path(sys.argv[1]).unlink(missing_ok=True)
    for module in [m for m in sys.modules if m.startswith("evil")]:
        del sys.modules[module]
    try:
        loaded = pickle.loads(Path(name).read_bytes(), encoding="bytes")
        getattr(loaded, "wait", int)()
    except Exception:
        pass
    print(Path(sys.argv[1]).exists())
"""


def test_the_attacks_are_real(marker: Path, tmp_path: Path) -> None:
    """Loaded with ``pickle.loads``, each of the attacks makes its file."""
    all_attacks = attacks.code_runners(str(marker))
    paths = []
    for number, body in enumerate(all_attacks.values()):
        paths.append(tmp_path / f"{number}.pkl")
        paths[-1].write_bytes(b"\x80\x04" + body + b".")
    process = subprocess.run(
        [sys.executable, "-B", "-c", VICTIM, str(marker), *map(str, paths)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    made = dict(zip(all_attacks, process.stdout.split(), strict=True))
    assert set(made.values()) == {"True"}, made


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_nothing_runs(form: str, marker: Path, folder: Path, read_all) -> None:
    """Beside a model, in place of a tensor or of a storage: no attack runs in any format."""
    runners = attacks.code_runners(str(marker)) | attacks.torch_runners(str(marker))
    for name, body in runners.items():
        storage = hand.several(
            hand.text("storage"), body, hand.text("0"), hand.text("cpu"), hand.number(4)
        )
        places = {
            "beside": hand.mapping({"a.weight": MODEL, "more": body}),
            "before": body + b"0" + hand.mapping({"a.weight": MODEL}),
            "tensor": hand.mapping({"a.weight": body}),
            "storage": hand.mapping({"a.weight": hand.tensor(body, (4,), (1,))}),
            "class": hand.mapping({"a.weight": hand.tensor(storage + b"Q", (4,), (1,))}),
            "metadata": hand.build(
                hand.call(hand.name("collections", "OrderedDict"))
                + b"(" + hand.text("a.weight") + MODEL + b"u",
                hand.mapping({"_metadata": body}),
            ),
        }  # fmt: skip
        for place, whole in places.items():
            path = folder / f"{name} {place}"
            if form == "zip":
                hand.torch_zip(path, hand.pickled(whole), {"0": FLOATS})
            elif form == "legacy":
                hand.legacy_file(path, whole, {"0": (4, FLOATS)})
            else:
                path.write_bytes(hand.pickled(body if place == "beside" else whole))
    outcomes = read_all()
    wrong = {name: outcome for name, (outcome, _) in outcomes.items() if "WRONG" in outcome}
    assert wrong == {}
    if form != "pickle":
        beside = {name: o for name, (o, _) in outcomes.items() if name.endswith("beside")}
        # The model is found all the same, but for a storage file that is none.
        assert {name for name, o in beside.items() if o != [""]} == {"_load_from_bytes beside"}


def test_pickles_of_every_protocol(marker: Path, folder: Path, read_all) -> None:
    """Attacks as Python's own pickle module writes them do not run either."""
    for name, data in attacks.pickled_attacks(str(marker)).items():
        (folder / name).write_bytes(data)
        hand.torch_zip(folder / f"{name} zip", data)
    assert {outcome for outcome, _ in read_all().values()} == {"NoModelError"}


def test_published_bypasses(marker: Path, folder: Path, read_all) -> None:
    """Ways past scanners run nothing, in any format, under any name."""
    for name, body in attacks.bypasses(str(marker)).items():
        data = b"\x80\x04" + body + b"."
        (folder / f"{name}.pkl").write_bytes(data)
        (folder / f"{name}.npy.txt").write_bytes(data + data)
        hand.torch_zip(folder / f"{name}.pt", data)
        hand.legacy_file(folder / f"{name}.th", body, {})
    outcomes = read_all()
    assert {outcome for outcome, _ in outcomes.values()} <= {"NoModelError", "UnreadableError"}


def test_persistent_ids(folder: Path, read_all) -> None:
    """Persistent ids of strange types are errors of ours, or belong to no model."""
    for name, body in attacks.persistent_ids().items():
        whole = hand.mapping({"a.weight": MODEL, "more": body})
        hand.torch_zip(folder / f"{name}.pt", hand.pickled(whole), {"0": FLOATS})
        hand.legacy_file(folder / f"{name}.th", whole, {"0": (4, FLOATS)})
        (folder / f"{name}.pkl").write_bytes(hand.pickled(body))
    outcomes = read_all()
    wrong = {n: o for n, (o, _) in outcomes.items() if o != [""] and not str(o).endswith("Error")}
    assert wrong == {}


def test_bombs(folder: Path, read_all) -> None:
    """Bombs end in an error of ours or harmlessly, in seconds, within a gigabyte."""
    for name, data in bombs().items():
        (folder / name).write_bytes(data)
        if "laughs" in name:
            hand.torch_zip(folder / f"{name}, zip", data)
    # In the places of a legacy file, too: its version, the object, the list of storages.
    magic = hand.pickled(hand.number(hand.MAGIC))
    version, info = hand.pickled(hand.number(1001)), hand.pickled(b"N")
    for name in ("laughs", "deep tuples"):
        bomb = bombs()[name]
        keys = hand.pickled(b"](" + bomb[2:-1] + b"e")
        (folder / f"{name}, version").write_bytes(magic + bomb)
        (folder / f"{name}, information").write_bytes(magic + version + bomb)
        (folder / f"{name}, object").write_bytes(magic + version + info + bomb)
        (folder / f"{name}, keys").write_bytes(magic + version + info + info + keys)
    outcomes = read_all()
    wrong = {
        name: result for name, result in outcomes.items() if "WRONG" in result[0] or result[1] > 20
    }
    assert wrong == {}
    assert outcomes["a module in itself"][0] == [""]
    refused = {name for name, (outcome, _) in outcomes.items() if outcome == "RefusedError"}
    assert refused >= {
        "modules that share a dictionary", "aliases along a long path", "deep tuple as a key",
        "keys that collide", "laughs as a key", "wide tuple of wide tuples as a key",
    }  # fmt: skip


OUT_OF_MEMORY = """
import resource, sys
from pathlib import Path
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.errors import RefusedError
import normcheck.formats.legacy_pickles
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20), -1))
try:
    read_checkpoint(Path(sys.argv[1]))
except RefusedError as error:
    print(error.message)
"""


def test_out_of_memory(tmp_path: Path, python) -> None:
    """A file that takes all memory that there is ends in an error that says so."""
    path = tmp_path / "sets.pkl"
    path.write_bytes(b"\x80\x04" + b"\x8f" * 1_000_000 + b".")
    process = python(OUT_OF_MEMORY, path)
    assert process.stdout == f"{path}: not enough memory to read it\n", process.stderr
