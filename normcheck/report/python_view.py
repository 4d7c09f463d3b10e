"""What results show of themselves in Python: text, HTML and data of each kind of result."""

from __future__ import annotations

import html
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from normcheck.errors import NormcheckError
from normcheck.repair.repair_result import Repair
from normcheck.report.diff_report import Diff
from normcheck.report.form import View
from normcheck.report.forms import form_of
from normcheck.report.in_one_piece import in_one_piece
from normcheck.report.layer_list import LayerList
from normcheck.report.machines.json_numbers import json_number
from normcheck.report.people.text_style import TextStyle
from normcheck.report.report import Report
from normcheck.version import VERSION
from normcheck.wording import printable
from normcheck.writing.destination import destination_of
from normcheck.writing.writer import written

_NOTEBOOK_WIDTH = 100
_PRE = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:1.3;'
    "font-family:Menlo,'DejaVu Sans Mono',consolas,'Courier New',monospace\">{code}</pre>"
)


def rendered(result: object, form: str, view: View) -> str:
    """A result in a form of the report.

    Raises:
        NormcheckError: The form does not tell of such results.
    """
    found = form_of(form)
    match result:
        case Report():
            return in_one_piece(result, found.scan(view))
        case Diff() if found.diff is not None:
            return found.diff(result, view)
        case Repair() if found.fix is not None:
            return found.fix(result, view)
    raise NormcheckError(f"{form} does not tell of a {type(result).__name__}")


def text_of(result: object, width: int, *, color: bool) -> str:
    """The text of the command."""
    if isinstance(result, LayerList):
        return result.text(width)
    style = TextStyle(width=width, color=color, errors=True)
    return rendered(result, "text", View(style)).rstrip("\n")


def html_of(result: object) -> str:
    """The text as a notebook shows it, in its colours; names are no markup."""
    if isinstance(result, LayerList):
        return _table(result)
    console = Console(
        file=io.StringIO(), record=True, width=_NOTEBOOK_WIDTH, force_terminal=True,
        legacy_windows=False, highlight=False,
    )  # fmt: skip
    console.print(Text.from_ansi(text_of(result, _NOTEBOOK_WIDTH, color=True)))
    return console.export_html(inline_styles=True, code_format=_PRE)


def _table(layers: LayerList) -> str:
    records = layers.to_records()
    if not records:
        return "<p>no normalization layers</p>"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in records[0])
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_cell(v))}</td>" for v in record.values()) + "</tr>"
        for record in records
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def json_of(result: object) -> str:
    """The JSON of the command; of a repair, which it does not print as JSON, its fields."""
    if isinstance(result, Repair):
        return json.dumps(_repair(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return rendered(result, "json", View())


def dict_of(result: object) -> dict[str, Any]:
    """The same as values of Python."""
    found: dict[str, Any] = json.loads(json_of(result))
    return found


def _repair(result: Repair) -> dict[str, Any]:
    return {
        "tool": {"name": "normcheck", "version": VERSION},
        "target": result.target,
        "format": result.format,
        "refused": result.refused,
        "forced": result.forced,
        "written": asdict(result.written) if result.written else None,
        "models": [
            {
                "where": model.where,
                "done": list(model.done),
                "notes": list(model.notes),
                "objections": list(model.objections),
                "changed": [change.name for change in model.changes],
                "estimated": _plain(asdict(model.estimated)) if model.estimated else None,
            }
            for model in result.models
        ],
        "notes": list(result.notes),
    }


def _plain(value: Any) -> Any:
    """Numbers that JSON has not as strings."""
    if isinstance(value, float):
        return json_number(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def page_of(result: object, file: str | Path | None) -> str:
    """The result as a page, also in a file."""
    page = rendered(result, "html", View())
    if file is not None:
        with written(destination_of(str(file))) as out:
            out.text(page)
    return page
