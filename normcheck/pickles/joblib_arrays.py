"""Arrays that joblib writes into the middle of a pickle.

``joblib.dump`` puts a small object of its own in the place of each array, and what the array holds
right behind the instruction that gives this object its state (``NumpyArrayWrapper.write_array`` in
joblib/numpy_pickle.py): the bytes, often behind a padding whose length one byte tells; of an array
of objects a pickle of its own. Scalers and vocabularies that lie beside a model, and whole
scikit-learn pipelines with a network in them, are such files.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from normcheck.pickles.inert import GlobalName, Inert

if TYPE_CHECKING:
    from normcheck.pickles.window import PickleWindow

NESTED = 16
"""Arrays of objects that hold arrays of objects, one within the other, that are gone into."""
_WRAPPER = GlobalName("joblib.numpy_pickle", "NumpyArrayWrapper")
_TEXT_BYTES = 4
"""Of each character of an array of texts (``U12``); the other types tell bytes."""


def stands_for_an_array(target: Inert) -> bool:
    """Whether an array lies right behind the state of this object."""
    cls = target.cls
    return isinstance(cls, GlobalName) and cls == _WRAPPER


def holds_objects(state: object) -> bool:
    """Whether the array that a wrapper's state describes is a pickle of its own."""
    return _code(state)[:1] == "O"


def pass_over(window: PickleWindow, state: object) -> tuple[int, int]:
    """Go on behind the bytes of an array of numbers or texts, without reading them.

    Returns:
        Where in the stream they begin, and how many they are.

    Raises:
        UnreadableError: The file ends within them.
        ValueError: The state describes no array.
    """
    described = state if isinstance(state, dict) else {}
    shape, code = described.get("shape"), _code(state)
    width = code[1:]
    if (
        not isinstance(shape, tuple)
        or not all(type(n) is int and n >= 0 for n in shape)
        or not width.isdecimal()
    ):
        raise ValueError("an array of joblib without a shape or a type")
    if described.get("numpy_array_alignment_bytes") is not None:
        window.skip(window.byte())
    begin, length = (
        window.position,
        prod(shape) * int(width) * (_TEXT_BYTES if code[0] == "U" else 1),
    )
    window.skip(length)
    return begin, length


def _code(state: object) -> str:
    """What numpy calls the type: a letter and a width, as in ``f8``; empty where nothing tells."""
    described = state.get("dtype") if isinstance(state, dict) else None
    code = described.args[0] if isinstance(described, Inert) and described.args else ""
    return code if isinstance(code, str) and len(code) < len("U" + "9" * 12) else ""
