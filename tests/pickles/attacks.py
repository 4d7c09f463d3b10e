"""Pickles that would run code if anybody loaded them."""

import pickle
import struct
from collections.abc import Callable
from typing import Any

from tests.formats import by_hand as hand


class Attack:
    """Runs a function when it is loaded."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.recipe = (function, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.recipe


EVIL_MODULE = """
import os
from pathlib import Path

MARKER = Path(os.environ["MARKER"])
if "evil_at_import" in __name__:
    MARKER.touch()


def run(*args, **kwargs):
    MARKER.touch()
    return 1


class OnState:
    def __setstate__(self, state):
        run()


class OnNew:
    def __new__(cls, *args, **kwargs):
        run()
        return object.__new__(cls)


class OnAppend(list):
    def append(self, value):
        run()

    extend = append


class OnItem(dict):
    def __setitem__(self, key, value):
        run()


class OnHash:
    def __hash__(self):
        run()
        return 1
"""
"""Lies on the reading process's path as ``evil_module`` and ``evil_at_import``."""

RUN = hand.name("evil_module", "run")


def new(name: str) -> bytes:
    """An object of a class of the evil module, made by NEWOBJ."""
    return hand.name("evil_module", name) + b")\x81"


def code_runners(marker: str) -> dict[str, bytes]:
    """Pickle instructions by name; loading any of them makes the file ``marker``."""
    touch = f"touch {marker}"
    python = f"open({marker!r}, 'w')"

    def reduced(function: str, member: str, *args: str) -> bytes:
        return hand.call(hand.name(function, member), *map(hand.text, args))

    getattr_chain = hand.call(
        hand.call(hand.name("builtins", "getattr"), reduced("builtins", "__import__", "os"),
                  hand.text("system")),
        hand.text(touch),
    )  # fmt: skip
    return {
        "os.system": reduced("os", "system", touch),
        "posix.system": reduced("posix", "system", touch),
        "exec": reduced("builtins", "exec", python),
        "eval": reduced("builtins", "eval", python),
        "subprocess": hand.call(
            hand.name("subprocess", "check_output"), hand.listed(*map(hand.text, touch.split()))
        ),
        "Popen": hand.call(
            hand.name("subprocess", "Popen"), hand.listed(*map(hand.text, touch.split()))
        ),
        "getattr chain": getattr_chain,
        "open": reduced("builtins", "open", marker, "w"),
        "GLOBAL": b"cevil_at_import\nrun\n",
        "STACK_GLOBAL": hand.text("evil_at_import") + hand.text("run.__name__") + b"\x93",
        "INST": b"(" + hand.text(touch) + b"ios\nsystem\n",
        "OBJ": b"(cos\nsystem\n" + hand.text(touch) + b"o",
        "OBJ of a class": b"(cevil_module\nOnNew\no",
        "NEWOBJ": new("OnNew"),
        "NEWOBJ_EX": hand.name("evil_module", "OnNew") + b")" + hand.mapping({"a": RUN}) + b"\x92",
        "BUILD": hand.build(new("OnState"), hand.mapping({"a": hand.NONE})),
        "EXT1": b"\x82\x07)R",
        "EXT2": b"\x83\x07\x00)R",
        "EXT4": b"\x84\x07\0\0\0)R",
        "APPEND": new("OnAppend") + b"Na",
        "APPENDS": new("OnAppend") + b"(NNe",
        "SETITEM": new("OnItem") + b"NNs",
        "SETITEMS": new("OnItem") + b"(NNu",
        "hash of a key": b"}" + new("OnHash") + b"Ns",
        "hash of a member": b"\x8f(" + new("OnHash") + b"\x90",
        "frozenset": b"(" + new("OnHash") + b"\x91",
        "set by a call": hand.call(hand.name("builtins", "set"), hand.listed(new("OnHash"))),
        "partial": hand.call(
            hand.call(hand.name("functools", "partial"), RUN, hand.number(1)), hand.number(2)
        ),
        "map": hand.call(
            hand.name("builtins", "list"),
            hand.call(hand.name("builtins", "map"), RUN, hand.listed(hand.number(1))),
        ),
    }


def torch_runners(marker: str) -> dict[str, bytes]:
    """Instructions that abuse torch's own rebuild functions."""
    inner = hand.pickled(hand.call(hand.name("os", "system"), hand.text(f"touch {marker}")))
    return {
        "_rebuild_from_type_v2": hand.call(
            hand.name("torch._tensor", "_rebuild_from_type_v2"), RUN,
            hand.name("torch", "Tensor"), hand.several(hand.number(1)), hand.NONE,
        ),
        "_load_from_bytes": hand.call(
            hand.name("torch.storage", "_load_from_bytes"),
            b"B" + struct.pack("<I", len(inner)) + inner,
        ),
        "a parameter of it": hand.call(
            hand.name("torch._utils", "_rebuild_parameter"), hand.call(RUN), hand.TRUE, hand.NONE
        ),
    }  # fmt: skip


def pickled_attacks(marker: str) -> dict[str, bytes]:
    """Attacks as Python's own pickle module writes them, in every protocol."""
    import os
    import subprocess

    attacks = {"system": Attack(os.system, f"touch {marker}"),
               "exec": Attack(exec, f"open({marker!r}, 'w')"),
               "call": Attack(subprocess.call, ["touch", marker])}  # fmt: skip
    return {
        f"{name}, protocol {protocol}": pickle.dumps({"model": attack}, protocol)
        for name, attack in attacks.items()
        for protocol in range(6)
    }


def bypasses(marker: str) -> dict[str, bytes]:
    """Ways past scanners that have been published, each around a payload that makes ``marker``.

    They confuse a scanner about what is named, or break it before it gets there; a machine that
    runs nothing has nothing to be confused about.
    """
    touch = hand.text(f"touch {marker}")
    system = hand.call(hand.name("posix", "system"), touch)
    hidden = hand.text("os") + b"q\x000" + hand.text("system") + b"q\x010"
    decoys = hand.text("torch._utils") + b"\x940" + hand.text("_rebuild_tensor_v2") + b"\x940"
    return {
        "memo by two counts": hidden + decoys + b"h\x00h\x01\x93" + hand.several(touch) + b"R",
        "padding before a name": hand.text("os") + hand.text("system")
        + (hand.text("torch") + b"0") * 9 + b"\x93" + hand.several(touch) + b"R",
        "memo that is missing": system + b"0h\xc8\x93",
        "memo of another type": system + b"0K\x07q\x05h\x05h\x05\x93",
        "an end that breaks": system + b"0\xff\xff",
        "no end": system + b"0X\xff\xff\xff\xff",
        "a protocol of the future": b"\x80\xff" + system,
        "a frame that lies": b"\x95\xff\xff\xff\xff\x00\x00\x00\x00" + system,
        "a parent's name": hand.call(
            hand.name("asyncio.unix_events", "_UnixSubprocessTransport._start"), touch
        ),
        "a name with dots": hand.text("os") + hand.text("path.os.system") + b"\x93"
        + hand.several(touch) + b"R",
        "a wide name": hand.text("\uff4f\uff53") + hand.text("system") + b"\x93"
        + hand.several(touch) + b"R",
        "pip": hand.call(hand.name("pip", "main"), hand.listed(hand.text("install"), touch)),
        "timeit": hand.call(hand.name("timeit", "timeit"), hand.text(f"open({marker!r}, 'w')")),
        "runpy": hand.call(hand.name("runpy", "run_path"), hand.text(marker)),
        "profile": hand.call(hand.name("cProfile", "run"), hand.text(f"open({marker!r}, 'w')")),
        "numpy's runstring": hand.call(
            hand.name("numpy.testing._private.utils", "runstring"),
            hand.text(f"open({marker!r}, 'w')"), b"}",
        ),
        "torch.load of another file": hand.call(hand.name("torch", "load"), hand.text("x.pt")),
        "torch.hub": hand.call(hand.name("torch.hub", "load"), hand.text("a/b"), hand.text("c")),
        "a pager": hand.call(hand.name("pydoc", "pipepager"), hand.text(""), touch),
        "ctypes": hand.call(hand.name("ctypes", "CDLL"), hand.text(marker)),
        "an extension of the registry": b"\x84\xff\xff\xff\x7f)R",
        "attributes by operator": hand.call(
            hand.call(hand.name("operator", "methodcaller"), hand.text("system"), touch),
            hand.name("os", "sys"),
        ),
    }  # fmt: skip


def persistent_ids() -> dict[str, bytes]:
    """Persistent ids that no program writes."""
    storage = [hand.text("storage"), hand.name("torch", "FloatStorage"), hand.text("0"),
               hand.text("cpu"), hand.number(4)]  # fmt: skip

    def with_part(index: int, part: bytes) -> bytes:
        parts = list(storage)
        parts[index] = part
        return hand.several(*parts) + b"Q"

    odd = {"none": b"N", "number": b"K\x07", "list": b"]", "set": b"\x8f", "name": RUN,
           "object": hand.call(RUN), "bytes": b"C\x01a", "float": b"G" + bytes(8)}  # fmt: skip
    return {
        **{f"id {name}": value + b"Q" for name, value in odd.items()},
        **{f"{place} {name}": with_part(index, value) for name, value in odd.items()
           for index, place in ((0, "kind"), (1, "class"), (2, "key"), (4, "length"))},
        "short": hand.several(*storage[:3]) + b"Q",
        "a line": b"P../../etc/passwd\n",
        "key as a path": with_part(2, hand.text("../../../etc/passwd")),
        "length below zero": with_part(4, hand.number(-1)),
        "length past all": with_part(4, hand.number(1 << 70)),
    }  # fmt: skip
