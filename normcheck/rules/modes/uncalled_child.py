"""A layer inside a norm of torch's own class, which that class never calls.

## What it does
Looks into norms of torch's own classes (`torch.nn.BatchNorm2d`, `torch.nn.SyncBatchNorm`, …) for
child modules that do something: an activation, a dropout, a convolution. Their `forward` calls no
child.

## Why is this bad?
A class of one's own that normalises and then activates (`BatchNormAct2d`) became torch's own when
it was converted: `convert_sync_batchnorm` rebuilds every BatchNorm as a bare SyncBatchNorm and
takes the children along, and so do tools that swap layers. The activation is still in the file,
and no longer in the computation.

## How severe
A warning: nothing in torch's class can run these children. A hook could, which a file does not
show.

## Stays silent
- for subclasses, whose `forward` is their own and may call what it has;
- for children that pass their input through (`nn.Identity`);
- for observers of torch's quantisation, which a hook calls.

## What to do
Convert with the library's own function (timm has `convert_sync_batchnorm`), or put the activation
behind the norm as a module of its own. A model that was trained this way was trained without it.

## Example
    model = nn.SyncBatchNorm.convert_sync_batchnorm(timm_model)  # BatchNormAct2d loses its act
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """All norms with such children, as one finding: one conversion made them."""
    idle = subject.anatomy.uncalled_children
    if not idle:
        return
    norms = tuple(dict.fromkeys(norm for norm, _, _ in idle))
    classes = sorted({name for _, _, name in idle})
    names = sorted({path.rpartition(".")[2] for _, path, _ in idle})
    by_path = {layer.path: layer for layer in subject.layers}
    own = sorted({(by_path[p].class_path or "").rpartition(".")[2] for p in norms if p in by_path})
    yield RULE.finding(
        confidence=Confidence.HIGH,
        layers=norms,
        title=f"{plural(len(norms), 'norm layer')} with a child that is never called",
        detail=(
            f"Their child {', '.join(map(repr, names))} ({', '.join(classes)}) is registered, but "
            f"they are of torch's own class {', '.join(own)}, whose forward calls none. A "
            "conversion replaced a class that did."
        ),
        consequence="The model computes without these layers: it is not the one that was built.",
        fix=(
            "convert with the library's own function, or put the child behind the norm as a module "
            "of its own"
        ),
        evidence=(Evidence("children never called", float(len(idle)), 0.0, len(norms)),),
    )


RULE = Rule(
    code="NC213",
    name="uncalled-child",
    summary="a layer inside a norm of torch's own class, which never calls it",
    severity=Severity.WARNING,
    need=Need.MODULES,
    page=__doc__ or "",
    check=check,
)
