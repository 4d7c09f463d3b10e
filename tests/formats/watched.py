"""Reading under guard: in a process that ends at whatever a mere reader has no need to do."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE
from tests.formats import by_hand as hand
from tests.formats.exports import hostile
from tests.pickles import attacks

FLOATS = struct.pack("<4f", 1, 2, 3, 4)
MODEL = hand.tensor(hand.storage(), (4,), (1,))

READER = """
import copyreg, json, os, resource, signal, sys, time
from pathlib import Path

copyreg.add_extension("evil_module", "run", 7)
folder, warm = map(Path, sys.argv[1:])

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.formats.reading_errors import complete
from normcheck.errors import NormcheckError
from normcheck.norms.find_norms import anatomy_of

def read(path):
    checkpoint = read_checkpoint(path)
    for model in checkpoint.models:
        for tensor in list(model.tensors.values())[:10]:
            tensor.values() if tensor.readable else None
        if model.graph is not None:
            anatomy_of(model)
    checkpoint.close()
    return [model.where for model in checkpoint.models]

for path in warm.iterdir():  # so that all of our own code and its codecs are imported
    read(path)
for codec in ("raw-unicode-escape", "latin-1", "cp437"):
    b"x".decode(codec), "x".encode("latin-1")

HARMLESS = sys.stdlib_module_names | {"normcheck", "numpy"}
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.", "socket.",
             "exec", "compile", "pickle.find_class", "ctypes.", "os.remove", "os.rename",
             "os.mkdir", "shutil.", "marshal.", "code.", "import")
violations = []
watching = True

def watch(event, args):
    if not watching:
        return
    bad = event.startswith(FORBIDDEN)
    if event == "compile" and args[1] == "<unknown>":
        bad = False  # the parser alone: what it makes would have to be executed, too
    if event == "import" and args[0].split(".")[0] in HARMLESS - {"evil_module"}:
        bad = False
    if event == "open":
        mode, flags = args[1] or "", args[2] or 0
        bad = bool(set(mode) & set("wax+")) or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    if bad:
        violations.append(f"{event} {args!r:.200}")
        raise SystemExit(f"{event} {args!r:.200}")

def too_long(*_):
    raise SystemExit("too long")

# Time of the processor, not of the clock: what else the machine does is no fault of a file.
signal.signal(signal.SIGPROF, too_long)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), -1))
sys.addaudithook(watch)
outcomes = {}
for path in sorted(folder.iterdir()):
    begin = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, 30)
    try:
        outcome = read(path)
    except NormcheckError as error:
        complete(error, str(path))
        outcome = type(error).__name__
        assert str(path) in error.message and error.hint, path
        assert len(error.message) < 1000, path
    except BaseException as error:
        outcome = f"WRONG: {type(error).__name__} {str(error):.300}"
    signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.process_time() - begin
    outcomes[path.name] = [outcome, round(seconds, 2)]
watching = False
print(json.dumps({"outcomes": outcomes, "violations": violations}))
"""


@pytest.fixture
def marker(tmp_path: Path, monkeypatch) -> Path:
    """The file that every attack tries to make; the evil modules lie on the path."""
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("evil_module", "evil_at_import"):
        evil.joinpath(f"{name}.py").write_text(attacks.EVIL_MODULE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(evil), *filter(None, sys.path)]))
    monkeypatch.setenv("MARKER", str(tmp_path / "marker"))
    return tmp_path / "marker"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the hostile files go."""
    path = tmp_path / "hostile"
    path.mkdir()
    return path


@pytest.fixture
def read_all(tmp_path: Path, marker: Path, folder: Path):
    """Reads every file of ``folder`` in a process that is watched; the outcomes by name."""
    warm = tmp_path / "warm"
    warm.mkdir()
    body = hand.mapping({"a.weight": MODEL})
    hand.torch_zip(warm / "a.pt", hand.pickled(body), {"0": FLOATS})
    hand.legacy_file(warm / "b.pt", body, {"0": (4, FLOATS)})
    (warm / "c.pt").write_bytes(hostile.script())
    (warm / "d.pt2").write_bytes(hostile.program())

    def reading() -> dict[str, Any]:
        process = subprocess.run(
            [sys.executable, "-B", "-c", READER, str(folder), str(warm)],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr[-2000:]
        report = json.loads(process.stdout)
        assert report["violations"] == [], report["violations"]
        assert not marker.exists()
        assert len(report["outcomes"]) == len(list(folder.iterdir()))
        return dict(report["outcomes"])

    return reading
