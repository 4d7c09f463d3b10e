"""The flags of ``normcheck diff``; its docstring is what ``--help`` says of it."""

from dataclasses import field
from typing import Annotated

from normcheck.cli.flags.exit_flags import Exit
from normcheck.config.flags.flag import Argument, Flag
from normcheck.config.flags.reading_flags import ReadingFlags, Remote
from normcheck.config.flags.running_flags import Probing, RunFlags
from normcheck.config.flags.screen_flags import Screen
from normcheck.config.flags.settings_flags import Flags
from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class Diff:
    """Say what moved between checkpoints of one run, or between ranks, layer by layer.

    Of a model and its export (TorchScript, torch.export, ONNX) it says whether they hold the same
    numbers, and with --data or --run whether they give the same outputs.

    --model names what builds both models; with a comma one for each: --model ours:Net,port:Net.

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
    run: RunFlags = field(default_factory=RunFlags)
    probing: Probing = field(default_factory=Probing)
    reading: ReadingFlags = field(default_factory=ReadingFlags)
    remote: Remote = field(default_factory=Remote)
    screen: Screen = field(default_factory=Screen)
