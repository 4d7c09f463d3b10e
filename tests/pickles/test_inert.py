"""Inert values: what lies in them, and how they stand in a message."""

import pytest

from normcheck.pickles.inert import GlobalName, Inert, attributes_of, brief, children_of


def children(value: object) -> dict[str, object]:
    return dict(children_of(value, set()))


def test_children_are_what_can_hold_more() -> None:
    """Numbers, text and keys that are neither are passed over; paths say the way."""
    owner = Inert(GlobalName("a", "B"), args=({},))
    owner.state, owner.items = {"x": [], "n": 1}, [()]
    assert children(owner) == {"[0]": (), ".x": [], "(0)": {}}
    owner.state = ({"left": []}, {"right": {}})
    assert children(owner).keys() == {"[0]", ".left", ".right", "(0)"}
    assert children({"a": {}, 3: (), "n": 5, "t": "text", (1, 2): []}) == {".a": {}, ".3": ()}
    assert children([1.0, [], None, b"", {}]) == {"[1]": [], "[4]": {}}


def test_children_of_shared_containers_come_once() -> None:
    """A dictionary that two objects share is gone through for the first of them."""
    first, second = Inert(GlobalName("a", "B")), Inert(GlobalName("a", "B"))
    first.state = second.state = {"x": []}
    gone_through: set[int] = set()
    assert len(list(children_of(first, gone_through))) == 1
    assert list(children_of(second, gone_through)) == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (GlobalName("torch", "float32"), "torch.float32"),
        ("text", "'text'"),
        ((1, 2), "(1, 2)"),
        (2.5, "2.5"),
        (True, "True"),
        (10**400, "<int>"),
        ({"a": 1}, "<dict>"),
        (("nested", ("x",)), "<tuple>"),
        (list(range(100)), "<list>"),
    ],
)
def test_brief(value: object, words: str) -> None:
    """Any value can stand in a message, without its length or depth."""
    assert brief(value) == words
    assert len(brief("x" * 1000)) < 50


def test_attributes_of_anything_else() -> None:
    """Only an object has attributes, and only where its state is a dictionary."""
    thing = Inert(GlobalName("a", "B"), args=({"no": 1}, "x"))
    assert attributes_of(thing) == attributes_of("text") == attributes_of({"a": 1}) == {}
    thing.state = ({"a": 1}, {"a": 2}, {"three": 3})
    assert attributes_of(thing) == {}
    thing.state = (None, {"a": 2})
    assert attributes_of(thing) == {"a": 2}


def test_short_texts() -> None:
    """An object is shown by its class, one of no class as such."""
    assert repr(Inert(GlobalName("a.b", "C"))) == "<a.b.C>"
    assert repr(Inert(3)) == "<object>"
    assert GlobalName("a.b", "C").dotted is GlobalName("a.b", "C").dotted
