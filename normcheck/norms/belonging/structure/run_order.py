"""The order in which modules run, where it is another one than that of their registration."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain, groupby, pairwise

from normcheck.norms.belonging.structure.module_step import NUMBER, ModuleStep


def as_run(steps: list[ModuleStep]) -> list[ModuleStep]:
    """The modules in the order in which they run, where names and shapes prove another one."""
    return _norms_behind(_kind_by_kind(steps))


def _kind_by_kind(steps: list[ModuleStep]) -> list[ModuleStep]:
    """The modules with each norm behind its weights, where a block has all weights, then all norms.

    As ``conv1, conv2, conv3, bn1, bn2, bn3`` are registered, and used one of each in turn: where
    each norm has the channels that the weights of its number make, or, one by one, as many as
    weights of different widths.
    """
    if not any(here.norm and behind.norm for here, behind in pairwise(steps)):
        return steps  # as nearly always
    run: list[ModuleStep] = []
    at = 0
    while at < len(steps):
        norms = _first_norm_behind(steps, at)
        end = norms
        while end < len(steps) and steps[end].norm and _parent(steps[end]) == _parent(steps[at]):
            end += 1
        own = _own_norms(steps[at:norms], steps[norms:end]) if end - norms > 1 < norms - at else {}
        for place in range(at, norms if own else max(end, at + 1)):
            run.append(steps[place])
            if place - at in own:
                run.append(replace(own[place - at], brought=True))
        at = max(end, at + 1)
    return run


def _first_norm_behind(steps: list[ModuleStep], begin: int) -> int:
    """Where the weights of one block that begin here end."""
    block, place = _parent(steps[begin]), begin
    while place < len(steps) and steps[place].is_weights and _parent(steps[place]) == block:
        place += 1
    return place


def _own_norms(weights: list[ModuleStep], norms: list[ModuleStep]) -> dict[int, ModuleStep]:
    """The norm behind each weights, by their place; empty where nothing proves which it is."""
    makes = [(step.shape or (0,))[0] for step in weights]
    wanted = [step.norm.features if step.norm else None for step in norms]
    numbers = [_last_number(step.path.rpartition(".")[2])[1] for step in weights]
    own: dict[int, ModuleStep] = {}
    for step, features in zip(norms, wanted, strict=True):
        number = _last_number(step.path.rpartition(".")[2])[1]
        same = [i for i, n in enumerate(numbers) if n == number and makes[i] == features]
        # Of convolutions and matrices of one number the first: heads stand behind.
        if not number or not same or same[0] in own or (own and same[0] < max(own)):
            break
        own[same[0]] = step
    if len(own) == len(norms):
        return own
    return dict(enumerate(norms)) if makes == wanted and len(set(makes)) > 1 else {}


def _norms_behind(steps: list[ModuleStep]) -> list[ModuleStep]:
    """The modules with the norms of a block behind their weights, where shapes prove it.

    A block may register ``bn1, conv1, bn2, conv2`` and run ``conv1`` first. Where it changes the
    number of channels, only one of the two orders can run; blocks of the same names are alike.
    """
    if not any(map(_begins_with_norm, pairwise(steps), chain((None,), steps))):
        return steps  # as nearly always
    blocks = _blocks(steps)
    votes = _votes(steps, blocks)
    if not any(vote == {True} for vote in votes.values()):
        return steps
    run = list(steps)
    for block in blocks:
        if votes.get(_names(steps, block)) == {True}:
            for norm, weights in zip(block[::2], block[1::2], strict=True):
                run[norm], run[weights] = steps[weights], steps[norm]
    return run


_Block = tuple[int, ...]
"""Places of the modules of one block."""


def _blocks(steps: list[ModuleStep]) -> list[_Block]:
    """The blocks of a model: neighbours that one module holds."""
    return [tuple(block) for _, block in groupby(range(len(steps)), lambda i: _parent(steps[i]))]


def _votes(steps: list[ModuleStep], blocks: list[_Block]) -> dict[tuple[str, ...], set[bool]]:
    """What blocks of norm, weights, norm, weights prove, by their names without numbers."""
    votes: dict[tuple[str, ...], set[bool]] = {}
    for block in blocks:
        if _norms_first([steps[i] for i in block]):
            votes.setdefault(_names(steps, block), set()).update(_proofs(steps, block))
    return votes


def proven_blocks(norms_first: list[ModuleStep]) -> tuple[set[str], set[str]]:
    """Blocks of a file that keeps no order in which channels prove it.

    Args:
        norms_first: Its modules in the second of the orders of ``usual_order``.

    Returns:
        Paths of those whose norms run behind the weights of their number, and before them.
    """
    blocks = [
        numbered for block in _blocks(norms_first) if (numbered := _pairs(norms_first, block))
    ]
    votes = _votes(norms_first, blocks)
    behind: set[str] = set()
    ahead: set[str] = set()
    for block in blocks:
        vote = votes[_names(norms_first, block)]
        for proof, paths in ((True, behind), (False, ahead)):
            if vote == {proof}:
                paths.add(_parent(norms_first[block[0]]))
    return behind, ahead


def _pairs(steps: list[ModuleStep], block: _Block) -> _Block:
    """Places of the norms and weights of a block that share a number, one of each in turn.

    Empty where it has modules besides: ``depth_conv`` may stand anywhere among the others.
    """
    by_number: dict[int, list[int]] = {}
    for place in block:
        number = _last_number(steps[place].path.rpartition(".")[2])[1]
        by_number.setdefault(number, []).append(place)
    pairs = by_number.values()
    alike = 0 not in by_number and all(
        len(pair) == 2 and steps[pair[0]].norm is not None and steps[pair[1]].is_weights
        for pair in pairs
    )
    return tuple(place for pair in pairs for place in pair) if alike else ()


def _begins_with_norm(pair: tuple[ModuleStep, ModuleStep], before: ModuleStep | None) -> bool:
    """Whether the first two modules of a block are a norm and weights."""
    first, then = pair
    if first.norm is None or not then.is_weights:
        return False
    block = _parent(first)
    return _parent(then) == block and (before is None or _parent(before) != block)


def _parent(step: ModuleStep) -> str:
    return step.path.rpartition(".")[0]


def _names(steps: list[ModuleStep], block: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(NUMBER.sub("#", _parent(steps[i])) + steps[i].path.rpartition(".")[2]
                 for i in block)  # fmt: skip


def _norms_first(block: list[ModuleStep]) -> bool:
    """Whether a block is norm, weights, norm, weights and so on."""
    pairs = list(zip(block[::2], block[1::2], strict=False))
    return len(block) % 2 == 0 and all(
        first.norm is not None and then.is_weights for first, then in pairs
    )


def _proofs(steps: list[ModuleStep], block: tuple[int, ...]) -> Iterator[bool]:
    """For each pair whose channels prove it: whether the norm runs behind the weights."""
    for norm, place in zip(block[::2], block[1::2], strict=True):
        layer = steps[norm].norm
        makes, takes = (steps[place].shape or ())[:2]
        features = layer.features if layer is not None else None
        if not features or takes <= 1 or makes == takes:
            continue
        # A norm of a whole number of groups may stand before a grouped convolution.
        if features == makes and (features % takes or _made_before(steps, norm) == takes):
            yield True
        elif features == takes:
            yield False


def _made_before(steps: list[ModuleStep], place: int) -> int | None:
    """How many channels the last weights before a place make."""
    shapes = (steps[i].shape for i in range(place - 1, -1, -1) if steps[i].is_weights)
    shape = next(shapes, None)
    return shape[0] if shape else None


def as_they_run(steps: Sequence[ModuleStep], *, ordered: bool) -> list[ModuleStep]:
    """Modules of a file as they are, or, where it keeps no order, as they usually run."""
    return list(steps) if ordered else usual_order(list(steps))[0]


def usual_order(steps: list[ModuleStep]) -> tuple[list[ModuleStep], list[ModuleStep]]:
    """Modules of a file that keeps no order, as they usually run.

    Returns:
        By the last number of the name within a block: with weights before a norm of the same
        number, and with the norm first.
    """
    places = [_usual_place(step) for step in steps]
    order = sorted(range(len(steps)), key=places.__getitem__)
    after = [steps[i] for i in order]
    before = after.copy()
    begin = 0
    for end in range(1, len(order) + 1):
        if end < len(order) and places[order[end]] == places[order[begin]]:
            continue
        if end - begin > 1:
            alike = after[begin:end]
            after[begin:end] = sorted(alike, key=lambda step: step.norm is not None)
            before[begin:end] = sorted(alike, key=lambda step: step.norm is None)
        begin = end
    return after, before


_Part = tuple[int, int, str]
_END: _Part = (-1, 0, "")
"""Before every part of a name: a block comes before what is inside it."""


def _usual_place(step: ModuleStep) -> tuple[_Part, ...]:
    """The parts of its block's name, then the last number of its own."""
    parent, _, last = step.path.rpartition(".")
    return (*map(_part, parent.split(".")), _END, _last_number(last))


# Names of a hundred thousand modules are of some hundred parts: one object for each.
@lru_cache(1 << 13)
def _part(name: str) -> _Part:
    if name.isdecimal() and len(name) < 20:
        return (0, int(name), "")
    return (1, 0, name)


@lru_cache(1 << 13)
def _last_number(name: str) -> _Part:
    numbers = NUMBER.findall(name)
    return (0, int(numbers[-1]) if numbers and len(numbers[-1]) < 10 else 0, "")
