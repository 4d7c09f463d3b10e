"""The order in which a model registered its parameters, as an optimizer's shapes tell it.

safetensors keeps no order, and an optimizer numbers its parameters by the model's. A tree of
modules gives its own parameters first, then those of each child, all of one child together,
numbered ones by their numbers. Of the orders that such a tree can give, the first by name in which
every shape is that of the optimizer's average is taken. Layers of equal shapes may still be in each
other's place; what is read off has to hold for all of them alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.key_order import natural_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normcheck.saved.optimizer import OptimizerState
    from normcheck.saved.tensors import TensorRef

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_FIRST = ("weight", "bias")
"""Parameters of one module in the order in which torch's modules register them."""
_UNDECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")
"""Names of parameters that the Trainer of Hugging Face gives no weight decay, its second group."""
_MOST_STEPS = 100_000
"""Of the search, a few for each parameter where names are about in their order."""
_DEEPEST = 32

Shape = tuple[int, ...]
Node = dict[str, "Node | str"]
"""Children by name; of a parameter its full name."""
Split = Callable[[str], int]
"""The group of a parameter."""


@lazy_dataclass()
class Order:
    """Parameters as a model registered them."""

    names: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    """Those of each group of the optimizer, in its order."""


def order_of_parameters(tensors: Mapping[str, TensorRef], state: OptimizerState) -> Order | None:
    """The order of a model's parameters; None where none fits the optimizer.

    Args:
        tensors: Of a model, in any order.
        state: Of an optimizer that was given all its parameters.
    """
    names = [
        name
        for name, tensor in tensors.items()
        if tensor.dtype.floating and name.rpartition(".")[2] not in _STATISTICS
    ]
    sizes = [len(group.parameters) for group in state.groups]
    if sum(sizes) != len(names):
        return None
    tree = _tree(names)
    if tree is None:
        return None
    shapes = {name: tuple(tensors[name].shape) for name in names}
    wanted = [[_shape_of(state, key) for key in group.parameters] for group in state.groups]
    for split in _splits(tensors, len(sizes)):
        groups = [split(name) for name in names]
        if [groups.count(number) for number in range(len(sizes))] == sizes:
            found = _Search(shapes, wanted, split).found(tree)
            if found is not None:
                return found
    return None


def _shape_of(state: OptimizerState, key: int | str) -> Shape | None:
    moment = state.moments.get(key)
    return None if moment is None else tuple(moment.shape)


def _splits(tensors: Mapping[str, TensorRef], count: int) -> Iterator[Split]:
    """Ways in which training scripts part parameters into so many groups."""
    if count == 1:
        yield lambda _: 0
    if count != 2:
        return
    kinds: tuple[Callable[[str], bool], ...] = (
        lambda name: _UNDECAYED.search(name.lower()) is not None,
        lambda name: name.endswith("bias"),
        lambda name: tensors[name].ndim <= 1,
    )
    for kind in kinds:
        for first in (False, True):
            yield lambda name, kind=kind, first=first: int(kind(name) is not first)  # type: ignore[misc]


def _tree(names: Sequence[str]) -> Node | None:
    """The modules that the names speak of; None where they are nested too deep."""
    root: Node = {}
    for name in names:
        *parents, own = name.split(".")
        if len(parents) > _DEEPEST:
            return None
        node = root
        for parent in parents:
            child = node.setdefault(parent, {})
            if isinstance(child, str):
                return None
            node = child
        if own in node:
            return None
        node[own] = name
    return root


class _Search:
    """Places parameters one after another, and takes back what leads nowhere."""

    def __init__(
        self, shapes: Mapping[str, Shape], wanted: list[list[Shape | None]], split: Split
    ) -> None:
        self._shapes, self._wanted, self._split = shapes, wanted, split
        self._placed: list[list[str]] = [[] for _ in wanted]
        self._names: list[str] = []
        self._left = _MOST_STEPS

    def found(self, tree: Node) -> Order | None:
        """None where no order fits or the search is given up."""
        for _ in self._walk(tree):
            return Order(tuple(self._names), tuple(map(tuple, self._placed)))
        return None

    def _walk(self, node: Node) -> Iterator[None]:
        """Yields with all below a module placed, once for each order that fits."""
        own = sorted(
            (name for name, child in node.items() if isinstance(child, str)),
            key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name),
        )
        children = sorted((n for n, c in node.items() if not isinstance(c, str)), key=natural_order)
        yield from self._parameters(node, own, children)

    def _parameters(self, node: Node, own: list[str], children: list[str]) -> Iterator[None]:
        done: list[int] = []
        for name in own:
            path = node[name]
            assert isinstance(path, str)  # noqa: S101  (parameters are leaves)
            group = self._fits(path)
            if group is None:
                break
            self._placed[group].append(path)
            self._names.append(path)
            done.append(group)
        if len(done) == len(own):
            yield from self._children(node, children)
        for group in reversed(done):
            self._placed[group].pop()
            self._names.pop()

    def _children(self, node: Node, left: list[str]) -> Iterator[None]:
        if not left:
            yield
            return
        numbered = all(name.isdecimal() for name in left)
        for name in left[:1] if numbered else left:
            child = node[name]
            assert not isinstance(child, str)  # noqa: S101  (parameters are not among them)
            rest = [other for other in left if other != name]
            for _ in self._walk(child):
                yield from self._children(node, rest)
            if self._left <= 0:
                return

    def _fits(self, path: str) -> int | None:
        """The group in which a parameter comes next; None where its shape is another."""
        self._left -= 1
        group = self._split(path)
        place = len(self._placed[group])
        if self._left <= 0 or place >= len(self._wanted[group]):
            return None
        shape = self._wanted[group][place]
        return group if shape is None or shape == self._shapes[path] else None
