"""The commands and their flags, in Typer's terms."""

from enum import StrEnum
from typing import Annotated

import typer

from normcheck.cli.complete import complete_rule
from normcheck.cli.kinds import print_kinds
from normcheck.cli.rule import print_rule
from normcheck.version import VERSION


class OutputFormat(StrEnum):
    """Forms of the report."""

    TEXT = "text"
    JSON = "json"
    JSON_V1 = "json-v1"
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


class Autocast(StrEnum):
    """Types that autocast can run in."""

    OFF = "off"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


class Color(StrEnum):
    """When to colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


app = typer.Typer(
    name="normcheck",
    help=(
        "Says why a trained model predicts badly: checks the normalization layers of saved "
        "models for stale running statistics and train/eval mode bugs. Reading a file never "
        "runs its code."
    ),
    no_args_is_help=True,
    # Plain help reads the same in a terminal, in a log and at any width.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"normcheck {VERSION}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", is_eager=True, callback=_show_version, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def scan(  # noqa: PLR0917  (a flag is a parameter)
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET",
            help="Checkpoint files, folders (searched for checkpoints) or quoted patterns.",
            show_default=False,
        ),
    ] = None,
    forms: Annotated[
        list[OutputFormat] | None,
        typer.Option(
            "--format",
            "-f",
            "--output-format",
            metavar="FORMAT",
            help="text, json, json-v1, sarif, junit, github or markdown. Default: text. May be "
            "repeated, each with its own -o.",
        ),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            "--output-file",
            "-o",
            metavar="FILE",
            help="Write the report there, whole or not at all. Default: stdout (-).",
        ),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULES",
            help="Run only these rules: codes, names or prefixes, with commas. Default: ALL.",
            autocompletion=complete_rule,
        ),
    ] = None,
    extend_select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULES",
            help="Run these rules besides those of the configuration.",
            autocompletion=complete_rule,
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULES",
            help="Leave these rules out; the more specific word wins.",
            autocompletion=complete_rule,
        ),
    ] = None,
    min_severity: Annotated[
        MinSeverity | None, typer.Option(help="Suppress milder findings. Default: info.")
    ] = None,
    min_confidence: Annotated[
        MinConfidence | None, typer.Option(help="Suppress less sure findings. Default: low.")
    ] = None,
    fail_on: Annotated[
        FailOn | None,
        typer.Option(help="Exit with 1 for findings of this severity or worse. Default: warning."),
    ] = None,
    run: Annotated[
        bool,
        typer.Option(
            "--run", help="Also run the model; without --data on made-up input, mechanics only."
        ),
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            metavar="PKG.MOD:NAME",
            help="Factory of the model that a state dict belongs to; runs it.",
        ),
    ] = "",
    model_args: Annotated[
        str,
        typer.Option(metavar="JSON", help="Its arguments: an object by name, or a list."),
    ] = "",
    prefix: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What stands before the model's names: ema_model."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="Which model of the file to run: state_dict, ema."),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Let the file's own code run: whatever a pickle names."),
    ] = False,
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="What to feed: .npy .npz .pt .safetensors, a folder of images, or pkg.mod:loader.",
        ),
    ] = "",
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHAPE",
            help="Made-up input without the batch: 3x224x224, 128:long, name=16x32; one each.",
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(metavar="N", help="Samples a forward, as in training.", min=0)
    ] = 0,
    samples: Annotated[
        int, typer.Option(metavar="N", help="Most samples of the data to use.", min=1)
    ] = 256,
    image_size: Annotated[
        str, typer.Option(metavar="HxW", help="Resize images of a folder: 224 or 224x320.")
    ] = "",
    mean: Annotated[
        str, typer.Option(metavar="M[,M,M]", help="Subtracted from images scaled to 0 to 1.")
    ] = "",
    std: Annotated[str, typer.Option(metavar="S[,S,S]", help="Divided by, after that.")] = "",
    device: Annotated[str, typer.Option(help="Where to run: cpu, cuda, cuda:1, mps.")] = "cpu",
    autocast: Annotated[
        Autocast, typer.Option(help="Run under autocast, as mixed-precision models do.")
    ] = Autocast.OFF,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", "-e", help="Exit with 0 even where there are findings.")
    ] = False,
    strict: Annotated[
        bool | None,
        typer.Option("--strict/--no-strict", help="Exit with 2 where a rule or file was skipped."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Suppress the findings that this file knows."),
    ] = None,
    write_baseline: Annotated[
        bool,
        typer.Option(
            "--write-baseline",
            help="Write all findings as known to --baseline (normcheck-baseline.json).",
        ),
    ] = False,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Configuration, instead of the nearest pyproject.toml or normcheck.toml.",
        ),
    ] = None,
    isolated: Annotated[
        bool, typer.Option("--isolated", help="Read no configuration file.")
    ] = False,
    show_settings: Annotated[
        bool,
        typer.Option("--show-settings", help="Print the settings and where each comes from."),
    ] = False,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Count findings by rule instead of showing them.")
    ] = False,
    color: Annotated[
        Color, typer.Option(help="Colour; auto looks at the terminal, NO_COLOR, FORCE_COLOR.")
    ] = Color.AUTO,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only warnings and errors; silent without.")
    ] = False,
    plot: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Draw predicted against stored means, a panel a layer (png, svg, pdf).",
        ),
    ] = "",
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose", "-v", count=True, help="Every layer and skipped rule; -vv for tracebacks."
        ),
    ] = 0,
) -> int:
    """Scan saved models and say what is wrong with their normalization layers.

    Exit codes: 0 nothing found, 1 findings, 2 something could not be read or done, 3 no
    checkpoint under the targets.

    NORMCHECK_CONFIG, NORMCHECK_FAIL_ON, NORMCHECK_FORMAT and NORMCHECK_OUTPUT_FILE stand for
    the flags of their names.
    """
    # Imported here, so that --help and the other commands do not wait for numpy.
    from normcheck.cli.running import RunWords
    from normcheck.cli.scan import ScanWords, run_scan
    from normcheck.config.merge import Flags

    return run_scan(
        ScanWords(
            targets=targets or (),
            flags=Flags(
                select=select or (),
                extend_select=extend_select or (),
                ignore=ignore or (),
                min_severity=min_severity,
                min_confidence=min_confidence,
                fail_on=fail_on,
                strict=strict,
                formats=[form.value for form in forms or ()],
                outputs=outputs or (),
                baseline=baseline,
                config=config,
                isolated=isolated,
            ),
            exit_zero=exit_zero,
            color=color.value,
            quiet=quiet,
            verbose=verbose,
            statistics=statistics,
            show_settings=show_settings,
            write_baseline=write_baseline,
            plot=plot,
            run=RunWords(
                run=run,
                model=model,
                model_args=model_args,
                prefix=prefix,
                at=at,
                trust=trust,
                data=data,
                input_shape=input_shape or (),
                batch_size=batch_size,
                samples=samples,
                image_size=image_size,
                mean=mean,
                std=std,
                device=device,
                autocast=autocast.value,
            ),
        )
    )


@app.command()
def rule(
    word: Annotated[
        str | None,
        typer.Argument(
            metavar="RULE",
            help="Code or name: NC101 or never-updated-stats.",
            autocompletion=complete_rule,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="List all rules, a line each.")
    ] = False,
) -> None:
    """Print the page of a rule, or list them all."""
    print_rule(None if everything else word)


@app.command()
def kinds(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help="BatchNorm2d, LayerNorm, RMSNorm …")
    ] = None,
) -> None:
    """Show what each normalization does in train and in eval mode, and what it suits."""
    print_kinds(kind)
