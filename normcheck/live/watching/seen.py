"""What was seen to run: normalizations and random draws, each under its module."""

from dataclasses import field

from torch import nn

from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class CallSite:
    """Where in a forward an operator ran."""

    path: str
    """Of the innermost module that was running."""
    turn: int
    """Which batch norm it was under this module, counted from 0 within one forward."""


@lazy_dataclass(frozen=False)
class NormSeen:
    """One normalization that ran, over all forwards that were watched."""

    path: str
    op: str
    """``batch_norm``, ``layer_norm``, ``group_norm`` or ``instance_norm``."""
    training: bool | None
    """The flag that the operator was really given; None where it has none."""
    calls: int = 0
    shape: tuple[int, ...] = ()
    """Of its input, the last time."""
    values: int = 0
    """Numbers that one mean is taken over, the last time."""
    per_sample: bool = False
    """A batch norm operator over something without a batch: an instance norm, a weight."""
    updates: bool = False
    """Whether it was given statistics to update."""


@lazy_dataclass(frozen=False)
class RandomSeen:
    """One kind of random draw under one module."""

    path: str
    op: str
    calls: int = 0


@lazy_dataclass(frozen=False)
class Seen:
    """All that was watched."""

    norms: dict[tuple[str, str, bool | None], NormSeen] = field(default_factory=dict)
    random: dict[tuple[str, str], RandomSeen] = field(default_factory=dict)
    called: dict[str, int] = field(default_factory=dict)
    """Modules and how often their forward was called."""
    strays: dict[int, tuple[str, nn.Module]] = field(default_factory=dict)
    """Modules that were called and hang in no module's attributes, by identity."""
