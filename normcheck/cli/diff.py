"""``normcheck diff``: read, compare, report. The flags themselves are in ``app.py``."""

from collections.abc import Sequence
from dataclasses import dataclass

from normcheck.cli.errors import report_error
from normcheck.cli.scan import (
    ScanWords,
    exit_code,
    rendered,
    split_words,
    text_width,
    use_color,
    write_out,
)
from normcheck.compare.run import Diff, diff
from normcheck.errors import UsageError
from normcheck.findings import Severity
from normcheck.rules.catalogue import select
from normcheck.rules.rule import Need, Rule
from normcheck.settings import Settings


@dataclass(frozen=True, slots=True)
class DiffWords:
    """The words of one ``normcheck diff``, as the flags give them."""

    targets: Sequence[str]
    form: str = "text"
    output: str = "-"
    select: Sequence[str] = ()
    ignore: Sequence[str] = ()
    fail_on: str = "warning"
    exit_zero: bool = False
    ranks: bool = False
    where: Sequence[str] = ()
    color: str = "auto"
    quiet: bool = False
    verbose: int = 0


def run_diff(words: DiffWords) -> int:
    """Compare, write the report, and return the exit code."""
    settings = Settings(rules=_rules(words), fail_on=Severity(words.fail_on))
    result = diff(words.targets, settings, ranks=words.ranks, where=words.where)
    if result.comparisons or words.form != "text":
        write_out(_rendered(result, words), words.output)
    for failure in result.report.errors:
        report_error(failure.message, failure.hint)
    return exit_code(result.report, settings, exit_zero=words.exit_zero)


def _rules(words: DiffWords) -> tuple[Rule, ...]:
    """The rules that compare, as far as they are selected.

    Raises:
        UsageError: The selection has rules, and none of them compares.
    """
    chosen = select(split_words(words.select) or ["ALL"], split_words(words.ignore))
    comparing = tuple(rule for rule in chosen if rule.need is Need.PAIR)
    if words.select and chosen and not comparing:
        raise UsageError(
            f"{', '.join(words.select):.60}: no rule that compares checkpoints",
            "diff has the rules of NC6; the others are for normcheck scan",
        )
    return comparing


def _rendered(result: Diff, words: DiffWords) -> str:
    if words.form == "json":
        from normcheck.report.diff_json import render_diff_json

        return render_diff_json(result)
    if words.form == "text":
        from normcheck.report.diff_text import render_diff_text
        from normcheck.report.text import TextStyle

        style = TextStyle(
            width=text_width(words.output),
            color=use_color(words.color, words.output),
            verbose=words.verbose > 0,
            quiet=words.quiet,
        )
        return render_diff_text(result, style)
    # The other forms show findings, skipped rules and errors, which every report has.
    return rendered(
        result.report, ScanWords(words.targets, words.form, words.output, quiet=words.quiet)
    )
