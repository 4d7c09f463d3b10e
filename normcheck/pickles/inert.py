"""What a pickle describes, as values that cannot do anything.

A pickle names classes and functions and says what to call them with. Here a name stays
a :class:`GlobalName`, and what would be made by calling it an :class:`Inert` that
remembers the recipe. Only containers and numbers become what they are.
"""

import sys
from collections import ChainMap
from collections.abc import Iterator, Mapping
from typing import Any

from normcheck.often_made import often_made
from normcheck.wording import in_short


@often_made()
class GlobalName:
    """A class or function that the pickle names; never looked up, never imported."""

    module: str
    name: str

    @property
    def dotted(self) -> str:
        """``module.name``; one string for all the objects of a class, however many there are."""
        return sys.intern(f"{self.module}.{self.name}")


class Inert:
    """An object that the pickle describes, of a class that is not loaded.

    Identity is its equality: two objects with equal contents stay two objects, as shared
    modules have to be told from equal ones.
    """

    __slots__ = ("args", "cls", "entries", "items", "kwargs", "state")

    def __init__(self, cls: object, args: tuple[Any, ...] = (), kwargs: object = None) -> None:
        """Remember the class (or function) and what it would be called with."""
        self.cls = cls
        self.args = args
        self.kwargs = kwargs
        self.state: object = None
        """What ``BUILD`` would have handed to ``__setstate__`` or ``__dict__``."""
        self.items: list[object] = []
        """What was appended, for subclasses of list."""
        self.entries: dict[Any, object] = {}
        """What was set by key, for subclasses of dict."""

    @property
    def class_path(self) -> str:
        """Dotted name of the class; empty where it is not a plain name."""
        return self.cls.dotted if isinstance(self.cls, GlobalName) else ""

    def __repr__(self) -> str:
        """Short: the contents may be large, deep or circular."""
        return f"<{self.class_path or 'object'}>"


class OrderedRecord(dict[Any, object]):
    """An ``OrderedDict`` with the attributes that were set on it (``_metadata``)."""

    attributes: object = None
    __hash__ = object.__hash__  # type: ignore[assignment]  # as an Inert: by identity


def attributes_of(value: object) -> Mapping[Any, object]:
    """The instance dictionary of an inert object, slots included; empty for anything else."""
    if not isinstance(value, Inert):
        return {}
    state = value.state
    # Objects with __slots__ pickle as (dictionary or None, slots).
    if isinstance(state, tuple) and len(state) == 2:
        return ChainMap(*(part for part in reversed(state) if isinstance(part, dict)))
    if isinstance(state, dict):
        return state
    # torch.fx rebuilds a GraphModule by a function of its instance dictionary.
    if value.class_path.startswith("torch.fx.graph_module.reduce_") and value.args:
        first = value.args[1] if len(value.args) == 3 else value.args[0]
        return first if isinstance(first, dict) else {}
    return {}


def entries_of(value: object) -> Mapping[Any, object]:
    """``value`` as a dictionary where it is one, or a subclass of one; empty otherwise."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Inert):
        return value.entries
    return {}


_PICKLED_APART = "__cuda_dependent_attributes__"
"""Under which skorch's ``NeuralNet`` keeps what lies on a device, as a pickle of its own."""


def pickle_within(value: object) -> bytes:
    """The pickle that an object holds as bytes; empty where it has none."""
    held = attributes_of(value).get(_PICKLED_APART)
    return held if isinstance(held, bytes) else b""


def children_of(value: object, gone_through: set[int]) -> Iterator[tuple[str, object]]:
    """What lies directly in a value and can hold more, each with how the path to it goes on.

    ``.name`` for keys and attributes, ``[3]`` for places in a list. Keys that are not
    text or numbers are passed over: no model is stored under one. So are numbers and
    text, of which a file may have millions (losses, indices of a data set).

    Args:
        value: Any value of the file.
        gone_through: Identities of the containers that were gone through before. Objects
            may share one dictionary: going through it for each of them could take for ever.
    """
    for form, part in _parts(value):
        if id(part) in gone_through:
            continue
        gone_through.add(id(part))
        items = part.items() if isinstance(part, dict) else enumerate(part)
        for key, item in items:
            if isinstance(key, str | int) and not isinstance(item, _SCALARS):
                yield form.format(key), item


_SCALARS = (str, bytes, bytearray, int, float, GlobalName, type(None))
_Container = dict[Any, object] | list[Any] | tuple[Any, ...]


def _parts(value: object) -> Iterator[tuple[str, _Container]]:
    if isinstance(value, dict):
        yield ".{}", value
    elif isinstance(value, list | tuple):
        yield "[{}]", value
    elif isinstance(value, Inert):
        yield ".{}", value.entries
        yield "[{}]", value.items
        attributes = attributes_of(value)
        for part in attributes.maps if isinstance(attributes, ChainMap) else (attributes,):
            if isinstance(part, dict):
                yield ".{}", part
        yield "({})", value.args


def brief(value: object) -> str:
    """``value`` for a message, short whatever it is.

    ``repr`` of what a pickle describes may be of any length, and recurses.
    """
    if isinstance(value, GlobalName):
        return value.dotted[:80]
    return in_short(value)
