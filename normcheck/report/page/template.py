"""The page's template, filled: everything that is put in is escaped."""

from __future__ import annotations

import functools
import platform
from importlib import resources
from typing import TYPE_CHECKING, Any

from normcheck.errors import UsageError
from normcheck.report.page.contents import MARKS
from normcheck.rules.catalogue import RULES
from normcheck.rules.page import markdown_page
from normcheck.version import VERSION
from normcheck.wording import number, plural, printable

if TYPE_CHECKING:
    import jinja2


@functools.cache
def _environment() -> jinja2.Environment:
    try:
        import jinja2
        import markupsafe
    except ImportError as error:
        raise UsageError(
            "--format html needs jinja2, which is not installed",
            "install it with: pip install 'normcheck[html]'",
        ) from error

    def final(value: Any) -> Any:
        # Names from files: what has no shape is spelt out, then jinja2 escapes it.
        return printable(value) if isinstance(value, str) and not _safe(value) else value

    def _safe(value: str) -> bool:
        return isinstance(value, markupsafe.Markup)

    folder = resources.files(__package__).joinpath("templates")
    sources = {
        file.name: file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith((".html", ".css", ".js"))
    }
    return jinja2.Environment(
        loader=jinja2.DictLoader(sources),
        autoescape=True,
        finalize=final,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def check() -> None:
    """See that pages can be made.

    Raises:
        UsageError: jinja2 is missing.
    """
    _environment()


def _value(measured: object) -> str:
    return number(measured) if isinstance(measured, float) else str(measured)


@functools.cache
def _meaning(code: str) -> str:
    """The page of a rule for within a page; empty where there is no such rule.

    Its headings stand below those of a finding, and its links are words: they would lead out.
    """
    rule = next((rule for rule in RULES if rule.code == code), None)
    if rule is None:
        return ""
    from markdown_it import MarkdownIt  # comes with rich
    from markupsafe import Markup

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(markdown_page(rule))
    for token in tokens:
        if token.type.startswith("heading_"):
            token.tag = "h4"
        kept = [part for part in token.children or () if not part.type.startswith("link_")]
        token.children = kept if token.children is not None else None
    return Markup(reader.renderer.render(tokens, reader.options, {}))  # noqa: S704  (a text of ours)


def page(**contents: Any) -> str:
    """The page; see ``page.html`` for what it takes."""
    environment = _environment()
    asset = {name: environment.get_template(name).render() for name in ("page.css", "page.js")}
    from markupsafe import Markup

    return (
        environment.get_template("page.html").render(
            marks={severity.value: mark for severity, mark in MARKS.items()},
            version=VERSION,
            python=platform.python_version(),
            style=Markup(asset["page.css"]),  # noqa: S704  (files of ours)
            script=Markup(asset["page.js"]),  # noqa: S704  (the same)
            svg=Markup,
            plural=plural,
            value=_value,
            meaning=_meaning,
            **{"folded": (), **contents},
        )
        + "\n"
    )
