"""The flags of ``normcheck fix``; its docstring is what ``--help`` says of it."""

from dataclasses import field
from typing import Annotated

from normcheck.config.flags.flag import Argument, Flag
from normcheck.config.flags.reading_flags import ReadingFlags
from normcheck.config.flags.running_flags import RunFlags
from normcheck.config.flags.screen_flags import Screen
from normcheck.config.flags.settings_flags import Configuration
from normcheck.lazy_dataclass import lazy_dataclass

FORMS = ("text", "html")
"""Forms of the report that tell of a repair."""


@lazy_dataclass()
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
    run: RunFlags = field(default_factory=RunFlags)
    holdout: Annotated[
        str,
        Flag(
            "Data to judge the result on. Default: each sample, by statistics of all the others.",
            metavar="DATA",
        ),
    ] = ""
    without_data: Annotated[
        bool,
        Flag(
            "Emergency repair of image networks whose statistics are lost or of other weights: "
            "estimate them on smooth random fields."
        ),
    ] = False
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
    formats: Annotated[
        tuple[str, ...],
        Flag(
            f"What is said of the repair, as {' or '.join(FORMS)}. Default: text. "
            "May be repeated, each with its own --report.",
            names=("--format",),
            short="-f",
            metavar="FORMAT",
            choices=FORMS,
        ),
    ] = ()
    report: Annotated[
        tuple[str, ...],
        Flag("Write what is said to this file. Default: stdout (-).", metavar="FILE"),
    ] = ()
    configuration: Configuration = field(default_factory=Configuration)
    reading: ReadingFlags = field(default_factory=ReadingFlags)
    screen: Screen = field(default_factory=Screen)
