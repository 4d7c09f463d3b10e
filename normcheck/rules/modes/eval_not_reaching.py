"""Modules that stay in train mode after `model.eval()`.

## What it does
Calls `model.eval()`, then looks at every module that the model can call: registered ones, and
those in plain lists, dictionaries, closures and attributes of other objects, and any that a
forward really calls. Batch norms and dropouts that are still in train mode are named.

## Why is this bad?
`eval()` sets the flag of registered modules only. A batch norm that it does not reach goes on
normalising by the batch, and goes on changing its statistics; a dropout goes on dropping. The
model looks as if it were in eval mode and predicts at random, or by its batch mates. Such
modules are in no state dict either, so their statistics are lost when it is saved.

## How severe
An error where the module ran; a warning where it did not in the forwards that were tried.
Layer norms in train mode are not named: their modes do not differ.

## Stays silent
- for norms whose modes do not differ: LayerNorm, GroupNorm, RMSNorm;
- for unregistered modules that are in eval mode all the same, as their owner put them there.

## What to do
Register the modules: `nn.ModuleList` instead of a list, `nn.ModuleDict` instead of a dict, an
attribute instead of a closure. Where a class overrides `train`, let it call
`super().train(mode)` and return `self`.

## Example
    self.norms = [nn.BatchNorm2d(64) for _ in range(4)]              # eval() does not see them
    self.norms = nn.ModuleList(nn.BatchNorm2d(64) for _ in range(4))  # it does
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.findings import Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, mechanics_of
from normcheck.wording import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normcheck.live.measurement import StillTraining


def check(subject: Subject) -> Iterator[Finding]:
    """All of them in one finding; those that ran decide how severe it is."""
    still = [s for s in mechanics_of(subject).still_training if s.kind != "model"]
    if not still:
        return
    hidden = [s for s in still if not s.registered]
    refusing = [s for s in still if s.registered]
    ran = any(s.ran for s in still)
    kinds = sorted({s.class_name for s in still})
    detail = []
    if hidden:
        detail.append(
            f"{_they(hidden)} in no registered attribute (a plain list or dict, a closure, made "
            "anew in forward), where "
            "eval() and state_dict() do not look."
        )
    if refusing:
        detail.append(
            f"{_they(refusing)} registered, but {'its' if len(refusing) == 1 else 'their'} class "
            "or a parent overrides train()."
        )
    norms = [s for s in still if s.kind == "norm"]
    effects = []
    if norms:
        effects.append("normalise by the batch, so that predictions depend on the batch mates")
    if len(norms) < len(still):
        effects.append("drop at random, so that predictions change from call to call")
    fixes = []
    if hidden:
        fixes.append("register them: nn.ModuleList, nn.ModuleDict or an attribute")
    if refusing:
        fixes.append("let train() call super().train(mode)")
    yield RULE.finding(
        severity=Severity.ERROR if ran else Severity.WARNING,
        layers=[s.path for s in still],
        title=f"eval() leaves {plural(len(still), 'module')} in train mode ({', '.join(kinds)})",
        detail=" ".join(detail) + ("" if ran else " None of them ran in the forwards tried."),
        consequence=f"In eval mode they still {' and '.join(effects)}.",
        fix="; ".join(fixes),
        evidence=(Evidence("modules in train mode after eval()", float(len(still)), 0.0),),
    )


def _they(modules: list[StillTraining]) -> str:
    return (
        "It sits"
        if len(modules) == 1 and not modules[0].registered
        else ("It is" if len(modules) == 1 else f"{len(modules)} of them are")
    )


RULE = Rule(
    code="NC203",
    name="eval-not-reaching",
    summary="norms or dropouts that eval() leaves in train mode",
    severity=Severity.ERROR,
    need=Need.RUN,
    page=__doc__ or "",
    check=check,
)
