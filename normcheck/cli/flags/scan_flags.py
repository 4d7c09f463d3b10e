"""The flags of ``normcheck scan``; its docstring is what ``--help`` says of it."""

from dataclasses import field
from typing import Annotated

from normcheck.cli.flags.exit_flags import Exit
from normcheck.config.flags.flag import Argument, Flag
from normcheck.config.flags.reading_flags import ReadingFlags, Remote, Sharing
from normcheck.config.flags.running_flags import Probing, RunFlags
from normcheck.config.flags.screen_flags import Screen
from normcheck.config.flags.settings_flags import Flags
from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
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
    run: RunFlags = field(default_factory=RunFlags)
    probing: Probing = field(default_factory=Probing)
    dry_run: Annotated[
        bool,
        Flag("Only say what holding the model against --data would cost: passes and time."),
    ] = False
    reading: ReadingFlags = field(default_factory=ReadingFlags)
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
