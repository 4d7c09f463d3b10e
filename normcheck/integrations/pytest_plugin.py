"""The plugin for pytest: a fixture ``normcheck``, and checkpoints as tests (``--normcheck PATH``).

Pytest imports it wherever normcheck is installed, so nothing else is imported before it is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from normcheck.report.report import Report


class UnhealthyError(Exception):
    """A checkpoint has findings, or could not be read."""

    def __init__(self, report: Report) -> None:
        """Keep the report, which is the failure's text."""
        super().__init__(report)
        self.report = report


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--normcheck``."""
    parser.getgroup("normcheck").addoption(
        "--normcheck",
        action="append",
        default=[],
        metavar="PATH",
        help="scan this checkpoint, folder or pattern: each file is a test; may be repeated",
    )


class CheckpointItem(pytest.Item):
    """One checkpoint, healthy or not, by the rules and settings of the project."""

    def __init__(self, *, target: Any, **words: Any) -> None:
        """A test of ``target``."""
        super().__init__(**words)
        self.target = target

    def runtest(self) -> None:
        """Scan it.

        Raises:
            UnhealthyError: There is a finding at or above ``fail-on``, or it could not be read.
        """
        from normcheck.api.scan import scan
        from normcheck.config.flags.settings_flags import Flags
        from normcheck.config.merge import resolve, with_baseline

        resolved = resolve(Flags(), os.environ, Path.cwd())
        report = scan([str(self.target)], resolved.examination, with_baseline(resolved))
        if not report.ok:
            raise UnhealthyError(report)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_words: Any) -> Any:
        """The findings, without a traceback of ours."""
        if isinstance(excinfo.value, UnhealthyError):
            return str(excinfo.value.report)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[str, None, str]:
        """Where the test is: in the file itself."""
        return str(self.target), None, f"normcheck {self.target}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add a test for each checkpoint that was named; ``-k`` chooses among them, too."""
    items.extend(_items(session, config))


def _items(session: pytest.Session, config: pytest.Config) -> Iterator[pytest.Item]:
    words = config.getoption("--normcheck")
    if not words:
        return
    from normcheck.errors import NormcheckError
    from normcheck.formats.targets import expand

    try:
        found = sorted({str(target.path) for word in words for target in expand([word])})
    except NormcheckError as error:
        raise pytest.UsageError(f"--normcheck: {error.message}") from error
    if not found:
        raise pytest.UsageError(f"--normcheck: no checkpoint under {', '.join(words)}")
    for target in found:
        yield CheckpointItem.from_parent(session, name=f"normcheck:{target}", target=target)


@pytest.fixture
def normcheck() -> Callable[..., Report]:
    """A check that fails with the findings: ``normcheck(model, data=loader)``.

    Takes what :func:`normcheck.scan` takes, and returns the report of what is healthy.
    """
    from normcheck.api.scan import assert_healthy

    return assert_healthy
