"""The layers of a report as a table: rows to go through, to print, or to hand to pandas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.report.data_frame import frame_of
from normcheck.report.report import LayerSummary, Report, Spread
from normcheck.shown import Shown
from normcheck.wording import printable

_COLUMNS = ("layer", "kind", "eval_uses", "batches", "mean", "var", "standing", "rules")
"""Those that are printed; the others are in the records."""


@lazy_dataclass(repr=False)
class LayerList(Shown):
    """All normalization layers of a report, in the order of its models."""

    rows: tuple[tuple[str, str, LayerSummary], ...]
    """Target, place within it, and the layer."""

    def __len__(self) -> int:
        """Number of layers."""
        return len(self.rows)

    def __iter__(self) -> Iterator[LayerSummary]:
        """The layers."""
        return (layer for _, _, layer in self.rows)

    def __getitem__(self, path: str | int) -> LayerSummary:
        """A layer by its number or its path; of several with one path the first.

        Raises:
            KeyError: No layer has this path.
            IndexError: There are fewer.
        """
        if isinstance(path, int):
            return self.rows[path][2]
        for layer in self:
            if layer.path == path:
                return layer
        raise KeyError(path)

    def to_records(self) -> list[dict[str, Any]]:
        """A dictionary for each layer; statistics by their median, None where there are none."""
        return [_record(*row) for row in self.rows]

    def to_dataframe(self) -> Any:
        """A ``pandas.DataFrame`` with a row for each layer.

        Raises:
            NormcheckError: pandas is not installed.
        """
        return frame_of(self.to_records())

    def to_dict(self) -> dict[str, Any]:
        """The records, by ``layers``."""
        return {"layers": self.to_records()}

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), default=str, indent=2) + "\n"

    def text(self, width: int) -> str:
        """The table as text, lines cut at ``width`` columns."""
        cells = [[_cell(record[name]) for name in _COLUMNS] for record in self.to_records()]
        widths = [max(map(len, column)) for column in zip(_COLUMNS, *cells, strict=True)]
        lines = [
            "  ".join(f"{word:<{size}}" for word, size in zip(row, widths, strict=True)).rstrip()
            for row in (_COLUMNS, *cells)
        ]
        return "\n".join(line if len(line) <= width else f"{line[: width - 1]}…" for line in lines)


def layers_of(report: Report) -> LayerList:
    """All layers of a report."""
    return LayerList(tuple((m.target, m.where, layer) for m in report.models for layer in m.layers))


def _record(target: str, where: str, layer: LayerSummary) -> dict[str, Any]:
    return {
        "model": target,
        "where": where,
        "layer": layer.path,
        "kind": layer.kind,
        "features": layer.features,
        "eval_uses": layer.eval_uses,
        "training": layer.training,
        "momentum": layer.momentum,
        "eps": layer.eps,
        "batches": layer.batches,
        "mean": _median(layer.mean),
        "var": _median(layer.variance),
        "weight": _median(layer.weight),
        "bias": _median(layer.bias),
        "standing": layer.standing.value,
        "why": layer.why,
        "rules": ", ".join(layer.rules),
    }


def _median(spread: Spread | None) -> float | None:
    return None if spread is None else spread.median


def _cell(value: object) -> str:
    if value is None or value == "":
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))
