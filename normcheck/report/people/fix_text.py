"""A repair for people: what was done, what it changed, and where the result is."""

import io
from collections.abc import Iterator

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from normcheck.repair.repair_result import Emergency, Estimated, ModelRepair, Repair, Written
from normcheck.report.people.console import PROSE, console_for, finished
from normcheck.report.people.run_text import outputs_table
from normcheck.report.people.text_style import TextStyle
from normcheck.wording import fold, number, percent, plural, printable

_SHOWN = 8
"""Layers that are listed without -v."""


def render_fix_text(result: Repair, style: TextStyle) -> str:
    """The repair as text, the answer first."""
    out = io.StringIO()
    console = console_for(out, style.width, color=style.color)
    _answer(console, result)
    for model in result.models:
        under = f" under '{printable(model.where)}'" if model.where else ""
        if under and (len(result.models) > 1 or "--where" in result.asked):
            console.print()
            console.print(Text(f"the model{under}", style="bold"))
        _model(console, model, style)
    return finished(out)


def _answer(console: Console, result: Repair) -> None:
    target = printable(result.target)
    written = result.written
    if written is None:
        line = Text("✖ ", style="bold red").append("Refused: nothing was written", style="bold")
        console.print(line)
        for model in result.models:
            for reason in model.objections:
                _paragraph(console, f"{reason[:1].upper()}{reason[1:]}.")
        _paragraph(console, "--force writes it all the same.")
        return
    mark = Text("✓ ", style="bold green")
    console.print(mark.append(f"{target} → {printable(written.path)}", style="bold"))
    _paragraph(console, _bytes(result, written))
    if written.backup:
        _paragraph(console, f"The file as it was is {printable(written.backup)}.")
    for model in result.models:
        for reason in model.objections:
            _paragraph(console, f"Forced, although {reason}.")


def _bytes(result: Repair, written: Written) -> str:
    if written.anew:
        return (
            f"A new {result.format} of {plural(written.size, 'byte')}: {written.anew}. All other "
            "tensors are as they were."
        )
    sums = " and the checksums of these" if result.format.startswith("torch zip") else ""
    return (
        f"{plural(written.changed, 'byte')} of {written.size:,} changed{sums}; all others are "
        "those of the input."
    )


def _model(console: Console, model: ModelRepair, style: TextStyle) -> None:
    for text in model.done:
        _paragraph(console, f"{text[:1].upper()}{text[1:]}.")
    for note in model.notes:
        _paragraph(console, f"note: {note}")
    if model.estimated is not None:
        _estimated(console, model.estimated, style)


def _estimated(console: Console, found: Estimated, style: TextStyle) -> None:
    if found.emergency is not None:
        _paragraph(console, rests_on(found, found.emergency))
    _paragraph(
        console,
        f"running_mean and running_var of {plural(len(found.layers), 'layer')} "
        f"({fold([layer.path for layer in found.layers])}) re-estimated from "
        f"{plural(found.samples, 'sample')} of {found.source} ({found.shapes}), {found.device}. "
        f"After {plural(found.passes, 'pass')} they reproduce themselves in eval mode to "
        f"{found.residual:.1g} standard deviations.",
    )
    console.print()
    for line in outputs_table((found.proof.before, found.proof.after)):
        console.print(line)
    console.print(Text(f"  judged by {printable(found.proof.judged_by)}", style="dim"))
    console.print()
    for line in _layers(found, style):
        console.print(line)


def rests_on(found: Estimated, emergency: Emergency) -> str:
    """What an estimate without data is worth."""
    fields = (
        f"fitted to what {emergency.fitted_to} has stored"
        if emergency.fitted_to
        else "as images usually are, as no first norm tells how those of the training were"
    )
    flips = found.proof.after.flips
    changed = f" {percent(flips)} of the decisions on such fields changed." if flips else ""
    part = (
        f" Of {fold(emergency.in_part)} only the channels are replaced whose statistics cannot be."
        if emergency.in_part
        else ""
    )
    if emergency.vouched:
        part += (
            f" {fold(emergency.vouched)} stay: such fields give the means that are stored there."
        )
    return (
        f"AN EMERGENCY REPAIR, from no data. Known from the file: {emergency.reasons}. The new "
        "statistics rest on smooth random fields instead of images, neighbours correlated by "
        f"{number(emergency.correlation)}, {fields}.{_guess(found, emergency)}{part}{changed} "
        "Part of the accuracy stays lost: repair the original again as soon as there are data "
        "(--data)."
    )


def _guess(found: Estimated, emergency: Emergency) -> str:
    """That the size of the images was not given, and what another one would need."""
    if emergency.guessed_from is None:
        return ""
    by = emergency.guessed_from or "trial alone: no layer, file or attribute speaks of one"
    return (
        f" Their size, {found.shapes}, is a guess from {by}; if the training had another, say so "
        "with --input-shape."
    )


def _layers(found: Estimated, style: TextStyle) -> Iterator[Text]:
    shown = found.layers if style.verbose else found.layers[:_SHOWN]
    width = max(len("layer"), *(len(printable(layer.path)) for layer in shown))
    yield Text(f"  {'layer':<{width}}  {'mean moved by':>14}  {'variance times':>14}", style="dim")
    for layer in shown:
        yield Text(
            f"  {printable(layer.path):<{width}}  {f'{number(layer.shift)} sd':>14}  "
            f"{number(layer.factor):>14}"
        )
    if len(found.layers) > len(shown):
        yield Text(f"  … {len(found.layers) - len(shown)} more (-v shows them)", style="dim")


def _paragraph(console: Console, text: str) -> None:
    width = min(console.width, PROSE)
    console.print(Padding(Text(printable(text)), (0, 0, 0, 2)), width=width)
