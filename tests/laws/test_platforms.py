"""What differs between systems: one file knows it, and does without what a system lacks."""

import ast
import doctest
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from normcheck import platforms
from normcheck.report.machines.file_location import uri
from normcheck.sources.place import is_remote, shown
from tests.conftest import PATIENCE, ROOT

LAYERS = (ROOT / "normcheck/platforms.py", ROOT / "normcheck/process_copy.py")


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ABSENT = {
    "os": words(
        "chown chroot confstr fchdir fchmod fchown fork forkpty getegid geteuid getgid getgroups "
        "getloadavg getpgid getpgrp getpriority getsid getuid initgroups kill killpg lchown lockf "
        "major makedev memfd_create minor mkfifo mknod nice openpty pathconf pipe2 posix_fadvise "
        "posix_fallocate posix_spawn pread preadv pwrite pwritev register_at_fork "
        "sched_getaffinity sched_setaffinity sched_yield sendfile setegid seteuid setgid setpgid "
        "setpriority setsid setuid statvfs sync sysconf tcgetpgrp ttyname uname wait wait3 wait4 "
        "WEXITSTATUS WIFEXITED WIFSIGNALED WNOHANG WTERMSIG O_CLOEXEC O_DIRECT O_DIRECTORY "
        "O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC O_BINARY O_TEMPORARY startfile"
    ),
    "signal": words(
        "SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 "
        "SIGUSR2 SIGXCPU alarm pause pthread_kill pthread_sigmask setitimer siginterrupt sigwait "
        "CTRL_C_EVENT CTRL_BREAK_EVENT"
    ),
}
"""What one of Linux, macOS and Windows lacks, or does otherwise: on Windows ``os.kill`` sends 0."""
MODULES = words("fcntl grp msvcrt pty pwd resource termios tty winreg _winapi nt posix")
ARGUMENTS = {"preexec_fn", "pass_fds", "start_new_session", "process_group", "creationflags"}
SYSTEM_FILES = ("/proc/", "/dev/", "/sys/", "/etc/", "/tmp/")  # noqa: S108  (to be found)


def trespasses(source: str) -> list[str]:
    """What a module names that not every system has."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                found += [f"{module}.{name}"] * (name in ABSENT.get(module, ()))
            case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[
                ast.Name(id=module), ast.Constant(value=name), *_
            ]):  # fmt: skip
                found += [f"{module}.{name}"] * (name in ABSENT.get(module, ()))
            case ast.ImportFrom(module=str(module), names=names):
                found += [f"{module}.{n.name}" for n in names if n.name in ABSENT.get(module, ())]
                found += [module] * (module in MODULES)
            case ast.Import(names=names):
                found += [name.name for name in names if name.name in MODULES]
            case ast.keyword(arg=str(argument)):
                found += [argument] * (argument in ARGUMENTS)
            case ast.Constant(value=str(text)):
                found += [text] * text.startswith(SYSTEM_FILES)
    return found


def test_one_file_knows_the_systems() -> None:
    """Nothing else of the package names what one of them lacks."""
    named = {
        str(path.relative_to(ROOT)): found
        for path in (ROOT / "normcheck").rglob("*.py")
        if path not in LAYERS and (found := trespasses(path.read_text(encoding="utf-8")))
    }
    assert named == {}


@pytest.mark.parametrize(
    "line",
    [
        "os.pread(1, 2, 3)",
        "getattr(os, 'sysconf', None)",
        "from os import killpg",
        "import resource",
        "from fcntl import flock",
        "signal.SIGKILL",
        "Popen([], pass_fds=(3,))",
        "f'/proc/{pid}/statm'",
        "open('/dev/null')",
    ],
)
def test_the_law_has_eyes(line: str) -> None:
    """Each way of naming such a thing is seen; the layer itself is full of them."""
    assert trespasses(line)
    assert len(trespasses(LAYERS[0].read_text(encoding="utf-8"))) > 10


def test_the_examples_hold() -> None:
    """Of the docstrings."""
    outcome = doctest.testmod(platforms)
    assert (outcome.failed, outcome.attempted > 0) == (0, True)


@pytest.fixture(params=["pread", "a lock and a seek"])
def open_file(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type:
    """The reader, with the system's own call and without."""
    if request.param == "pread" and not hasattr(os, "pread"):
        pytest.skip("this system has no pread")
    if request.param != "pread":
        monkeypatch.delattr(os, "pread", raising=False)
    return platforms.OpenFile


def test_reading_at_offsets(open_file: Callable[..., platforms.OpenFile], tmp_path: Path) -> None:
    """Any part in any order, nothing behind the end, line ends and ^Z as they are."""
    data = b"one\r\ntwo\n\x1athree\r" * 50
    path = tmp_path / "file"
    path.write_bytes(data)
    file = open_file(path)
    assert stat.S_ISREG(file.status().st_mode)
    assert file.read_at(len(data) - 3, 10) == data[-3:]
    assert file.read_at(0, len(data)) == data
    assert file.read_at(len(data), 1) == b""
    file.close()
    file.close()
    with pytest.raises(OSError, match="descriptor"):
        file.read_at(0, 1)


def test_threads_read_one_file(
    open_file: Callable[..., platforms.OpenFile], tmp_path: Path
) -> None:
    """None of them gets what another one asked for."""
    size, block = 256, 512
    path = tmp_path / "file"
    path.write_bytes(b"".join(bytes([n]) * block for n in range(size)))
    file = open_file(path)
    wrong: list[int] = []

    def read(step: int) -> None:
        for n in range(4 * size):
            place = n * step % size
            if file.read_at(place * block, block) != bytes([place]) * block:
                wrong.append(place)

    threads = [threading.Thread(target=read, args=(step,)) for step in (1, 3, 5, 7, 11, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.close()
    assert wrong == []


def test_memory_and_processors() -> None:
    """Plausible where the system tells."""
    assert 1 <= platforms.processors() <= 100_000
    assert platforms.memory_of(1 << 30) == 0
    if not platforms.watches_memory():
        pytest.skip("this system does not tell")
    here = platforms.memory_of(os.getpid())
    assert 1 << 20 < here < platforms.memory_of_machine() < 1 << 50


@pytest.mark.skipif(os.name != "posix", reason="asks ps")
def test_memory_by_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What macOS has instead of /proc; none of a process that is gone, or without ps."""
    if shutil.which("ps") is None:
        pytest.skip("this system has no ps")
    told = platforms._memory_by_ps(os.getpid())
    assert told > 1 << 20
    if Path("/proc/self/statm").exists():
        assert told == pytest.approx(platforms.memory_of(os.getpid()), rel=0.5)
    assert platforms._memory_by_ps(1 << 30) == 0
    monkeypatch.setenv("PATH", "")
    assert platforms._memory_by_ps(os.getpid()) == 0


def test_where_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero, not an error, without sysconf; no limit without the resource module."""
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert (platforms.memory_of_machine(), platforms.memory_of(os.getpid())) == (0, 0)
    assert not platforms.watches_memory()
    monkeypatch.setitem(sys.modules, "resource", None)
    assert platforms.limit_memory(1 << 40) is False
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert platforms.processors() == (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("path", "windows"),
    [
        ("/C:/models/a.pt", "C:/models/a.pt"),
        ("///d:/a.pt", "d:/a.pt"),
        ("/models/a.pt", "/models/a.pt"),
        ("/models/C:/a.pt", "/models/C:/a.pt"),
    ],
)
def test_paths_of_file_addresses(path: str, windows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drive loses the slash that an address has in front of it, on Windows only."""
    if os.name == "posix":
        assert platforms.local_path(path) == path
    monkeypatch.setattr(platforms, "WINDOWS", True)
    assert platforms.local_path(path) == windows


@pytest.mark.parametrize(
    "word", [r"C:\models\a.pt", "C:/models/a.pt", "c://a.pt", r"\\host\share\a.pt", "NUL"]
)
def test_paths_of_windows_are_no_addresses(word: str) -> None:
    """One letter is a drive, and two backslashes are a machine of the network."""
    assert not is_remote(word)
    assert shown(word) == word


def test_a_drive_in_a_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of SARIF: a file elsewhere on Windows; a folder with a colon in its name is one elsewhere."""
    root = Path("/work")
    if os.name == "posix":
        assert uri("C:/a b/m.pt", root) == "C%3A/a%20b/m.pt"
    monkeypatch.setattr(platforms, "WINDOWS", True)
    assert uri("C:/a b/m.pt", root) == "file:///C:/a%20b/m.pt"
    assert uri("a b/m.pt", root) == "a%20b/m.pt"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_of_a_configuration(end: str, command, tmp_path: Path) -> None:
    """A file that was written on Windows says the same."""
    lines = ["[models.'*']", "ignore = ['NC101']", ""]
    (tmp_path / "normcheck.toml").write_bytes(end.join(lines).encode())
    (tmp_path / "m.pt").write_bytes((ROOT / "sample_models/statistics-lost.pt").read_bytes())
    done = command("scan", "m.pt", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stdout + done.stderr


ECHO = (
    "import sys; from normcheck.platforms import linked\n"
    "link = linked(sys.argv[-1])\n"
    "while part := link.recv(100): link.sendall(part.upper())\n"
)


@pytest.fixture(params=["handed down", "called back"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a process gets its end of the link."""
    if request.param == "handed down" and not hasattr(os, "fork"):
        pytest.skip("this system hands no descriptors down")
    if request.param == "called back":
        monkeypatch.delattr(os, "fork", raising=False)
    return str(request.param)


def run(code: str) -> tuple["subprocess.Popen[bytes]", platforms.Any]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", code]
    return platforms.started(line, stdin=subprocess.DEVNULL, env=environment)


def test_the_link(way: str) -> None:
    """Both ways, until the process is ended, and not with its end."""
    process, link = run(ECHO)
    with link:
        for text in (b"one", b"two" * 20):
            link.sendall(text)
            got = b""
            while len(got) < len(text):
                got += link.recv(100)
            assert got == text.upper()
        assert process.poll() is None
        platforms.end(process)
        assert process.returncode
        assert gone(link)
    assert platforms.ended_by(process.returncode) == ("SIGKILL" if os.name == "posix" else "")


def gone(link: platforms.Any) -> bool:
    try:
        return link.recv(1) == b""
    except ConnectionError:
        return True


def test_a_process_that_dies_before_it_links(way: str) -> None:
    """Nobody waits for it: reading says that it is gone."""
    process, link = run("raise SystemExit(7)")
    with link:
        assert gone(link)
    assert process.wait() == 7
    assert platforms.ended_by(7) == ""


def alone(code: str) -> "subprocess.CompletedProcess[str]":
    """What code does in a process of its own, which has a single thread."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        timeout=PATIENCE,
    )  # fmt: skip


COPY = """
import os, sys
from normcheck import platforms, process_copy

kept = open(os.devnull)
sys.stdout.write("once ")

def work(word):
    link = platforms.linked(word)
    try:
        os.fstat(kept.fileno())
    except OSError:
        link.sendall(b"closed")
    print("beside", flush=True)
    link.recv(1)
    WHAT

process, link = process_copy.copied(work)
assert link.recv(100) == b"closed" and process.poll() is None
link.sendall(b"x")
assert link.recv(1) == b""
print(process.wait(), process.poll())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux alone")
@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("pass", 0, ""),
        ("raise SystemExit(7)", 7, ""),
        ("raise SystemExit", 0, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("os.kill(os.getpid(), 9)", -9, ""),
    ],
)
def test_a_copy_of_a_process(what: str, code: int, said: str) -> None:
    """It has no files of the first, prints to stderr, and ends where its work ends."""
    done = alone(COPY.replace("WHAT", what))
    assert done.stdout == f"once {code} {code}\n", done.stderr
    assert done.stderr.startswith("beside\n")
    assert said in done.stderr
    assert bool(said) == ("Traceback" in done.stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux alone")
def test_ctrl_c_while_a_copy_is_made() -> None:
    """It is for the process that was copied, which leaves no copy behind, nor a word of one."""
    code = (
        "import os, signal, time\n"
        "from normcheck import process_copy\n"
        # Whoever starts the tests in the background has it ignored, which is inherited.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "fork = os.fork\n"
        "def forked():\n"
        "    process = fork()\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"  # as a terminal sends it to both
        "    return process\n"
        "os.fork = forked\n"
        "try:\n"
        "    process_copy.copied(lambda word: time.sleep(60))\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    done = alone(code)
    assert (done.stdout, done.stderr) == (f"interrupted {-signal.SIGTERM}\n", "")
    assert done.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux alone")
def test_a_copy_is_ended_with_what_it_started() -> None:
    """From its first moment on; and whoever waits for it is told that it goes on."""
    code = (
        "import subprocess, sys, time\n"
        "from normcheck import platforms, process_copy\n"
        "def work(word):\n"
        "    link = platforms.linked(word)\n"
        "    child = subprocess.Popen(['sleep', '60'])\n"
        "    link.sendall(b'%d ' % child.pid)\n"
        "    time.sleep(60)\n"
        "process, link = process_copy.copied(work)\n"
        "child = int(link.recv(100))\n"
        "try:\n"
        "    process.wait(0.01)\n"
        "except subprocess.TimeoutExpired:\n"
        "    platforms.end(process)\n"
        "while platforms.memory_of(child):\n"
        "    time.sleep(0.01)\n"  # the system takes a moment for it
        "print(process.returncode)\n"
    )
    done = alone(code)
    assert (done.stdout, done.stderr) == ("-9\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux alone")
def test_who_has_threads_is_not_copied() -> None:
    """A lock that another one holds would never be given back."""
    code = (
        "import threading\n"
        "from normcheck.process_copy import can_copy\n"
        "print(can_copy(), end=' ')\n"
        "event = threading.Event()\n"
        "thread = threading.Thread(target=event.wait)\n"
        "thread.start()\n"
        "print(can_copy())\n"
        "event.set()\n"
    )
    done = alone(code)
    assert done.stdout == "True False\n", done.stderr
    assert done.returncode == 0


def test_a_stranger_does_not_get_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any process of the machine can call; only who knows the secret is listened to."""
    monkeypatch.delattr(os, "fork", raising=False)
    process, link = run(
        "import socket, sys\n"
        "place = ('127.0.0.1', int(sys.argv[-1][1:]))\n"
        "for said in (b'', b'x', b'0' * 64, bytes(range(128, 192))):\n"
        "    with socket.create_connection(place) as stranger: stranger.sendall(said)\n" + ECHO
    )
    with link:
        link.sendall(b"us")
        assert link.recv(2) == b"US"
    assert process.wait() == 0


def test_the_secret_is_in_no_command_line_and_not_handed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other users see the one; what a model starts would get the other."""
    monkeypatch.delattr(os, "fork", raising=False)
    process, link = run(
        "import os, sys; from normcheck.platforms import linked\n"
        "secret = os.environ['NORMCHECK_LINK']\n"
        "link = linked(sys.argv[-1])\n"
        "fine = secret not in ' '.join(sys.orig_argv) and 'NORMCHECK_LINK' not in os.environ\n"
        "link.sendall(b'fine' if fine else b'told')\n"
    )
    with link:
        assert link.recv(4) == b"fine"
    process.wait()


def test_ending_without_process_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process alone, where there is no taskkill either."""
    monkeypatch.delattr(os, "killpg", raising=False)
    monkeypatch.setattr("shutil.which", lambda _: None)
    process, link = run(ECHO)
    platforms.end(process)
    assert process.returncode
    link.close()


def test_ending_with_taskkill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes along what the process started; not of one that has ended: numbers come again."""
    calls: list[list[str]] = []
    monkeypatch.delattr(os, "killpg", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: f"{name}.exe")
    monkeypatch.setattr(subprocess, "run", lambda words, **_: calls.append(words))
    process, link = run(ECHO)
    platforms.end(process)
    link.close()
    assert calls == [["taskkill.exe", "/T", "/F", "/PID", str(process.pid)]]
    platforms.end(process)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, ""),
        (7, ""),
        (-9, "SIGKILL"),
        (-11, "SIGSEGV"),
        (-250, "signal 250"),
        (0xC0000005, "status 0xC0000005"),
        (0xC000013A, "status 0xC000013A"),
    ],
)
def test_what_ended_a_process(code: int, said: str) -> None:
    """A signal's name, or the status with which Windows ends what crashed."""
    if code < 0 and os.name != "posix":
        pytest.skip("no signals end a process here")
    assert platforms.ended_by(code) == said


# A system that lacks what Windows lacks, as far as Python itself does without it here.
LACKING = """
import os, sys
for name in NAMES:
    if hasattr(os, name):
        delattr(os, name)
for name in ("resource", "fcntl", "grp", "pwd", "termios"):
    sys.modules[name] = None
"""
NEEDED_BY_PYTHON = words(
    "WNOHANG WIFEXITED WIFSIGNALED WEXITSTATUS WTERMSIG kill uname register_at_fork"
)
"""Here; there it has others in their place."""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs normcheck, and all processes that it starts, with those names absent."""
    folder = tmp_path / "lacking"
    folder.mkdir()
    names = sorted(ABSENT["os"] - NEEDED_BY_PYTHON)
    prelude = LACKING.replace("NAMES", repr(names))
    witness = f"open({str(folder / 'seen')!r}, 'a').write('1')\n"
    (folder / "sitecustomize.py").write_text(prelude + witness, encoding="utf-8")

    def run(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        result = subprocess.run(
            [sys.executable, "-m", "normcheck", *words],
            cwd=ROOT,
            env={
                **os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "COLUMNS": "80",
                "PYTHONUTF8": "1", "NO_COLOR": "1", **environment,
            },
            capture_output=True,
            encoding="utf-8",
            check=False,
        )  # fmt: skip
        result.processes = len((folder / "seen").read_text())  # type: ignore[attr-defined]
        (folder / "seen").unlink()
        return result

    return run


def same(
    elsewhere: Callable[..., "subprocess.CompletedProcess[str]"],
    command: Callable[..., "subprocess.CompletedProcess[str]"],
    *words: str,
) -> "subprocess.CompletedProcess[str]":
    here, there = command(*words, NO_COLOR="1"), elsewhere(*words)
    assert (there.returncode, there.stdout) == (here.returncode, here.stdout), there.stderr
    return there


@pytest.mark.slow
def test_a_scan_without_them(elsewhere, command) -> None:
    """The same report of every sample model, in one process and in two."""
    alone = same(elsewhere, command, "scan", "sample_models", "--jobs", "1")
    assert (alone.returncode, alone.processes) == (1, 1)
    shared = same(elsewhere, command, "scan", "sample_models", "--jobs", "2")
    assert shared.processes == 3
    assert shared.stdout == alone.stdout


@pytest.mark.slow
def test_a_run_without_them(elsewhere, command) -> None:
    """In a process of its own, in one of the pool's, and what cannot be bounded is said."""
    pytest.importorskip("torch")
    words = ("scan", "sample_models/mlp-batchnorm-module.pt", "--run")
    ran = same(elsewhere, command, *words)
    assert ran.processes == 2
    assert "forwards" in ran.stdout
    assert "--memory-limit" not in ran.stderr
    bounded = same(elsewhere, command, *words, "sample_models/digits-healthy.pt", "--jobs", "2",
                   "--memory-limit", "64G")  # fmt: skip
    assert "--memory-limit is not held" in bounded.stderr
    assert bounded.processes > 3


@pytest.mark.slow
def test_a_repair_without_them(elsewhere, tmp_path: Path) -> None:
    """The copy is whole, and nothing is left beside it."""
    pytest.importorskip("torch")
    output = tmp_path / "out" / "fixed.pt"
    output.parent.mkdir()
    result = elsewhere(
        "fix", "sample_models/statistics-lost.pt", "--model", "sample_models.networks:DigitsNet",
        "--data", "sample_models/digits.npz", "-o", str(output),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert [path.name for path in output.parent.iterdir()] == ["fixed.pt"]
