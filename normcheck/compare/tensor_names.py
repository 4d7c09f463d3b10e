"""The same tensor under other names: wrappers and prefixes that tools put before them."""

from collections import Counter
from collections.abc import Iterable, Mapping

WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of names that DataParallel, torch.compile and others insert; they hold nothing."""
_ENOUGH = 0.9
"""Share of the smaller model's tensors found by plain names at which no prefix is tried."""
_COVERS = 0.25
"""Share of a model's tensors that a prefix must cover to be tried."""
_TELLS = 0.5
"""Share of the smaller model's tensors from which a prefix tells though another fits as well."""
_DEEPEST = 6
"""Parts of the longest prefix that is tried."""

Shapes = Mapping[str, tuple[int, ...]]
"""Tensor names and shapes, of one model."""


def aligned(names: Shapes, reference: Shapes) -> dict[str, str]:
    """What the tensors of one model are called in another.

    Names are compared without wrappers, and where they still differ under the one prefix on
    either side by which the most names and shapes agree (``model.``, ``ema.``, or the
    ``backbone.`` of a model that was built around the other).

    Args:
        names: Of the model to rename.
        reference: Of the model whose names are used.

    Returns:
        New names by old ones. A tensor that the reference lacks keeps its name, or is left
        out where that name is taken.
    """
    plain = _unwrapped(names)
    back = {short: full for full, short in _unwrapped(reference).items()}
    wanted = {short: reference[full] for short, full in back.items()}
    here = {short: names[full] for full, short in plain.items()}
    old, new = _prefixes(here, wanted)
    renamed: dict[str, str] = {}
    taken: set[str] = set()
    for full, short in plain.items():
        target = back.get(new + short[len(old) :]) if short.startswith(old) else None
        if target is not None:
            renamed[full] = target
            taken.add(target)
    for full, short in plain.items():
        if full not in renamed:
            # Below a renamed prefix, as its neighbours are called.
            moved = new + short[len(old) :] if short.startswith(old) else full
            if moved not in taken:
                renamed[full] = moved
                taken.add(moved)
    return renamed


def module_paths(paths: Iterable[str], renamed: Mapping[str, str]) -> dict[str, str]:
    """What modules are called in another model, those without tensors among them.

    Args:
        paths: Of the model to rename.
        renamed: Of the modules that have tensors, new paths by old ones.

    Returns:
        New paths by old ones: of a module without tensors as its nearest neighbours are called.
    """
    above: dict[str, str] = {}
    for old, new in renamed.items():
        before, after = old.split("."), new.split(".")
        while before and after and before[-1] == after[-1]:
            before.pop()
            after.pop()
        above.setdefault(".".join(before), ".".join(after))
    found: dict[str, str] = {}
    for path in paths:
        found[path] = renamed.get(path, path)
        if path in renamed:
            continue
        parts = path.split(".")
        for depth in range(len(parts) - 1, -1, -1):
            prefix = ".".join(parts[:depth])
            if prefix in above:
                found[path] = ".".join([*filter(None, [above[prefix]]), *parts[depth:]])
                break
    return found


def _unwrapped(names: Shapes) -> dict[str, str]:
    """Each name without wrappers; all unchanged where two would then be called the same."""
    short = {
        name: ".".join(part for part in name.split(".") if part not in WRAPPERS) for name in names
    }
    return short if len(set(short.values())) == len(names) else {name: name for name in names}


def _prefixes(here: Shapes, wanted: Shapes) -> tuple[str, str]:
    """The prefix to take away and the one to put in its place."""
    none = ("", "")
    best, most = none, _matches(here, wanted, *none)
    smaller = min(len(here), len(wanted))
    if most >= _ENOUGH * smaller:
        return best
    several = False
    for old in _candidates(here):
        for new in _candidates(wanted):
            found = _matches(here, wanted, old, new)
            if found > most:
                best, most, several = (old, new), found, False
            elif found == most:
                several = True
    # One norm is shaped like another: where a few fit in several ways, none of them tells.
    return none if several and most < _TELLS * smaller else best


def _candidates(names: Shapes) -> list[str]:
    """Leading parts of names that many tensors share, the shortest first."""
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")[:-1]
        counts.update(
            ".".join(parts[:depth]) + "." for depth in range(1, min(len(parts), _DEEPEST) + 1)
        )
    often = [prefix for prefix, count in counts.items() if count >= _COVERS * len(names)]
    return ["", *sorted(often, key=lambda prefix: (prefix.count("."), prefix))]


def _matches(here: Shapes, wanted: Shapes, old: str, new: str) -> int:
    # Batch counts have no shape by which one could be told from another.
    return sum(
        wanted.get(new + name[len(old) :]) == shape
        for name, shape in here.items()
        if shape and name.startswith(old)
    )
