"""The forms of the report by their names; each is imported where it is wanted."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normcheck.report.form import ReportForm

_HOMES = {
    "text": "people.text_form",
    "json": "machines.json_form",
    "json-v1": "machines.json_form",
    "json-lines": "machines.as_json_lines",
    "sarif": "machines.as_sarif",
    "junit": "machines.as_junit",
    "github": "machines.as_github",
    "markdown": "people.as_markdown",
    "html": "page.as_html",
}
"""Where the ``FORM`` of each name is. ``json-v1`` is ``json`` for who relies on its version."""
NAMES = tuple(_HOMES)
"""In the order of the documentation."""


def form_of(name: str) -> "ReportForm":
    """The form that a name stands for.

    Raises:
        ValueError: There is none.
    """
    if name not in _HOMES:
        raise ValueError(f"no form of the report is called {name!r}")
    form: ReportForm = import_module(f"normcheck.report.{_HOMES[name]}").FORM
    return form
