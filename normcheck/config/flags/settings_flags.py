"""What a configuration file can say, too: which findings count, and how they are written."""

from dataclasses import field
from typing import Annotated

from normcheck.config.choices import CONFIDENCES, FAILING, FORMATS, SEVERITIES
from normcheck.config.flags.flag import FileKey, Flag
from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class Configuration:
    """Which configuration file is read."""

    config: Annotated[
        str | None,
        Flag(
            "Configuration file, instead of the nearest pyproject.toml or normcheck.toml.",
            metavar="FILE",
            variable=True,
        ),
    ] = None
    no_config: Annotated[
        bool,
        Flag("Ignore configuration files.", names=("--no-config", "--isolated")),
    ] = False


@lazy_dataclass()
class Judging:
    """What is looked for, and what of it counts; None where nothing is said."""

    select: Annotated[
        tuple[str, ...] | None,
        Flag(
            "Run only these rules: codes, names or prefixes, with commas. Default: all.",
            metavar="RULES",
            completes_rules=True,
            key=FileKey("list of selectors", '["ALL"]', "rules to run", "selectors"),
            model_key=FileKey(
                "list of selectors", "as the run", "rules for these models", "selectors"
            ),
        ),
    ] = None
    extend_select: Annotated[
        tuple[str, ...] | None,
        Flag(
            "Run these rules in addition to those of the configuration.",
            metavar="RULES",
            completes_rules=True,
            key=FileKey("list of selectors", "[]", "rules to run besides", "selectors", adds=True),
        ),
    ] = None
    ignore: Annotated[
        tuple[str, ...] | None,
        Flag(
            "Leave out these rules; the more specific selector wins.",
            metavar="RULES",
            completes_rules=True,
            key=FileKey(
                "list of selectors",
                "[]",
                "rules to leave out; the more specific word wins",
                "selectors",
                adds=True,
            ),
            model_key=FileKey(
                "list of selectors", "[]", "rules to leave out for these models", "selectors"
            ),
        ),
    ] = None
    min_severity: Annotated[
        str | None,
        Flag(
            "Suppress milder findings. Default: info.",
            choices=SEVERITIES,
            key=FileKey(
                "error, warning or info", '"info"', "milder findings are suppressed", "one_of"
            ),
        ),
    ] = None
    min_confidence: Annotated[
        str | None,
        Flag(
            "Suppress less certain findings. Default: low.",
            choices=CONFIDENCES,
            key=FileKey(
                "high, medium or low", '"low"', "less certain findings are suppressed", "one_of"
            ),
        ),
    ] = None
    fail_on: Annotated[
        str | None,
        Flag(
            "Exit with 1 for findings of this severity or worse. Default: warning.",
            choices=FAILING,
            key=FileKey(
                "error or warning", '"warning"', "exit with 1 from this severity on", "one_of"
            ),
            variable=True,
        ),
    ] = None
    strict: Annotated[
        bool | None,
        Flag(
            "Exit with 2 if a rule or file was skipped.",
            off="--no-strict",
            key=FileKey(
                "true or false", "false", "exit with 2 where a rule or file was skipped", "switch"
            ),
        ),
    ] = None
    baseline: Annotated[
        str | None,
        Flag(
            "Suppress the findings listed in this file.",
            metavar="FILE",
            key=FileKey("path", "none", "findings that are known already", "path"),
        ),
    ] = None


@lazy_dataclass()
class OutputFlags:
    """The forms of the report, and the files that they go to."""

    formats: Annotated[
        tuple[str, ...],
        Flag(
            f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}. Default: text. "
            "May be repeated, each with its own -o.",
            names=("--format", "--output-format"),
            short="-f",
            metavar="FORMAT",
            choices=FORMATS,
            key=FileKey(f"one of {', '.join(FORMATS)}", '"text"', "form of the report", "one_of"),
            variable=True,
        ),
    ] = ()
    output_file: Annotated[
        tuple[str, ...],
        Flag(
            "Write the report to this file, completely or not at all. Default: stdout (-).",
            short="-o",
            metavar="FILE",
            unset='"-"',
            variable=True,
        ),
    ] = ()
    """The first for the first form."""


@lazy_dataclass()
class Flags:
    """All that is merged with what the configuration and the environment say."""

    outputs: OutputFlags = field(default_factory=OutputFlags)
    judging: Judging = field(default_factory=Judging)
    configuration: Configuration = field(default_factory=Configuration)
