"""A whole model saved in train mode.

## What it does
Looks at the `training` flags in a saved module tree: are all of its batch norms in train
mode?

## Why is this bad?
A whole saved module comes back in the mode it was saved in. Used without `model.eval()`, its
batch norms normalise with the statistics of whatever batch they are given: predictions
depend on the batch, a batch of one can crash, and every prediction changes the running
statistics. Dropout goes on dropping.

## How severe
A warning where the file holds the module and nothing else, as a file for use does. Info for
a training checkpoint, where train mode is as expected, and for a model that was never trained.

## Stays silent
For models whose norms all compute the same in both modes (LayerNorm, GroupNorm, RMSNorm). For
norms in train mode in a model that is in eval mode itself: that is `mixed-modes`.

## What to do
Call `model.eval()` before saving, and after loading.

## Example
    train(model)
    torch.save(model, "model.pt")  # model.training is True
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.kinds import Family
from normcheck.norms.layer import NormLayer
from normcheck.rules.evidence.signs_of_training import never_trained
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """All mode-dependent norms in train mode."""
    norms = mode_dependent(subject)
    if not norms or not all(n.training for n in norms) or subject.anatomy.training is False:
        return
    for_use = subject.alone and not subject.optimizer_steps and not never_trained(subject)
    yield RULE.finding(
        severity=Severity.WARNING if for_use else Severity.INFO,
        confidence=Confidence.MEDIUM if for_use else Confidence.HIGH,
        layers=norms,
        title=f"the model was saved in train mode, with {_all(len(norms))}",
        detail=(
            f"training is True in {plural(len(norms), 'batch norm layer')}"
            + (", and the file holds nothing but the model." if for_use else ".")
        ),
        consequence=(
            "Loaded and used without model.eval(), predictions depend on the other samples of the "
            "batch, and every prediction changes the running statistics."
        ),
        fix="call model.eval() before torch.save, and in any case after loading",
        evidence=(Evidence("layers in train mode", float(len(norms)), 0.0, len(norms)),),
    )


def _all(count: int) -> str:
    return "its batch norm layer" if count == 1 else f"all {count} batch norm layers"


_OF_INTEGERS = ("torch.ao.nn.quantized.", "torch.nn.quantized.")
"""Where norms of integers are from, which have one mode, whatever flag their conversion left."""


def mode_dependent(subject: Subject) -> tuple[NormLayer, ...]:
    """Registered norms whose result depends on their training flag, where that is known.

    Modules outside the tree are left out: ``train()`` and ``eval()`` do not reach them. So are
    exports, whose modes are part of their operators: ``train-mode-export`` judges those.
    """
    if subject.anatomy.exported:
        return ()
    return tuple(
        n
        for n in subject.batch_norms()
        if n.training is not None
        and not (n.class_path or "").startswith(_OF_INTEGERS)
        and n.reached
        and (n.kind.family is Family.BATCH or n.has_statistics)
        and not n.uninitialised
    )


RULE = Rule(
    code="NC201",
    name="train-mode-in-file",
    summary="a whole module saved in train mode",
    severity=Severity.WARNING,
    need=Need.MODULES,
    page=__doc__ or "",
    check=check,
)
