"""Results in the order of their work."""

from normcheck.fleet.result_order import InOrder


def test_early_results_wait_for_their_turn() -> None:
    """What comes back out of order is given on in order, each once."""
    order = InOrder[str](most=3)
    places = [order.enter() for _ in range(3)]
    order.put(places[2], "c")
    order.put(places[1], "b")
    assert list(order.due()) == []
    order.put(places[0], "a")
    assert list(order.due()) == ["a", "b", "c"]
    assert list(order.due()) == []


def test_no_more_places_than_allowed() -> None:
    """A slow first one holds up the rest: memory stays bounded."""
    order = InOrder[str](most=2)
    first, second = order.enter(), order.enter()
    assert not order.open
    order.put(second, "b")
    assert not order.open
    order.put(first, "a")
    assert [*order.due()] == ["a", "b"]
    assert order.open
    assert order.waiting == 0
