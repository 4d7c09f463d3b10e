"""What to think of a model in which nothing is wrong, and what nobody looked at."""

from normcheck.norms.anatomy import Anatomy
from normcheck.report.report import ModelReport
from normcheck.report.run_summary import RunSummary
from normcheck.rules.data_verdict import Harm
from normcheck.wording import fold, percent, plural


def reading(model: ModelReport) -> tuple[str, str]:
    """A verdict in a few words, and the sentences below it; the second may be empty."""
    if not model.layers:
        return "Nothing to judge: this model has no normalization layers", ""
    unread = sum(layer.unread for layer in model.layers)
    if unread:
        return "Not judged: running statistics without values", (
            f"The values of {plural(unread, 'layer')} are not there, or cannot be read: the notes "
            "above say why. Nothing is said of statistics that nobody saw."
        )
    stored = sum(layer.mean is not None and layer.variance is not None for layer in model.layers)
    run = model.run
    if run is not None and run.drifts:
        if vouched(model):
            return "Nothing wrong in the file, in its forwards or on your data", _on_data(run)
        return "Nothing wrong in the file; your data leave the statistics open", _on_data(run)
    nothing = (
        "Nothing wrong in what the file can tell"
        if run is None
        else "Nothing wrong in the file or in its forwards"
    )
    if stored:
        return nothing, _statistics(model, stored)
    if all(layer.eval_uses == "its own input" for layer in model.layers):
        return "Nothing here can go stale", (
            "These norms compute from their current input and store no statistics: the same "
            "input gives the same output in train and eval mode."
        )
    return nothing, "The file holds no running statistics that could be judged."


def vouched(model: ModelReport) -> bool:
    """Whether a check mark is earned.

    It is not where statistics are off and nothing tells whether that does harm.
    """
    run = model.run
    if run is None or not run.drifts:
        return True
    open_ends = run.verdict in ("", Harm.UNKNOWN.value)
    return not (open_ends and any(drift.off > 0 for drift in run.drifts))


def folding(anatomy: Anatomy) -> tuple[str, ...]:
    """What an export no longer shows of its batch norms."""
    folded = [path for path, _ in anatomy.folded]
    if folded:
        were = "was" if len(folded) == 1 else "were"
        text = (
            f"{plural(len(folded), 'batch norm')} {were} folded into the weights before "
            f"({fold(folded)}): their statistics can no longer be judged here"
        )
        return (text,)
    if anatomy.exported and not anatomy.layers:
        text = (
            "exporters fold batch norms into the weights before them, and then nothing is left "
            "to judge: compare with the source (normcheck diff SOURCE EXPORT)"
        )
        return (text,)
    return ()


def _on_data(run: RunSummary) -> str:
    off = sum(drift.off > 0 for drift in run.drifts)
    judged = plural(len(run.drifts), "layer")
    if not run.verdict:
        return (
            f"{off} of {judged} differ from the data. What that does to outputs could not be "
            "judged (see the notes)."
        )
    if not off:
        return f"{run.words} No channel of {judged} lies provably outside the data."
    differ = f"{off} of {judged} differ from the data"
    if run.verdict == Harm.NONE.value:
        differ += ", without harm that could be seen"
    return f"{differ}. {run.words}"


def _statistics(model: ModelReport, stored: int) -> str:
    agreement = model.agreement
    last = "Whether they fit your data, only a run on that data (--data) can tell."
    if agreement is None or not agreement.agreeing:
        has = "has" if stored == 1 else "have"
        return (
            f"{plural(stored, 'layer')} {has} running statistics that were collected. Whether "
            f"they belong to the weights could not be judged. {last}"
        )
    count = len(agreement.agreeing)
    rest = stored - count
    others = f" ({plural(rest, 'layer')} could not be judged this way)" if rest else ""
    return (
        f"The running statistics agree with the weights in {plural(count, 'layer')}: the weights "
        f"explain {percent(agreement.explained)} of the stored means, assuming "
        f"{agreement.activation}{others}. {last}"
    )
