"""Running statistics in plain attributes instead of buffers.

## What it does
Finds modules that keep `running_mean` or `running_var` as plain tensor attributes, not
registered with `register_buffer`.

## Why is this bad?
A plain attribute is in no `state_dict()`, so it is lost when the model is saved that way and
loaded elsewhere: eval mode then uses the initial values. It is also not moved by `.to()`,
not averaged, and not synchronised between processes.

## How severe
A warning: this file still has the statistics, the next state dict will not.

## Stays silent
- for buffers that are registered, also those that are not persistent: the class says so itself;
- for tensors of other names in plain attributes.

## What to do
Register it: `self.register_buffer("running_mean", torch.zeros(n))`. Files saved before that
have no statistics in their state dicts: re-estimate them.

## Example
    class MyNorm(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.running_mean = torch.zeros(n)  # not a buffer
"""

from collections.abc import Iterator

from normcheck.findings import Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """Layers with statistics outside their buffers."""
    hit = [n for n in subject.layers if n.unregistered]
    if not hit:
        return
    names = sorted({name for n in hit for name in n.unregistered})
    yield RULE.finding(
        layers=hit,
        title=(f"running statistics are no buffers in {plural(len(hit), 'layer')}"),
        detail=f"{', '.join(names)} are plain attributes of {hit[0].class_path or 'the module'}.",
        consequence=(
            "state_dict() leaves them out: a model restored from it uses initial statistics in "
            "eval mode, and its predictions are wrong."
        ),
        fix='register them: self.register_buffer("running_mean", …)',
    )


RULE = Rule(
    code="NC112",
    name="unregistered-stats",
    summary="running statistics kept outside buffers",
    severity=Severity.WARNING,
    need=Need.MODULES,
    page=__doc__ or "",
    check=check,
)
