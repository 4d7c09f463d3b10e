"""The commands that have many flags: each is made of groups, and of what it alone has.

The docstring of a command is what ``--help`` says of it.
"""

from dataclasses import dataclass, field
from typing import Annotated

from normcheck.config.flags.flag import Argument, Flag
from normcheck.config.flags.reading_flags import Reading, Remote, Sharing
from normcheck.config.flags.running_flags import Probing, Run
from normcheck.config.flags.screen_flags import Screen
from normcheck.config.flags.settings_flags import Configuration, Flags


@dataclass(frozen=True, slots=True)
class Exit:
    """What the exit code says."""

    exit_zero: Annotated[bool, Flag("Exit with 0 even if there are findings.", short="-e")] = False


@dataclass(frozen=True, slots=True)
class Scan:
    """Scan saved models and say what is wrong with their normalization layers.

    Exit codes: 0 nothing found, 1 findings, 2 something could not be read or done, 3 no
    checkpoint under the targets.

    NORMCHECK_CONFIG, NORMCHECK_FAIL_ON, NORMCHECK_FORMAT and NORMCHECK_OUTPUT_FILE stand for
    the flags of their names.
    """

    targets: Annotated[
        tuple[str, ...],
        Argument("TARGET", "Checkpoint files, folders (searched for checkpoints) or patterns."),
    ] = ()
    flags: Flags = field(default_factory=Flags)
    write_baseline: Annotated[
        bool, Flag("Write all findings to the --baseline file (default: normcheck-baseline.json).")
    ] = False
    exit: Exit = field(default_factory=Exit)
    run: Run = field(default_factory=Run)
    probing: Probing = field(default_factory=Probing)
    reading: Reading = field(default_factory=Reading)
    remote: Remote = field(default_factory=Remote)
    weights_budget: Annotated[
        str,
        Flag(
            "Weights to read per model to judge whether statistics belong to them. Default: "
            "256M; for remote files 64M.",
            metavar="SIZE",
        ),
    ] = ""
    sharing: Sharing = field(default_factory=Sharing)
    show_settings: Annotated[
        bool, Flag("Print the settings in force and where each comes from, then exit.")
    ] = False
    statistics: Annotated[bool, Flag("Count findings by rule instead of showing them.")] = False
    plot: Annotated[
        str,
        Flag(
            "Plot predicted against stored means, one panel per layer (png, svg, pdf).",
            metavar="FILE",
        ),
    ] = ""
    screen: Screen = field(default_factory=Screen)


@dataclass(frozen=True, slots=True)
class Diff:
    """Say what moved between checkpoints of one run, or between ranks, layer by layer.

    Of a model and its export (TorchScript, torch.export, ONNX) it says whether they hold the same
    numbers, and with --data or --run whether they give the same outputs.

    --where once names a model for all files; given once for each file, it names one in each.

    Exit codes: 0 nothing found, 1 findings, 2 something could not be read or done.
    """

    targets: Annotated[
        tuple[str, ...],
        Argument(
            "OLD NEW",
            "Checkpoints of one model, in the order in which they came about: two or more.",
        ),
    ]
    ranks: Annotated[
        bool, Flag("The files are ranks of one step: hold each against the first.")
    ] = False
    flags: Flags = field(default_factory=Flags)
    exit: Exit = field(default_factory=Exit)
    run: Run = field(default_factory=Run)
    probing: Probing = field(default_factory=Probing)
    reading: Reading = field(default_factory=Reading)
    remote: Remote = field(default_factory=Remote)
    screen: Screen = field(default_factory=Screen)


@dataclass(frozen=True, slots=True)
class Fix:
    """Re-estimate running statistics from data and write a repaired copy, if it helps.

    The copy is the file byte for byte but for the repaired values and their checksums. It is
    written only where samples that the estimate did not see are predicted no worse.

    --run takes model and data from the configuration; --where all repairs every model of a file.

    Exit codes: 0 written, 1 refused (nothing is written, the reason is said), 2 could not be
    done.
    """

    target: Annotated[str, Argument("MODEL", "A checkpoint file.")]
    output: Annotated[
        str,
        Flag(
            "Where the repaired copy goes (- is stdout); never an existing file.",
            short="-o",
            metavar="FILE",
        ),
    ] = ""
    in_place: Annotated[
        bool, Flag("Replace the file itself, keeping the original as FILE.bak.")
    ] = False
    force: Annotated[bool, Flag("Write the copy even if it would be refused.")] = False
    run: Run = field(default_factory=Run)
    holdout: Annotated[
        str,
        Flag(
            "Data to judge the result on. Default: each half of --data judges the other.",
            metavar="DATA",
        ),
    ] = ""
    modes: Annotated[
        str, Flag("Set all training flags of a whole module to eval mode.", choices=("eval",))
    ] = ""
    counts: Annotated[bool, Flag("Repair damaged batch counts.")] = False
    unwarm: Annotated[
        bool,
        Flag(
            "Remove what is left of the initial value from the statistics, using batch count and "
            "momentum; needs no data."
        ),
    ] = False
    momentum: Annotated[
        float | None, Flag("Momentum for --unwarm, if the file does not say.", metavar="M")
    ] = None
    configuration: Configuration = field(default_factory=Configuration)
    reading: Reading = field(default_factory=Reading)
    screen: Screen = field(default_factory=Screen)


COMMANDS: dict[str, type[Scan] | type[Diff] | type[Fix]] = {
    "scan": Scan,
    "diff": Diff,
    "fix": Fix,
}
