"""Dataclasses whose methods are made when they are first needed.

``dataclasses.dataclass`` compiles six methods for each class, half a millisecond; the scan of a
small file imports well over a hundred such classes, makes instances of half of them and compares
next to none. Here nothing is compiled for the first instances, and all else is what the real
``dataclass`` makes, once something asks for it: ``==``, ``hash``, ``repr``, ``fields``,
``replace``, ``asdict``, ``match``, the signature. There are no slots: what is made by the thousand
stays a ``dataclass``.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar, dataclass_transform

_Class = TypeVar("_Class", bound=type)
_PLAN = "_lazy_dataclass"
_MANY = 100
"""Instances from which on a compiled ``__init__`` pays."""


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def lazy_dataclass(
    *,
    frozen: bool = True,
    eq: bool = True,
    order: bool = False,
    repr: bool = True,  # noqa: A002  # the word of dataclass
) -> Callable[[_Class], _Class]:
    """Like ``dataclass(frozen=frozen, eq=eq, order=order, repr=repr)``.

    What inherits fields of such a class is to be one itself.

    Args:
        frozen: Refuse to change an instance.
        eq: Compare by the values of the fields, and hash what is frozen by them; without it,
            both by identity.
        order: Order instances by the values of the fields.
        repr: Show the fields; without it, what a base of the class shows.
    """

    def decorate(cls: _Class) -> _Class:
        _Plan(cls, frozen=frozen, eq=eq, order=order, repr=repr).install()
        return cls

    return decorate


class _Plan:
    """What a class was written as, and how it becomes a dataclass."""

    def __init__(self, cls: type, **shape: bool) -> None:
        self.cls: Any = cls
        self.shape = shape
        self.kinds: dict[str, Any] = {}
        self.defaults: dict[str, Any] = {}
        """Values, and what ``field`` made."""
        for base in reversed(cls.__mro__[1:]):
            plan = vars(base).get(_PLAN)
            if plan is not None:
                self.kinds |= plan.kinds
                self.defaults |= plan.defaults
            elif "__dataclass_fields__" in vars(base):
                raise TypeError(f"{base.__name__}, a base of {cls.__name__}, is not lazy")
        own = _annotations(cls)
        self.kinds |= own
        self.defaults |= {name: vars(cls)[name] for name in own if name in vars(cls)}
        self.methods = tuple(self._methods())

    def install(self) -> None:
        """Put a placeholder where a dataclass has a method or an attribute."""
        for name, default in list(vars(self.cls).items()):
            if isinstance(default, dataclasses.Field):
                delattr(self.cls, name)
                if default.default is not dataclasses.MISSING:
                    setattr(self.cls, name, default.default)
        made: dict[str, Any] = {"__init__": self._init()}
        for name in self.methods:
            made[name] = self._later(name, self.make_methods)
        if self.shape["eq"] and not self.shape["frozen"]:
            made["__hash__"] = None
        if self.shape["frozen"]:
            made["__setattr__"] = made["__delattr__"] = _refuse
        for name in ("__dataclass_fields__", "__match_args__"):
            made[name] = _Asked(self.make_fields, name)
        made["__signature__"] = _Asked(self.make_signature, "__signature__")
        if hasattr(dataclasses, "_replace"):  # from Python 3.13 on, for copy.replace
            made["__replace__"] = dataclasses._replace
        for name, value in made.items():
            setattr(self.cls, name, value)
        setattr(self.cls, _PLAN, self)

    def _methods(self) -> Iterator[str]:
        """What compares and shows instances, unless the class was written with its own."""
        wanted = ("__eq__",) * self.shape["eq"] + ("__repr__",) * self.shape["repr"]
        hashed = ("__hash__",) * (self.shape["eq"] and self.shape["frozen"])
        wanted += ("__lt__", "__le__", "__gt__", "__ge__") * self.shape["order"]
        own = vars(self.cls)
        # A class that is written with __eq__ alone has __hash__ = None in its place.
        return (n for n in wanted + hashed if n not in own or (n == "__hash__" and own[n] is None))

    def _init(self) -> Callable[..., None]:
        """An ``__init__`` that nothing was compiled for."""
        names, known = tuple(self.kinds), self.kinds.keys()
        given: dict[str, Any] = {}
        anew: dict[str, Callable[[], Any]] = {}
        for name, default in self.defaults.items():
            if not isinstance(default, dataclasses.Field):
                given[name] = default
            elif default.default is not dataclasses.MISSING:
                given[name] = default.default
            elif default.default_factory is not dataclasses.MISSING:
                anew[name] = default.default_factory

        made = 0

        def __init__(instance: object, *args: Any, **words: Any) -> None:  # noqa: N807
            nonlocal made
            made += 1
            if made == _MANY:
                self.cls.__init__ = vars(self._twin(**self.shape))["__init__"]
            values = {**given, **dict(zip(names, args, strict=False)), **words}
            for name, make in anew.items():
                if name not in values:
                    values[name] = make()
            twice = args and words and not words.keys().isdisjoint(names[: len(args)])
            if values.keys() != known or len(args) > len(names) or twice:
                self._twin(init=True)(*args, **words)  # says what is wrong with them
            object.__setattr__(instance, "__dict__", values)

        return __init__

    def make_fields(self) -> None:
        """Take what describes the fields from a twin."""
        twin = self._twin(init=False, repr=False, eq=False)
        for name in ("__dataclass_fields__", "__match_args__"):
            setattr(self.cls, name, vars(twin)[name])

    def make_signature(self) -> None:
        """Take what ``help`` shows from a twin."""
        self.cls.__signature__ = inspect.signature(self._twin(repr=False, eq=False))

    def make_methods(self) -> None:
        """Take what compares and shows instances from a twin."""
        twin = self._twin(**self.shape)
        for name in self.methods:
            setattr(self.cls, name, vars(twin)[name])

    def _twin(self, **shape: bool) -> Any:
        """A class of the same fields that is a dataclass of the standard library."""
        # With words of its own, or dataclass writes the signature into their place.
        written = {"__annotations__": self.kinds, "__doc__": self.cls.__doc__ or "-"}
        written |= {name: getattr(self.cls, name) for name in ("__module__", "__qualname__")}
        twin = type(self.cls.__name__, (), self.defaults | written)
        return dataclasses.dataclass(**shape)(twin)

    def _later(self, name: str, make: Callable[[], None]) -> Callable[..., Any]:
        """A method that makes the one that it stands for, and calls it."""

        def method(instance: object, *args: Any, **words: Any) -> Any:
            make()
            return getattr(self.cls, name)(instance, *args, **words)

        return method


class _Asked:
    """An attribute of a class that is made when it is asked for."""

    def __init__(self, make: Callable[[], None], name: str) -> None:
        self._make, self._name = make, name

    def __get__(self, instance: object, owner: type) -> Any:
        self._make()
        return getattr(owner, self._name)


def _annotations(cls: type) -> dict[str, Any]:
    """Those of the class itself, in the order in which they were written."""
    own: dict[str, Any] | None = vars(cls).get("__annotations__")
    if own is None and sys.version_info >= (3, 14):  # evaluated when they are asked for
        from annotationlib import Format, get_annotations

        return get_annotations(cls, format=Format.FORWARDREF)
    return own or {}


def _refuse(self: object, name: str, _value: object = None) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"{type(self).__name__}.{name} cannot be changed")
