"""The input that statistics are of, where it is another than the one that was fed, in words."""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING

from normcheck.rules.data.skill import BEYOND_GUESSING, sign_test
from normcheck.wording import number

if TYPE_CHECKING:
    from normcheck.live.measurement import AgainstData
    from normcheck.live.misfit import InputMap

_FACTOR = 1.5
"""Factor in the input from which no difference between two sets of data explains it."""
_OFFSET = 0.5
"""The same of an offset, in deviations of the input that was meant."""
_CLOSELY = 0.2
"""Distance of later norms up to which an inversion is believed without labels: true ones leave 0.06
to 0.25, data of one class 0.27 as if inverted."""
_AS_MUCH = 0.5
"""Part of what re-estimated statistics heal that the change has to heal, too."""
_NEARLY_ALL = 0.7
"""The same where norms behind the first do not fit the input so changed: of six inputs of 126 that
do not, five give 0.79 and more, and of 840 scans on the input that was meant none gives 0.6."""
_NEAR = 0.1
"""Distance of logarithms within which a factor is one that is known."""
_NO_OFFSET = 0.1
"""Offset, in deviations, up to which it is none."""
_IMAGENET = ((-2.118, -2.036, -1.804), 4.42)
"""Offsets and factor that take out ImageNet's mean and deviation of pixels from 0 to 1."""


def meant_input(data: AgainstData | None) -> InputMap | None:
    """The change of the input under which all norms fit; None where something speaks against it."""
    return believed(data.input_map, (data.healed, data.harmed)) if data is not None else None


def believed(found: InputMap | None, changed: tuple[int | None, int | None]) -> InputMap | None:
    """The same change; None where something speaks against it.

    Labels speak against it where answers suffer from the change, or where re-estimated statistics
    heal what it does not. Without them an inversion has to fit closely: data of one class come
    near one. Where norms behind the first do not fit, answers alone speak for it: they have to be
    better by nearly all that re-estimated statistics give, and the change has to be more than two
    sets of data differ by.

    Args:
        found: Under which all norms fit, or the first and the answers, if there is one.
        changed: Labelled answers that re-estimated statistics heal, and that they harm.
    """
    if found is None:
        return None
    if found.healed is None or found.harmed is None:
        turned = found.factor < 0 or found.reversed_channels
        return None if not found.fits or (turned and found.later > _CLOSELY) else found
    gained = found.healed - found.harmed
    if gained < 0 and sign_test(found.harmed, found.healed) < BEYOND_GUESSING:
        return None
    healed, harmed = (count or 0 for count in changed)
    better = healed > harmed and sign_test(healed, harmed) < BEYOND_GUESSING
    if not found.fits and not (is_far(found) and heals(found)):
        return None
    part = _AS_MUCH if found.fits else _NEARLY_ALL
    return None if better and gained < part * (healed - harmed) else found


def heals(found: InputMap) -> bool:
    """Whether labels prove that answers are better of the input so changed."""
    healed, harmed = found.healed or 0, found.harmed or 0
    return healed > harmed and sign_test(healed, harmed) < BEYOND_GUESSING


def is_far(found: InputMap) -> bool:
    """Whether it is more than two sets of data differ by: another unit, no mean taken out."""
    if found.factor < 0 or found.reversed_channels:
        return True
    return abs(log(found.factor)) > log(_FACTOR) or _offset(found) > _OFFSET


def as_formula(found: InputMap) -> str:
    """``× 0.217``, ``× -1 + 0.3``, ``× 4.4 − 2.1, − 2 and − 1.8 by channel``."""
    offsets = found.offsets
    text = f"× {number(found.factor)}"
    if _offset(found) > _NO_OFFSET:
        if max(offsets) - min(offsets) < _NO_OFFSET * _deviation(found):
            offsets = (sum(offsets) / len(offsets),)
        signed = [f"{'+' if o >= 0 else '−'} {number(abs(o))}" for o in offsets]
        text += f" {signed[0]}" if len(signed) == 1 else f" {', '.join(signed)} (by channel)"
    return f"{text}, its channels in reverse order" if found.reversed_channels else text


def as_if(found: InputMap) -> str:
    """What was left out or done once too often: ``as if it had not been divided by 4.6``."""
    factor, offset = abs(found.factor), _offset(found) > _NO_OFFSET
    parts = []
    if found.reversed_channels:
        parts.append("its channels came in the other order (RGB for BGR)")
    if found.factor < 0:
        parts.append("it had been inverted")
    imagenet, unit = _IMAGENET
    normalised = len(found.offsets) == 3 and _alike(found.offsets, imagenet)
    if normalised and (_is(factor, unit) or _is(factor, unit / 255)):
        first = "pixels from 0 to 255 had not been divided by 255, and " if factor < 1 else ""
        parts.append(f"{first}ImageNet's mean and deviation had not been taken out")
    elif _is(factor, 1 / 255):
        parts.append("pixels from 0 to 255 had not been divided by 255")
    elif _is(factor, 255.0):
        parts.append("pixels had been divided by 255 once too often")
    elif not _is(factor, 1.0):
        words = f"not been divided by {number(1 / factor)}" if factor < 1 else (
            f"been divided by {number(factor)}"
        )  # fmt: skip
        parts.append(f"it had {words}" + (", and a mean not been taken out" if offset else ""))
    elif offset:
        mean = sum(found.offsets) / len(found.offsets)
        parts.append(f"{number(abs(mean))} had {'not ' if mean < 0 else ''}been taken from it")
    return f"as if {' and '.join(parts)}" if parts else ""


def statistics_in_words(found: InputMap) -> str:
    """What is fed, and what the statistics are of, by mean and deviation."""
    fed = ", ".join(f"{number(m)} ± {number(s)}" for m, s in found.fed)
    wanted = ", ".join(f"{number(m)} ± {number(s)}" for m, s in found.expected)
    return f"fed is mean ± deviation {fed}; the statistics are of {wanted}"


def _is(factor: float, known: float) -> bool:
    return exp(-_NEAR) < factor / known < exp(_NEAR)


def _alike(offsets: tuple[float, ...], known: tuple[float, ...]) -> bool:
    return all(abs(a - b) < 0.4 for a, b in zip(offsets, known, strict=True))


def _deviation(found: InputMap) -> float:
    return max(deviation for _, deviation in found.expected) or 1.0


def _offset(found: InputMap) -> float:
    return max(map(abs, found.offsets)) / _deviation(found)
