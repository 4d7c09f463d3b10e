"""Which of many failures says most: of shapes that were tried, nearly all are simply wrong.

A guess that is far off fails in the first layer, with the words of that layer; the last one tried
is the least likely of all. What a user can act on is the failure of the guess that came furthest:
a classifier that wants another image size, or a fault of the model that no shape would help.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.input_shape import Shape
from normcheck.wording import plural

_NUMBERS = re.compile(r"\d+")


@lazy_dataclass()
class FailedShape:
    """One shape that the model did not take."""

    shapes: tuple[Shape, ...]
    error: str
    modules: int
    """Modules whose forward had ended before it failed."""


@contextmanager
def counted_modules() -> Iterator[list[int]]:
    """Count, in the one entry of the list, the modules whose forward ends inside."""
    count = [0]

    def ended(_module: nn.Module, _args: object, _output: object) -> None:
        count[0] += 1

    hook = register_module_forward_hook(ended)
    try:
        yield count
    finally:
        hook.remove()


def most_telling(failures: Sequence[FailedShape]) -> FailedShape:
    """The failure to show, of at least one.

    First what came furthest through the modules. Among those that came as far, the error that
    occurs most often, its numbers aside: what is wrong with the model is wrong with every shape.
    Among those the first tried, for guesses come with the likeliest first.
    """
    furthest = max(failure.modules for failure in failures)
    deep = [failure for failure in failures if failure.modules == furthest]
    often = Counter(_alike(failure) for failure in deep)
    return max(deep, key=lambda failure: often[_alike(failure)])  # the first of equals


def in_brief(failures: Sequence[FailedShape]) -> str:
    """How many shapes were tried, and the error that says most."""
    if not failures:
        return "no shape was tried"
    chosen = most_telling(failures)
    tried = f"{plural(len(failures), 'shape')} tried"
    shape = ", ".join(map(str, chosen.shapes))
    same = sum(_alike(failure) == _alike(chosen) for failure in failures)
    if same == len(failures) > 1:
        return f"{tried}; all failed with: {chosen.error}"
    if chosen.modules:
        return f"{tried}; {shape} came furthest, and failed with: {chosen.error}"
    return f"{tried}; {same} failed with: {chosen.error}"


def _alike(failure: FailedShape) -> str:
    return _NUMBERS.sub("0", failure.error)
