"""The commands and their flags, in Typer's terms."""

from typing import Annotated

import typer

from normcheck.cli.commands.kinds_command import print_kinds
from normcheck.cli.commands.rule_command import print_rule
from normcheck.cli.flags.completion import complete_rule
from normcheck.cli.flags.fleet_flags import (
    CacheFile,
    CpusPerTask,
    EngineFlag,
    EngineName,
    GpusPerTask,
    Jobs,
    RayAddress,
)
from normcheck.cli.flags.limit_flags import (
    MemoryLimit,
    NoIsolation,
    ReadLimits,
    TimeLimit,
    WeightsBudget,
)
from normcheck.cli.flags.run_flags import (
    Autocast,
    AutocastFlag,
    BatchSize,
    Counts,
    Data,
    Device,
    Factory,
    FactoryArguments,
    Fixed,
    Force,
    Holdout,
    ImageSize,
    InPlace,
    InputShape,
    Mean,
    ModesFlag,
    MomentumFlag,
    MostSamples,
    Place,
    Places,
    Prefix,
    RunBoth,
    RunModel,
    Samples,
    Std,
    Trust,
    Unwarm,
)
from normcheck.cli.flags.shared_flags import (
    BaselineFile,
    Color,
    ColorFlag,
    ConfigFile,
    ExitZero,
    ExtendSelect,
    FailOnFlag,
    Forms,
    Ignore,
    Isolated,
    MinConfidenceFlag,
    MinSeverityFlag,
    Outputs,
    Plot,
    Quiet,
    Select,
    ShowSettings,
    Statistics,
    Strict,
    Targets,
    Verbose,
    WriteBaseline,
)
from normcheck.version import VERSION

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
    targets: Targets = None,
    forms: Forms = None,
    outputs: Outputs = None,
    select: Select = None,
    extend_select: ExtendSelect = None,
    ignore: Ignore = None,
    min_severity: MinSeverityFlag = None,
    min_confidence: MinConfidenceFlag = None,
    fail_on: FailOnFlag = None,
    run: RunModel = False,
    model: Factory = "",
    model_args: FactoryArguments = "",
    prefix: Prefix = None,
    at: Place = None,
    trust: Trust = False,
    data: Data = "",
    input_shape: InputShape = None,
    batch_size: BatchSize = 0,
    samples: Samples = 256,
    image_size: ImageSize = "",
    mean: Mean = "",
    std: Std = "",
    device: Device = "cpu",
    autocast: AutocastFlag = Autocast.OFF,
    time_limit: TimeLimit = 600,
    memory_limit: MemoryLimit = "",
    no_isolation: NoIsolation = False,
    limit: ReadLimits = None,
    jobs: Jobs = None,
    cache: CacheFile = "",
    engine: EngineFlag = EngineName.LOCAL,
    ray_address: RayAddress = "",
    cpus_per_task: CpusPerTask = None,
    gpus_per_task: GpusPerTask = None,
    weights_budget: WeightsBudget = "",
    exit_zero: ExitZero = False,
    strict: Strict = None,
    baseline: BaselineFile = None,
    write_baseline: WriteBaseline = False,
    config: ConfigFile = None,
    isolated: Isolated = False,
    show_settings: ShowSettings = False,
    statistics: Statistics = False,
    color: ColorFlag = Color.AUTO,
    quiet: Quiet = False,
    plot: Plot = "",
    verbose: Verbose = 0,
) -> int:
    """Scan saved models and say what is wrong with their normalization layers.

    Exit codes: 0 nothing found, 1 findings, 2 something could not be read or done, 3 no
    checkpoint under the targets.

    NORMCHECK_CONFIG, NORMCHECK_FAIL_ON, NORMCHECK_FORMAT and NORMCHECK_OUTPUT_FILE stand for
    the flags of their names.
    """
    # Imported here, so that --help and the other commands do not wait for numpy.
    from normcheck.cli.commands.scan_command import ScanWords, run_scan
    from normcheck.cli.flags.fleet_words import FleetWords
    from normcheck.cli.flags.run_words import RunWords
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
            limits=limit or (),
            fleet=FleetWords(
                jobs=jobs,
                engine=engine.value,
                ray_address=ray_address,
                cpus_per_task=cpus_per_task,
                gpus_per_task=gpus_per_task,
                cache=cache,
            ),
            weights_budget=weights_budget,
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
                time_limit=time_limit,
                memory_limit=memory_limit,
                no_isolation=no_isolation,
            ),
        )
    )


@app.command()
def diff(  # noqa: PLR0917  (a flag is a parameter)
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="OLD NEW",
            help="Checkpoints of one model, in the order in which they came about: two or more.",
            show_default=False,
        ),
    ],
    forms: Forms = None,
    outputs: Outputs = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULES",
            help="Run only these rules: codes, names or prefixes, with commas. Default: NC6.",
        ),
    ] = None,
    ignore: Ignore = None,
    min_severity: MinSeverityFlag = None,
    min_confidence: MinConfidenceFlag = None,
    fail_on: FailOnFlag = None,
    exit_zero: ExitZero = False,
    strict: Strict = None,
    ranks: Annotated[
        bool,
        typer.Option(
            "--ranks", help="The files are ranks of one step: hold each against the first."
        ),
    ] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE",
            help=(
                "Which model to compare where a file holds several (state_dict, ema): once for "
                "all files, or once for each."
            ),
        ),
    ] = None,
    data: Data = "",
    run: RunBoth = False,
    model: Factory = "",
    model_args: FactoryArguments = "",
    prefix: Prefix = None,
    input_shape: InputShape = None,
    samples: Samples = 256,
    image_size: ImageSize = "",
    mean: Mean = "",
    std: Std = "",
    device: Device = "cpu",
    trust: Trust = False,
    time_limit: TimeLimit = 600.0,
    memory_limit: MemoryLimit = "",
    no_isolation: NoIsolation = False,
    baseline: BaselineFile = None,
    config: ConfigFile = None,
    isolated: Isolated = False,
    limit: ReadLimits = None,
    color: ColorFlag = Color.AUTO,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> int:
    """Say what moved between checkpoints of one run, or between ranks, layer by layer.

    Of a model and its export (TorchScript, torch.export, ONNX) it says whether they hold the same
    numbers, and with --data or --run whether they give the same outputs.

    Exit codes: 0 nothing found, 1 findings, 2 something could not be read or done.
    """
    from normcheck.cli.commands.diff_command import DiffWords, run_diff
    from normcheck.cli.flags.run_words import RunWords
    from normcheck.config.merge import Flags

    return run_diff(
        DiffWords(
            targets=targets,
            flags=Flags(
                select=select or (),
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
            ranks=ranks,
            where=where or (),
            limits=limit or (),
            run=RunWords(
                run=run,
                model=model,
                model_args=model_args,
                prefix=prefix,
                trust=trust,
                data=data,
                input_shape=input_shape or (),
                samples=samples,
                image_size=image_size,
                mean=mean,
                std=std,
                device=device,
                time_limit=time_limit,
                memory_limit=memory_limit,
                no_isolation=no_isolation,
            ),
            color=color.value,
            quiet=quiet,
            verbose=verbose,
        )
    )


@app.command("fix")
def fix_command(  # noqa: PLR0917  (a flag is a parameter)
    target: Annotated[
        str, typer.Argument(metavar="MODEL", help="A checkpoint file.", show_default=False)
    ],
    output: Fixed = "",
    in_place: InPlace = False,
    force: Force = False,
    model: Factory = "",
    model_args: FactoryArguments = "",
    prefix: Prefix = None,
    at: Places = None,
    trust: Trust = False,
    data: Data = "",
    holdout: Holdout = "",
    batch_size: BatchSize = 0,
    samples: MostSamples = 10_000,
    image_size: ImageSize = "",
    mean: Mean = "",
    std: Std = "",
    device: Device = "cpu",
    autocast: AutocastFlag = Autocast.OFF,
    modes: ModesFlag = None,
    counts: Counts = False,
    unwarm: Unwarm = False,
    momentum: MomentumFlag = None,
    color: ColorFlag = Color.AUTO,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> int:
    """Re-estimate running statistics from data and write a repaired copy, if it helps.

    The copy is the file byte for byte but for the repaired values and their checksums. It is
    written only where samples that the estimate did not see are predicted no worse.

    Exit codes: 0 written, 1 refused (nothing is written, the reason is said), 2 could not be
    done.
    """
    from normcheck.cli.commands.fix_command import FixWords, run_fix
    from normcheck.cli.flags.run_words import RunWords

    return run_fix(
        FixWords(
            target=target,
            output=output,
            in_place=in_place,
            force=force,
            at=at or (),
            holdout=holdout,
            modes=modes.value if modes else "",
            counts=counts,
            unwarm=unwarm,
            momentum=momentum,
            color=color.value,
            quiet=quiet,
            verbose=verbose,
            run=RunWords(
                model=model,
                model_args=model_args,
                prefix=prefix,
                trust=trust,
                data=data,
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
