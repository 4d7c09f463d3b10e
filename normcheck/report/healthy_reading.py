"""What to think of a model in which nothing is wrong, and what nobody looked at."""

from normcheck.norms.anatomy import Anatomy
from normcheck.report.report import ModelReport
from normcheck.report.run_summary import RunSummary
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
        return "Nothing wrong in the file, in its forwards or on your data", _on_data(run)
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
    given = next((r for r in run.regimes if r.name == "re-estimated"), None)
    changed = ""
    if given is not None and given.flips is not None:
        changed = f"{percent(given.flips)} of the predictions change under re-estimated statistics"
    elif given is not None:
        changed = f"Outputs change by {percent(given.difference)} under re-estimated statistics"
    stored = next((r for r in run.regimes if r.name == "eval"), None)
    if off and given and stored and given.accuracy is not None and stored.accuracy is not None:
        state = (
            f"{off} of {judged} differ from the data, and accuracy speaks for the stored "
            f"statistics: {percent(stored.accuracy)} against {percent(given.accuracy)}."
        )
    elif off:
        state = f"{off} of {judged} differ from the data, without harm that could be seen."
    else:
        state = f"no channel of {judged} lies provably outside the data."
    return f"{changed}; {state}" if changed else state.capitalize()


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
