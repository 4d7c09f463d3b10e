"""Some norms in train mode, others in eval mode.

## What it does
Looks at the `training` flags in a saved module tree. Where the model itself is in eval mode
but some or all of its batch norms are in train mode, `eval()` did not reach them, or
something switched them back.

## Why is this bad?
The layers in train mode normalise with the statistics of the batch they are given, and
change their running statistics at every prediction. Predictions depend on the other samples
of the batch.

## How severe
A warning where the model is in eval mode and some norms are not. Info where the model is in
train mode and some norms are in eval mode: that is how a part is frozen.

## Stays silent
- as a warning, for a model in train mode with norms in eval mode: a frozen part;
- where all batch norms and the model are in the same mode (`train-mode-in-file`).

## What to do
Call `model.eval()` on the whole model, as the last thing before saving. Look for overridden
`train` methods and for code that calls `.train()` on parts.

## Example
    model.eval()
    model.head.train()  # left over from fine-tuning
    torch.save(model, "model.pt")
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.modes.train_mode_in_file import mode_dependent
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """Norms whose flag is not that of the others."""
    norms = mode_dependent(subject)
    training = [n for n in norms if n.training]
    evaluating = [n for n in norms if not n.training]
    root_in_eval = subject.anatomy.training is False
    if not training or not (evaluating or root_in_eval):
        return
    if not root_in_eval:
        yield RULE.finding(
            severity=Severity.INFO,
            confidence=Confidence.MEDIUM,
            layers=evaluating,
            title=(
                f"{plural(len(evaluating), 'batch norm layer')} of a model in train mode "
                f"{'is' if len(evaluating) == 1 else 'are'} in eval mode"
            ),
            detail=f"The other {len(training)} are in train mode, as the model is.",
            consequence="Their statistics stand still: the usual way to freeze a part.",
            fix="nothing, if these layers were meant to be frozen",
            discriminator="frozen",
        )
        return
    yield RULE.finding(
        layers=training,
        title=(
            f"{plural(len(training), 'batch norm layer')} of a model in eval mode "
            f"{'is' if len(training) == 1 else 'are'} in train mode"
        ),
        detail=(
            f"The model and {plural(len(evaluating), 'other batch norm layer')} are in eval mode."
            if evaluating
            else "The model itself is in eval mode; none of its batch norm layers is."
        ),
        consequence=(
            "These layers use the statistics of the batch they are given: predictions depend on "
            "the other samples in it, and change the running statistics."
        ),
        fix="call model.eval() on the whole model before saving, and after loading",
        evidence=(Evidence("layers in train mode", float(len(training)), 0.0, len(norms)),),
        discriminator="left in train",
    )


RULE = Rule(
    code="NC202",
    name="mixed-modes",
    summary="some norms in train mode, others in eval mode",
    severity=Severity.WARNING,
    need=Need.MODULES,
    page=__doc__ or "",
    check=check,
)
