"""Models from a factory of the user's: finding it, calling it, and what goes wrong."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from normcheck.errors import UsageError
from normcheck.live.loading.model_factory import build, imported

SOURCE = """
import sys
from torch import nn

count = 3
_private = 1


class Net(nn.Module):
    def __init__(self, width=4, depth=1):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))


class zoo:
    small = Net

    class deep:
        @staticmethod
        def make(width):
            return Net(width)


ready = Net(7)


def nothing():
    return {"not": "a module"}


def fails(width):
    raise KeyError("weights.bin")


def leaves():
    sys.exit("usage: train.py")
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a user's modules, which is the current one; imports are forgotten after."""
    folder = tmp_path / "project"
    (folder / "package").mkdir(parents=True)
    (folder / "nets_of_user.py").write_text(SOURCE)
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "inner.py").write_text("from nets_of_user import Net as build\n")
    (folder / "broken_of_user.py").write_text("import does_not_exist\n")
    (folder / "script_of_user.py").write_text("import sys\nsys.exit(2)\n")
    (folder / "empty_of_user.py").write_text("_hidden = 1\n")
    other = tmp_path / "other place"
    other.mkdir()
    (other / "by_path.py").write_text("from beside import Net\n\ndef build():\n    return Net(5)\n")
    (other / "beside.py").write_text(SOURCE)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


def width(model: nn.Module) -> int:
    return next(model.parameters()).shape[0]


@pytest.mark.parametrize(
    ("spec", "arguments", "expected"),
    [
        ("nets_of_user:Net", {}, 4),
        ("nets_of_user:Net", {"width": 6, "depth": 2}, 6),
        ("nets_of_user:Net", [3, 2], 3),
        ("nets_of_user:zoo.small", [2], 2),
        ("nets_of_user:zoo.deep.make", {"width": 9}, 9),
        ("nets_of_user:ready", {}, 7),
        ("package.inner:build", {}, 4),
        ("nets_of_user.py:Net", {}, 4),
        ("./nets_of_user.py:Net", {}, 4),
        ("../other place/by_path.py:build", {}, 5),
    ],
)
def test_factory_is_found_and_called(spec: str, arguments: Any, expected: int) -> None:
    """By module or file, from the current directory, with dots and arguments of either kind."""
    assert width(build(spec, arguments)) == expected


def test_file_with_absolute_path(project: Path) -> None:
    """A file is imported by its path wherever it lies, and finds its neighbours."""
    assert width(build(f"{project.parent / 'other place' / 'by_path.py'}:build", {})) == 5


@pytest.mark.parametrize("spec", ["nets_of_user", ":Net", "nets_of_user:", "nets_of_user.Net", ""])
def test_not_of_the_form(spec: str) -> None:
    """Without module, colon or name the form is explained, and nothing is imported."""
    with pytest.raises(UsageError, match=r"not of the form pkg\.mod:name") as caught:
        imported(spec, "--model")
    assert "--model" in caught.value.hint
    assert "nets_of_user" not in sys.modules


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        (
            "no_such_module_here:f",
            "importing no_such_module_here failed: ModuleNotFoundError",
            "cur",
        ),
        ("package.none:f", "importing package.none failed: ModuleNotFoundError", "current"),
        ("broken_of_user:f", "ModuleNotFoundError: No module named 'does_not_exist'", "current"),
        ("script_of_user:f", "importing script_of_user failed: SystemExit: 2", "current"),
        (".relative:f", "importing .relative failed", "current"),
        ("absent.py:f", "absent.py: no such file", "name a Python file"),
        ("nets_of_user:absent", "nets_of_user has no absent", "it has Net, zoo, ready"),
        ("nets_of_user:zoo.large", "nets_of_user has no zoo.large", "it has small, deep"),
        ("nets_of_user:count", "neither a function nor a class", "name a factory"),
        ("nets_of_user:nothing", "made a dict, not an nn.Module", "returns the model"),
        ("nets_of_user:fails", "failed: TypeError", "nets_of_user:fails(width)"),
    ],
)
def test_errors_say_what_and_how(spec: str, message: str, hint: str) -> None:
    """Each mistake has its own message, and a hint on what to do."""
    with pytest.raises(UsageError) as caught:
        build(spec, {})
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_factory_that_raises() -> None:
    """What the factory raised is told, with the signature that its arguments have to fit."""
    with pytest.raises(UsageError) as caught:
        build("nets_of_user:fails", {"width": 3})
    assert caught.value.message == "--model nets_of_user:fails failed: KeyError: 'weights.bin'"
    with pytest.raises(UsageError, match="unexpected keyword argument 'size'") as caught:
        build("nets_of_user:Net", {"size": 3})
    assert "(width=4, depth=1)" in caught.value.hint


def test_factory_that_exits() -> None:
    """A factory that reads the command line and exits is an error like any other."""
    with pytest.raises(UsageError, match="SystemExit"):
        build("nets_of_user:leaves", {})


def test_attribute_of_a_plain_value() -> None:
    """An attribute that a number does not have is missing like any other."""
    with pytest.raises(UsageError, match=r"has no count\.model"):
        build("nets_of_user:count.model", {})


def test_nothing_public_to_name() -> None:
    """Where a module has nothing public, no list of names is begun."""
    with pytest.raises(UsageError, match="has no build") as caught:
        build("empty_of_user:build", {})
    assert caught.value.hint.strip() in ("", "it has")


def test_interrupt_is_not_swallowed(project: Path) -> None:
    """Ctrl-C during an import ends the run."""
    (project / "slow_of_user.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        imported("slow_of_user:f", "--model")


def test_flag_is_named() -> None:
    """The message names the flag that was given, as data come by the same road."""
    with pytest.raises(UsageError, match=r"^--data nothing"):
        imported("nothing_of_user:f", "--data")
    found: Callable[..., nn.Module] = imported("nets_of_user:Net", "--data")
    assert isinstance(found(2), torch.nn.Module)
