"""A lazy dataclass is to whoever uses it what a dataclass of the standard library is."""

import copy
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import (
    FrozenInstanceError,
    asdict,
    dataclass,
    field,
    fields,
    is_dataclass,
    replace,
)
from functools import cached_property
from typing import Any

import pytest

from normcheck import lazy_dataclass as module
from normcheck.lazy_dataclass import lazy_dataclass
from tests.conftest import ROOT


@lazy_dataclass()
class Base:
    """A class with fields."""

    name: str
    sizes: tuple[int, ...] = ()


@lazy_dataclass()
class Lazy(Base):
    """A class that inherits some."""

    words: list[str] = field(default_factory=list)
    aside: int = field(default=3, compare=False, repr=False)


@dataclass(frozen=True)
class RealBase:
    """A class with fields."""

    name: str
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Real(RealBase):
    """A class that inherits some."""

    words: list[str] = field(default_factory=list)
    aside: int = field(default=3, compare=False, repr=False)


@lazy_dataclass(frozen=False)
class Counts:
    """A class whose instances change."""

    seen: int = 0


@lazy_dataclass(order=True)
class Ranked:
    """A class whose instances stand in an order."""

    rank: int
    name: str = field(compare=False)


@lazy_dataclass(eq=False)
class Itself:
    """A class whose instances are equal to themselves only."""

    size: int


USES: dict[str, Callable[[Any], Any]] = {
    "defaults": lambda c: vars(c("a")),
    "order of arguments": lambda c: (c("a", (1,), ["b"], 4).words, c("a", words=["c"]).words),
    "a default for each": lambda c: c("a").words is c("a").words,
    "repr": lambda c: repr(c("a", (1,))).replace("Real", "Lazy"),
    "equal": lambda c: (c("a") == c("a"), c("a") == c("b"), c("a") == c("a", aside=9)),
    "another class": lambda c: c("a") == object(),
    "asdict": lambda c: asdict(c("a", (1, 2), ["x"])),
    "replace": lambda c: asdict(replace(c("a"), name="b", sizes=(3,))),
    "replaced at once": lambda c: asdict(module.replace(c("a", words=["x"]), name="b", sizes=(3,))),
    "replaced by nothing": lambda c: module.replace(c("a"), nothing=1),
    "fields": lambda c: [(f.name, f.type, f.compare, f.repr) for f in fields(c)],
    "is_dataclass": lambda c: (is_dataclass(c), is_dataclass(c("a"))),
    "signature": lambda c: list(inspect.signature(c).parameters),
    "names for match": lambda c: c.__match_args__,
    "attributes of the class": lambda c: (
        c.sizes,
        c.aside,
        hasattr(c, "words"),
        hasattr(c, "name"),
    ),
    "copies": lambda c: asdict(copy.deepcopy(c("a", words=["x"]))),
    "unhashable inside": lambda c: hash(c("a")),
    "none": lambda c: c(),
    "too many": lambda c: c("a", (), [], 3, 4),
    "twice": lambda c: c("a", name="b"),
    "unknown": lambda c: c("a", nothing=1),
    "unknown instead of one": lambda c: c(nothing=1),
    "set": lambda c: setattr(c("a"), "name", "b"),
    "set another": lambda c: setattr(c("a"), "other", "b"),
    "delete": lambda c: delattr(c("a"), "name"),
}


def outcome(use: Callable[[Any], Any], cls: type) -> object:
    """What comes of a use: a value, or the kind of an error and, of a call, its words."""
    try:
        return use(cls)
    except FrozenInstanceError:
        return FrozenInstanceError
    except TypeError as error:
        return str(error).replace("Real", "Lazy")


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_like_a_dataclass(use: Callable[[Any], Any]) -> None:
    """Each use has the same result."""
    assert outcome(use, Lazy) == outcome(use, Real)


def test_match() -> None:
    """Positions in a pattern are fields."""
    match Lazy("a", (1, 2)):
        case Lazy(name, (first, _)):
            assert (name, first) == ("a", 1)
        case _:
            pytest.fail("no match")


def test_what_was_pickled() -> None:
    """An instance that a process gets before it has made one is whole."""
    code = "import pickle, sys; x = pickle.loads(sys.stdin.buffer.read()); print(x == x, repr(x))"
    data = pickle.dumps(Base("a", (1,)))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input=data, capture_output=True, check=True
    )
    assert done.stdout.split() == [b"True", *repr(Base("a", (1,))).encode().split()]
    assert pickle.loads(data) == Base("a", (1,))


@pytest.mark.skipif(sys.version_info < (3, 13), reason="copy.replace is of Python 3.13")
def test_copy_replace() -> None:
    """The newest way of replacing works, too."""
    assert copy.replace(Base("a"), name="b") == Base("b")  # type: ignore[attr-defined]


def test_many_instances() -> None:
    """The compiled way of making them, which comes after some, makes the same."""
    made = [Lazy(str(n), (n,), words=[str(n)]) for n in range(300)]
    assert [asdict(x) for x in made] == [asdict(Real(x.name, x.sizes, x.words)) for x in made]
    with pytest.raises(FrozenInstanceError):
        made[-1].name = "b"  # type: ignore[misc]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        Lazy()  # type: ignore[call-arg]


def test_what_changes_is_not_hashed() -> None:
    """As with a dataclass."""
    counts = Counts()
    counts.seen += 1
    assert counts == Counts(1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(counts)


def test_an_order() -> None:
    """By the fields that are compared."""
    assert sorted([Ranked(2, "a"), Ranked(1, "b")]) == [Ranked(1, ""), Ranked(2, "")]
    assert Ranked(1, "a") >= Ranked(1, "b")


def test_by_identity() -> None:
    """Without ``eq`` two instances of the same values are two."""
    assert Itself(1) != Itself(1)
    assert len({Itself(1), Itself(1)}) == 2


def test_fields_of_a_dataclass_are_not_inherited() -> None:
    """Half a class would be made of it."""
    with pytest.raises(TypeError, match="RealBase, a base of Mixed, is not lazy"):

        @lazy_dataclass()
        class Mixed(RealBase):
            more: int = 0


def test_replaced_at_once() -> None:
    """What was worked out for the one is not worked out for the other."""

    @lazy_dataclass()
    class Square:
        side: int

        @cached_property
        def area(self) -> int:
            return self.side**2

    two = Square(2)
    assert two.area == 4
    three = module.replace(two, side=3)
    assert (three.area, two.area, two.side) == (9, 4, 2)
    with pytest.raises(FrozenInstanceError):
        three.side = 4  # type: ignore[misc]


def test_others_are_replaced_as_they_always_were() -> None:
    """A plain dataclass, and a class that inherits from a lazy one and has more to it."""

    class More(Base):
        def __init__(self, name: str) -> None:
            super().__init__(name * 2)

    assert module.replace(RealBase("a"), name="b") == RealBase("b")
    assert type(module.replace(Counts(1), seen=2)) is Counts
    with pytest.raises(TypeError, match="sizes"):
        module.replace(More("a"), name="b")
