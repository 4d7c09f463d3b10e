"""What a report may say for a model: derived from what was judged, layer by layer.

Every sentence of praise in every output comes from here, and every mark. Nothing is said of
statistics that were not looked at.
"""

from collections.abc import Iterable, Sequence

from normcheck.lazy_dataclass import lazy_dataclass, replace
from normcheck.often_made import often_made
from normcheck.report.report import LayerSummary, ModelReport, Standing
from normcheck.wording import percent, plural

ENOUGH = 1 / 3
"""Share of the channels that must be vouched for before a model gets a check mark, of norms with
statistics where it has any: layer norms beside them say nothing of these. The layers of a file
share its history: what happens to one copy of a model's statistics happens to most of them.
Links inside blocks reach half of the norms of a ResNet, and more of most others."""

_KEPT = "_certificate"
"""Where a report keeps its own. What is replaced in it makes another report, without one, unless
:func:`with_layers` hands it on."""


@often_made()
class AlikeLayers:
    """Layers that stand the same way for the same reason."""

    why: str
    layers: tuple[str, ...]
    channels: int
    stored: bool = True
    """Whether they store, or should store, statistics that can go stale."""


@lazy_dataclass()
class Certificate:
    """How the layers of one model stand."""

    vouched: tuple[AlikeLayers, ...]
    accused: tuple[AlikeLayers, ...]
    untold: tuple[AlikeLayers, ...]
    unfinished: bool = False
    """Whether a run that was to tell more failed."""

    @property
    def earned(self) -> bool:
        """Whether a check mark is: nothing is accused, and enough is vouched for."""
        if self.unfinished or self.accused:
            return False
        vouched, untold = (
            sum(_weight(group) for group in groups if group.stored)
            for groups in (self.vouched, self.untold)
        )
        if not vouched + untold:
            return bool(self.vouched)
        return vouched >= ENOUGH * (vouched + untold)

    def share(self, *parts: tuple[AlikeLayers, ...]) -> float:
        """The share of the channels in these groups; 0 for a model without norms."""
        total = sum(_weight(g) for g in (*self.vouched, *self.accused, *self.untold))
        return sum(_weight(g) for part in parts for g in part) / total if total else 0.0

    @property
    def in_brief(self) -> str:
        """The numbers of layers: ``3 accused, 2 vouched for, 1 cannot be told``."""
        counts = [
            (count(self.accused), "accused"),
            (count(self.vouched), "vouched for"),
            (count(self.untold), "cannot be told"),
        ]
        return ", ".join(f"{number} {word}" for number, word in counts if number)


def certificate_for(model: ModelReport) -> Certificate:
    """The certificate of a model, which a run that failed leaves open."""
    known = vars(model)  # what shows a model asks for it more than once
    if _KEPT not in known:
        known[_KEPT] = certificate_of(model.layers, unfinished=model.run_failed)
    certificate: Certificate = known[_KEPT]
    return certificate


def with_layers(model: ModelReport, layers: tuple[LayerSummary, ...]) -> ModelReport:
    """A model with other lines of its layers, whose certificate stays where they stand alike."""
    other = replace(model, layers=layers)
    kept = vars(model).get(_KEPT)
    pairs = zip(model.layers, layers, strict=True)
    if kept and all(a is b or (a.standing, a.why) == (b.standing, b.why) for a, b in pairs):
        vars(other)[_KEPT] = kept
    return other


def certificate_of(layers: Iterable[LayerSummary], *, unfinished: bool = False) -> Certificate:
    """The certificate of a model's layers.

    Args:
        layers: All of them.
        unfinished: Whether a run that was to tell more failed.
    """
    groups: dict[tuple[Standing, str], list[LayerSummary]] = {}
    for layer in layers:
        groups.setdefault((layer.standing, layer.why), []).append(layer)
    by: dict[Standing, list[AlikeLayers]] = {}
    for (standing, why), alike in groups.items():
        paths = tuple([n.path for n in alike])
        channels = sum([n.features or 0 for n in alike])
        stored = standing is not Standing.VOUCHED or any(n.mean or n.variance for n in alike)
        by.setdefault(standing, []).append(AlikeLayers(why, paths, channels, stored))
    vouched, accused, untold = (
        tuple(sorted(by.get(standing, ()), key=lambda group: -len(group.layers)))
        for standing in (Standing.VOUCHED, Standing.ACCUSED, Standing.UNTOLD)
    )
    return Certificate(vouched, accused, untold, unfinished)


def count(groups: Sequence[AlikeLayers]) -> int:
    """Layers in some groups."""
    return sum(len(group.layers) for group in groups)


def sentences(certificate: Certificate) -> list[str]:
    """What is vouched for and by what, and what cannot be told and why."""
    said = []
    for head, groups in (
        ("Vouched for", certificate.vouched),
        ("Cannot be told", certificate.untold),
    ):
        if groups:
            share = percent(certificate.share(groups))
            reasons = "; ".join(_reason(group, alone=len(groups) == 1) for group in groups[:_MOST])
            more = f"; {plural(len(groups) - _MOST, 'other reason')}" if len(groups) > _MOST else ""
            layers = plural(count(groups), "layer")
            said.append(f"{head}: {layers}, {share} of the channels ({reasons}{more}).")
    return said


_MOST = 3
"""Reasons that are told; more is for who asks for every layer."""


def _reason(group: AlikeLayers, *, alone: bool) -> str:
    return group.why if alone else f"{len(group.layers)}: {group.why}"


def _weight(group: AlikeLayers) -> int:
    # A layer of unknown size is one layer all the same.
    return max(group.channels, len(group.layers))
