"""Flags that commands share: what each is called, what it takes, and its line of help."""

from enum import StrEnum
from typing import Annotated

import typer

from normcheck.cli.flags.completion import complete_rule


class OutputFormat(StrEnum):
    """Forms of the report."""

    TEXT = "text"
    JSON = "json"
    JSON_V1 = "json-v1"
    JSON_LINES = "json-lines"
    SARIF = "sarif"
    JUNIT = "junit"
    GITHUB = "github"
    MARKDOWN = "markdown"


class MinSeverity(StrEnum):
    """Severities, the worst first."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class MinConfidence(StrEnum):
    """How sure a finding is."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class FailOn(StrEnum):
    """Severities that can fail a run."""

    ERROR = "error"
    WARNING = "warning"


class Color(StrEnum):
    """When to colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET",
        help="Checkpoint files, folders (searched for checkpoints) or quoted patterns.",
        show_default=False,
    ),
]
Forms = Annotated[
    list[OutputFormat] | None,
    typer.Option(
        "--format",
        "-f",
        "--output-format",
        metavar="FORMAT",
        help="text, json, json-v1, json-lines, sarif, junit, github or markdown. Default: text. "
        "May be repeated, each with its own -o.",
    ),
]
Outputs = Annotated[
    list[str] | None,
    typer.Option(
        "--output-file",
        "-o",
        metavar="FILE",
        help="Write the report there: a file whole or not at all. Default: stdout (-).",
    ),
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULES",
        help="Run only these rules: codes, names or prefixes, with commas. Default: ALL.",
        autocompletion=complete_rule,
    ),
]
ExtendSelect = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULES",
        help="Run these rules besides those of the configuration.",
        autocompletion=complete_rule,
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULES",
        help="Leave these rules out; the more specific word wins.",
        autocompletion=complete_rule,
    ),
]
MinSeverityFlag = Annotated[
    MinSeverity | None, typer.Option(help="Suppress milder findings. Default: info.")
]
MinConfidenceFlag = Annotated[
    MinConfidence | None, typer.Option(help="Suppress less sure findings. Default: low.")
]
FailOnFlag = Annotated[
    FailOn | None,
    typer.Option(help="Exit with 1 for findings of this severity or worse. Default: warning."),
]
ExitZero = Annotated[
    bool, typer.Option("--exit-zero", "-e", help="Exit with 0 even where there are findings.")
]
Strict = Annotated[
    bool | None,
    typer.Option("--strict/--no-strict", help="Exit with 2 where a rule or file was skipped."),
]
BaselineFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Suppress the findings that this file knows."),
]
WriteBaseline = Annotated[
    bool,
    typer.Option(
        "--write-baseline",
        help="Write all findings as known to --baseline (normcheck-baseline.json).",
    ),
]
ConfigFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Configuration, instead of the nearest pyproject.toml or normcheck.toml.",
    ),
]
Isolated = Annotated[bool, typer.Option("--isolated", help="Read no configuration file.")]
ShowSettings = Annotated[
    bool,
    typer.Option("--show-settings", help="Print the settings and where each comes from."),
]
Statistics = Annotated[
    bool, typer.Option("--statistics", help="Count findings by rule instead of showing them.")
]
ColorFlag = Annotated[
    Color, typer.Option(help="Colour; auto looks at the terminal, NO_COLOR, FORCE_COLOR.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Only warnings and errors; silent without.")
]
Plot = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="Draw predicted against stored means, a panel a layer (png, svg, pdf).",
    ),
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, help="Every layer and skipped rule; -vv for tracebacks."
    ),
]
