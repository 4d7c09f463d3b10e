"""What a user asks of a repair. Plain values, without torch."""

import json
from pathlib import Path
from typing import Any

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.run_request import Running
from normcheck.sources.limits import DEFAULT_LIMITS, Limits
from normcheck.sources.place import shown
from normcheck.writing.special_files import Announce, to_nobody

SAMPLES = 10_000
"""Most samples that are used: the mean of a channel is then known to a hundredth of its
deviation, which is far below what changes an answer."""


@lazy_dataclass()
class Fixing:
    """Which repairs are wanted, where the result goes, and what may be risked."""

    output: str = ""
    """Where the repaired copy goes, ``-`` for stdout; empty with ``in_place``."""
    in_place: bool = False
    places: tuple[str, ...] = ()
    """Models of the file by their place, ``all`` for every one; empty where it holds one."""
    running: Running | None = None
    """How to run the model and on which data; None where statistics are not re-estimated."""
    holdout: Any = None
    """Data that judge; None to judge each sample by the statistics of all others."""
    without_data: bool = False
    """Whether to estimate lost statistics on random fields; ``running`` then has no data."""
    force: bool = False
    """Whether to write what would be refused."""
    modes: str = ""
    """``eval`` to set all training flags of a whole module to eval."""
    counts: bool = False
    """Whether to repair damaged batch counts."""
    unwarm: bool = False
    """Whether to take what is left of the initial value out of the statistics."""
    announce: Announce = to_nobody
    """Told where a FIFO waits for its reader."""
    momentum: float | None = None
    """Momentum of the layers, where the file does not hold it."""
    limits: Limits = DEFAULT_LIMITS
    """Of reading the file."""
    seconds: float = 0.0
    """After which the run of the model is stopped; 0 for never."""

    @property
    def asks_for(self) -> tuple[str, ...]:
        """The repairs, by the flags that ask for them."""
        wanted = (
            ("--without-data", self.without_data),
            ("--data", self.running is not None and not self.without_data),
            ("--modes", bool(self.modes)),
            ("--counts", self.counts),
            ("--unwarm", self.unwarm),
        )
        return tuple(flag for flag, given in wanted if given)

    @property
    def words(self) -> tuple[str, ...]:
        """What asks the command for it, but for the file.

        Objects of Python are ``…``; secrets of addresses are left out.
        """
        values: list[tuple[str, Any]] = [("--where", place) for place in self.places]
        switches = [
            ("--without-data", self.without_data),
            ("--counts", self.counts),
            ("--unwarm", self.unwarm),
            ("--force", self.force),
        ]
        if self.running is not None:
            loading, feeding = self.running.loading, self.running.feeding
            values += [
                ("--model", loading.model),
                ("--model-args", _json(loading.arguments) if loading.arguments else ""),
                ("--prefix", loading.prefix),
                ("--data", feeding.data),
                *(("--input-shape", shape) for shape in feeding.shapes),
                ("--batch-size", str(feeding.batch_size or "")),
                ("--samples", "" if feeding.samples in (0, SAMPLES) else str(feeding.samples)),
                ("--device", "" if self.running.device == "cpu" else self.running.device),
                ("--autocast", self.running.autocast),
            ]
            switches.append(("--trust", loading.trust))
        values += [
            ("--holdout", self.holdout),
            ("--modes", self.modes),
            ("--momentum", "" if self.momentum is None else f"{self.momentum:g}"),
        ]
        values.append(("-o", self.output))
        switches.append(("--in-place", self.in_place))
        said = [word for flag, value in values if _given(value) for word in (flag, _word(value))]
        return (*said, *(flag for flag, given in switches if given))


def _given(value: Any) -> bool:
    # An array has no truth of its own.
    return value is not None and not (isinstance(value, str) and not value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=lambda _: "…")


def _word(value: Any) -> str:
    """A value as the command takes it."""
    return shown(str(value)) if isinstance(value, str | Path) else "…"
