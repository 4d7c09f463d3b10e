"""Figures as inline SVG: points, lines and bars in a frame, with text that a reader can hear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from html import escape
from math import ceil, isfinite

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.wording import number, printable

_LEFT, _TOP, _RIGHT, _BOTTOM = 46, 10, 8, 30
"""Least room for the labels of the axes, in pixels."""
_LETTER = 6.6
"""Widest digit of the fonts that browsers take for labels of ten pixels, in pixels."""
_TITLE_OF_AXIS = 16
"""Pixels that a name along the y-axis takes."""
_LONGEST = 26
"""Characters of a name in a figure."""


def clipped(name: str) -> str:
    """The end of a name, which tells layers apart."""
    safe = printable(name)
    return safe if len(safe) <= _LONGEST else f"…{safe[1 - _LONGEST :]}"


@lazy_dataclass(frozen=False)
class Axes:
    """A figure with two axes, to which marks are added."""

    title: str
    """What it shows, for who cannot see it."""
    x: tuple[float, float]
    y: tuple[float, float]
    width: int = 300
    height: int = 200
    x_label: str = ""
    y_label: str = ""
    y_ticks: Sequence[tuple[float, str]] = ()
    """Values with their words; by default both ends."""
    x_ticks: Sequence[tuple[float, str]] = ()
    _marks: list[str] = field(default_factory=list)

    def points(self, values: Sequence[tuple[float, float]], kind: str = "") -> None:
        """Small circles."""
        self._marks += [
            f'<circle class="mark {kind}" cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="2.2"/>'
            for x, y in values
            if isfinite(x) and isfinite(y)
        ]

    def line(self, values: Sequence[tuple[float, float]], kind: str = "") -> None:
        """A line through points; what is not finite is left out."""
        places = " ".join(
            f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in values if isfinite(x) and isfinite(y)
        )
        if places:
            self._marks.append(f'<polyline class="line {kind}" points="{places}"/>')

    def span(self, x: float, low: float, high: float, kind: str = "") -> None:
        """A bar from one value to another, at a place."""
        if isfinite(low) and isfinite(high):
            top, bottom = self._y(high), self._y(low)
            self._marks.append(
                f'<rect class="span {kind}" x="{self._x(x) - 2:.1f}" y="{top:.1f}" width="4" '
                f'height="{max(1.0, bottom - top):.1f}"/>'
            )

    @property
    def _y_words(self) -> Sequence[tuple[float, str]]:
        return self.y_ticks or [(value, number(value)) for value in self.y]

    @property
    def _left(self) -> int:
        """Where the frame begins: beside the longest label."""
        longest = max(len(word) for _, word in self._y_words)
        return max(_LEFT, ceil(longest * _LETTER) + (_TITLE_OF_AXIS if self.y_label else 0) + 6)

    def svg(self) -> str:
        """The figure."""
        left = self._left
        right, bottom = self.width - _RIGHT, self.height - _BOTTOM
        box = f'viewBox="0 0 {self.width} {self.height}"'
        size = f'width="{self.width}" height="{self.height}"'
        place = f'x="{left}" y="{_TOP}" width="{right - left}" height="{bottom - _TOP}"'
        parts = [
            f'<svg class="figure" role="img" {box} {size} aria-label="{_attribute(self.title)}">',
            f"<title>{_text(self.title)}</title>",
            f'<rect class="frame" {place}/>',
            *self._marks,
        ]
        for value, word in self._y_words:
            y = self._y(value)
            parts.append(
                f'<text class="tick" x="{left - 4}" y="{y + 3:.1f}" text-anchor="end">'
                f"{_text(word)}</text>"
            )
        ticks = self.x_ticks or [(v, number(v)) for v in self.x]
        for number_, (value, word) in enumerate(ticks):
            anchor = "start" if not number_ else "end" if number_ == len(ticks) - 1 else "middle"
            parts.append(
                f'<text class="tick" x="{self._x(value):.1f}" y="{bottom + 12}" '
                f'text-anchor="{anchor}">{_text(word)}</text>'
            )
        if self.x_label:
            middle = (left + right) / 2
            parts.append(
                f'<text class="tick" x="{middle:.0f}" y="{self.height - 4}" text-anchor="middle">'
                f"{_text(self.x_label)}</text>"
            )
        if self.y_label:
            middle = (_TOP + bottom) / 2
            parts.append(
                f'<text class="tick" transform="translate(10 {middle:.0f}) rotate(-90)" '
                f'text-anchor="middle">{_text(self.y_label)}</text>'
            )
        return "".join([*parts, "</svg>"])

    def _x(self, value: float) -> float:
        return self._left + _share(value, self.x) * (self.width - _RIGHT - self._left)

    def _y(self, value: float) -> float:
        bottom = self.height - _BOTTOM
        return bottom - _share(value, self.y) * (bottom - _TOP)


def bars(title: str, rows: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars, each below its name, with its value in words.

    Args:
        title: What it shows.
        rows: Name, value from 0, and the value in words.
    """
    largest = max((v for _, v, _ in rows if isfinite(v)), default=0.0) or 1.0
    width, value_width, high = 320, 72, 28
    height = high * len(rows) + 4
    head = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    label = f'aria-label="{_attribute(title)}"'
    parts = [f'<svg class="figure" role="img" {head} {label}>', f"<title>{_text(title)}</title>"]
    for place, (name, value, word) in enumerate(rows):
        y = high * place + 2
        share = min(1.0, value / largest) if isfinite(value) else 1.0
        length = max(1.0, (width - value_width) * share)
        parts += [
            f'<text class="tick" x="0" y="{y + 10}">{_text(clipped(name))}</text>',
            f'<rect class="bar" x="0" y="{y + 14}" width="{length:.1f}" height="8"/>',
            f'<text class="tick" x="{length + 5:.1f}" y="{y + 22}">{_text(word)}</text>',
        ]
    return "".join([*parts, "</svg>"])


def reach(values: Sequence[float], *, least: float | None = None) -> tuple[float, float]:
    """The smallest and largest finite value, with a little room; never equal.

    Args:
        values: To be shown.
        least: A value that has to be in it.
    """
    finite = [value for value in values if isfinite(value)]
    if least is not None:
        finite.append(least)
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    if high == low and least is not None:
        return low, low + 1
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _share(value: float, ends: tuple[float, float]) -> float:
    low, high = ends
    # The ends may be so far apart that their distance is no number.
    share = (value / 2 - low / 2) / (high / 2 - low / 2)
    return min(1.0, max(0.0, share))


def _text(text: str) -> str:
    return escape(printable(text), quote=False)


def _attribute(text: str) -> str:
    return escape(printable(text))
