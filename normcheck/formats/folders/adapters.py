"""Adapters of PEFT: what they were trained on is named in ``adapter_config.json`` beside them.

``adapter_model.safetensors`` holds what was trained. The base, and with it most norms, is another
checkpoint: whoever reads "no norms" of an adapter has to know of which model that is said.
"""

import re
from dataclasses import replace
from typing import Any

from normcheck.errors import NormcheckError
from normcheck.formats.bounded_json import read_json
from normcheck.saved.checkpoint import Checkpoint
from normcheck.sources.limits import Budget, Limits
from normcheck.sources.opening import open_source
from normcheck.sources.place import Place

_ADAPTER = re.compile(r"adapter_model\.(safetensors|bin)(\.index\.json)?")
_CONFIG = "adapter_config.json"
_LONGEST = 80
"""Characters of a name that is shown."""


def is_adapter(name: str) -> bool:
    """Whether a file of this name is one, as PEFT calls it."""
    return _ADAPTER.fullmatch(name) is not None


def with_base(path: Place, checkpoint: Checkpoint, limits: Limits) -> Checkpoint:
    """The same with a note on what the adapter belongs to.

    Args:
        path: Of the adapter.
        checkpoint: What was read of it, open.
        limits: For the configuration beside it.
    """
    try:
        config = open_source(path.parent / _CONFIG)
    except NormcheckError:
        note = f"an adapter: what it was trained on, no {_CONFIG} beside it says"
        return replace(checkpoint, notes=(*checkpoint.notes, note))
    try:
        held = read_json(config, 0, config.size, Budget(limits), "the configuration")
        note = _note(held if isinstance(held, dict) else {})
    except NormcheckError as error:
        note = f"an adapter, whose base cannot be told: {error.message}"
    # It belongs to what was read: a cache looks at it, too.
    return replace(
        checkpoint, notes=(*checkpoint.notes, note), sources=(*checkpoint.sources, config)
    )


def _note(config: dict[str, Any]) -> str:
    base, kind = config.get("base_model_name_or_path"), config.get("peft_type")
    if not isinstance(base, str) or not base:
        return f"an adapter: {_CONFIG} does not name what it was trained on"
    form = f" ({kind[:_LONGEST]})" if isinstance(kind, str) and kind else ""
    trained = config.get("modules_to_save")
    also = ""
    if isinstance(trained, list) and trained:
        names = ", ".join(name for name in trained[:5] if isinstance(name, str))
        also = f"; trained and saved whole: {names[:_LONGEST]}"
    return f"an adapter{form} of {base[:_LONGEST]}: norms of the base are not in this file{also}"
