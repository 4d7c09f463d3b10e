"""What to think of a model in which nothing is wrong, and what nobody looked at."""

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.anatomy import Anatomy
from normcheck.report.certificate import certificate_for, sentences
from normcheck.report.report import AS_CREATED, OWN_INPUT, ModelReport
from normcheck.report.run_summary import RunSummary
from normcheck.rules.catalogue import RULES
from normcheck.rules.harm import Harm
from normcheck.saved.checkpoint import Form
from normcheck.wording import fold, part, percent, plural


@lazy_dataclass()
class HealthyReading:
    """A verdict in a few words, and the sentences below it."""

    title: str
    text: str
    """May be empty."""
    earned: bool
    """Whether a check mark stands before it."""


def reading(model: ModelReport) -> HealthyReading:
    """What may be said of a model in which nothing loud was found."""
    if not model.layers:
        nothing = "Nothing to judge: no normalization layers"
        if model.form == Form.STATE_DICT:
            # InstanceNorm and LayerNorm without affine parameters leave no trace in one.
            nothing += " with parameters or statistics in this file"
        return HealthyReading(nothing, "", earned=False)
    certificate = certificate_for(model)
    run = model.run
    if model.run_failed:
        title = "The run failed; nothing wrong in what the file alone can tell"
        said = [_UNRUN, *sentences(certificate), *filter(None, [_left_out(model)])]
        return HealthyReading(title, " ".join(said), earned=False)
    said = sentences(certificate)
    left_out = _left_out(model)
    if left_out:
        said.append(left_out)
    on_data = run is not None and run.drifts
    if not certificate.earned and run is not None and on_data:
        title, why = _left_open(run)
        return HealthyReading(title, " ".join([_on_data(run), *why, *said]), earned=False)
    whys = {group.why for group in (*certificate.vouched, *certificate.untold)}
    if not certificate.earned and whys == {AS_CREATED}:
        title = "Nothing to judge yet: these norms were never trained or run"
        return HealthyReading(title, " ".join([*said, _NOT_YET]), earned=False)
    if not certificate.earned:
        title = "Nothing found, but too little speaks for these layers"
        stored = any(
            layer.mean is not None and layer.variance is not None for layer in model.layers
        )
        if stored and not left_out:
            said.append(_RUN_CODE if model.form == Form.STATE_DICT and run is None else _RUN)
        return HealthyReading(title, " ".join(said), earned=False)
    if run is not None and on_data:
        title, but = _of_norms_alone(run)
        return HealthyReading(title, " ".join([*but, _on_data(run), *said]), earned=True)
    if all(layer.eval_uses == OWN_INPUT for layer in model.layers) and not certificate.untold:
        text = (
            "These norms compute from their current input and store no statistics: the same "
            "input gives the same output in train and eval mode."
        )
        title = "Nothing here can go stale"
        return HealthyReading(title, " ".join(filter(None, [text, left_out])), earned=True)
    if _has_statistics(model):
        said.append(_ON_MORE if run is not None and run.fed.real and not run.dry else _ON_DATA)
    if model.rules and all(code.startswith("NC7") for code in model.rules):
        return HealthyReading(
            "Nothing wrong in the training that was watched", " ".join(said), earned=True
        )
    title = (
        "Nothing wrong in what the file can tell"
        if run is None
        else "Nothing wrong in the file or in its forwards"
    )
    return HealthyReading(title, " ".join(said), earned=True)


_UNRUN = "What the run was to tell is open until it works: the error says what stopped it."
_ON_DATA = "Whether they fit your data, only a run on that data (--data) can tell."
_RUN = "A run on data like its training data can tell (--data)."
_RUN_CODE = "A run on data like its training data can tell (--model for its code, and --data)."
_NOT_YET = "If this file should hold a trained model, look for its weights elsewhere."
_ON_MORE = "Whether they fit your data, so few samples cannot tell: give more."


_TRAINED_ON = (
    "Weights that were trained on with these statistics standing still look like this: fine-tuned "
    "with frozen norms, or trained in eval mode to the end."
)
_AS_MIXED = (
    "Statistics of one class differ from those of all: give samples as mixed as the training's."
)
_HALF = 0.5
"""Share of what guessing gets wrong that a model has to get right for its answers to pass without a
word: whatever the task, more is wrong below it than right, guesses apart."""


def _left_open(run: RunSummary) -> tuple[str, list[str]]:
    """The title where data do not show that statistics are well, and what leaves that open."""
    if run.one_class:
        title = "Nothing wrong in the file; data of one class leave the statistics open"
        return title, [_AS_MIXED]
    if run.verdict == Harm.STORED_RIGHT.value and run.labels_decide:
        title = "Nothing wrong in the file; your labels speak for the stored statistics"
        return title, [_TRAINED_ON]
    return "Nothing wrong in the file; your data leave the statistics open", []


def _of_norms_alone(run: RunSummary) -> tuple[str, list[str]]:
    """The title of a model whose norms are well on the user's data, and what they cannot explain.

    A mark for norms is none for the model: how often it is right stands beside it.
    """
    title = "Nothing wrong with the norms: in the file, in its forwards or on your data"
    if run.right is None:
        return title, []
    if run.right - run.chance >= _HALF * (1 - run.chance):
        return f"{title} (accuracy {percent(run.right)})", []
    title = f"Nothing wrong with the norms, yet {percent(1 - run.right)} of the answers are wrong"
    return title, [_ELSEWHERE]


_ELSEWHERE = (
    "No other statistics would help these answers: if they should be better, look at the weights "
    "(the right checkpoint, trained long enough, averages that caught up), the order of the "
    "classes and the preprocessing."
)


def _has_statistics(model: ModelReport) -> bool:
    return any(layer.mean is not None and layer.variance is not None for layer in model.layers)


def _left_out(model: ModelReport) -> str:
    """How many rules there are beside those that ran, where somebody left some out."""
    everything = sum(rule.need.scanned for rule in RULES)
    if len(model.rules) >= everything:
        return ""
    return f"{model.ran} of {plural(everything, 'rule')} ran."


def folding(anatomy: Anatomy) -> tuple[str, ...]:
    """What an export no longer shows of its batch norms."""
    folded = [path for path, _ in anatomy.folded]
    unused = anatomy.unused_statistics
    if unused:
        text = (
            f"running statistics of {plural(len(unused), 'batch norm')} are stored and used by no "
            f"operator ({fold(unused)}): folded into the weights before them, or never reached; "
            "compare with the source (normcheck diff SOURCE EXPORT)"
        )
        return (text,)
    if folded:
        were, their = ("was", "its") if len(folded) == 1 else ("were", "their")
        named = [path for path in folded if path]  # some exporters keep no word of the module
        where = f" ({fold(named)})" if named else ""
        text = (
            f"{plural(len(folded), 'batch norm')} {were} folded into the weights before"
            f"{where}: {their} statistics can no longer be judged here"
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
    judged = len(run.drifts)
    differ = f"{part(off, judged, 'layer', 'differs', 'differ')} from the data"
    if not run.verdict:
        return f"{differ}. What that does to outputs could not be judged (see the notes)."
    if not off:
        return (
            f"{run.words} No channel of {plural(judged, 'layer')} lies provably outside the data."
        )
    if run.verdict == Harm.NONE.value:
        differ += ", without harm that could be seen"
    return f"{differ}. {run.words}"
