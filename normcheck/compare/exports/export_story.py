"""An export beside its source, in a few words."""

from collections.abc import Iterator

from normcheck.compare.exports.export_match import ExportMatch, Fate, WeightFate
from normcheck.live.output_match import OutputMatch
from normcheck.wording import fold, percent, plural


def match_story(match: ExportMatch, holder: str = "The export") -> str:
    """One line on the numbers, and one on the outputs where they were compared.

    Args:
        match: What is told of.
        holder: What the second file is called.
    """
    gone = match.of(Fate.DROPPED, Fate.LEFT_OUT)
    wrong = [norm for norm in match.wrong if norm not in gone]
    kept, folded = match.of(Fate.KEPT), match.of(Fate.FOLDED)
    parts = []
    if kept:
        parts.append(f"{plural(len(kept), 'norm')} with the same numbers")
    if folded:
        parts.append(f"{len(folded)} folded into the weights before, as their numbers say")
    if match.renamed:
        same = sum(w.fate is WeightFate.SAME and w.by_numbers for w in match.weights)
        parts.append(f"{plural(same, 'weight tensor')} under another name")
    if match.joined:
        joined = plural(len(match.joined), "tensor")
        parts.append(f"{joined} joined or taken apart, as their rows say")
    if wrong:
        parts.append(f"{len(wrong)} with other numbers")
    if gone:
        parts.append(f"{len(gone)} left out")
    if match.other_weights:
        parts.append(f"{plural(len(match.other_weights), 'other tensor')} with other numbers")
    lost = match.of(Fate.NOT_FOUND)
    if lost:
        parts.append(f"{len(lost)} not found")
    if parts:
        numbers = f"{holder} holds {_listed(parts)}"
    elif match.only_in_export:
        own = plural(len(match.only_in_export), "norm")
        numbers = f"{holder} has {own} of which the source shows nothing"
    else:
        numbers = "There are no norms to compare"
    training = (
        f"; {plural(len(match.in_training), 'operator')} in training mode"
        if match.in_training
        else ""
    )
    return f"{numbers}{training}.{outputs_story(match.outputs, match.not_run)}"


def match_notes(match: ExportMatch) -> Iterator[str]:
    """What the line leaves out: in which order weights were joined, and what was not compared."""
    orders: dict[str, list[str]] = {}
    for weight in match.joined:
        if weight.name.endswith("weight"):
            orders.setdefault(weight.order, []).append(weight.name)
    for order, names in orders.items():
        many = "tensors of weights lie" if len(names) > 1 else "tensor of weights lies"
        yield f"{len(names)} {many} in fewer or more of the other file, {order}: {fold(names)}"
    scaled = match.scaled_weights
    if scaled:
        verb = "has" if len(scaled) == 1 else "have"
        yield f"{fold(scaled)} {verb} a factor for each output or input: nothing proves it"
    lost = match.lost_weights
    if lost:
        were = "was" if len(lost) == 1 else "were"
        yield f"{fold(lost)} {were} not found in the other file: not compared"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def outputs_story(outputs: OutputMatch | None, not_run: str) -> str:
    """A sentence on outputs, with a space before it; empty where they were not asked for."""
    if outputs is None:
        return f" Outputs were not compared: {not_run}." if not_run else ""
    if outputs.differ:
        first = f", first in {outputs.first_apart}" if outputs.first_apart else ""
        return f" Outputs differ by {_share(outputs)}{first}."
    on = f" Outputs agree on {plural(outputs.samples, 'sample')}"
    if outputs.difference == 0:
        return f"{on}, to the last bit."
    return f"{on}: they differ by {_share(outputs)}."


def _share(outputs: OutputMatch) -> str:
    small = outputs.difference < 1e-4
    share = f"{outputs.difference:.1e} of their length" if small else percent(outputs.difference)
    if outputs.flips is None or outputs.exchanged is not None:
        return share  # decisions have a table of their own, of more samples
    return f"{share}, {percent(outputs.flips)} of the decisions"
