"""Archives of ``torch.package``: pickles under names of their own, code and storages beside them.

``<root>/.data/extern_modules`` is in every one of them, ``<root>/.data/<key>.storage`` are the
storages that all pickles share, and the code lies beside as text, which nobody here runs.
"""

from dataclasses import replace

from normcheck.formats.torch_zip import Places, read_pickled
from normcheck.formats.zip_directory import Archive
from normcheck.pickles.locate_models import Found, locate_models
from normcheck.saved.checkpoint import MEMBER
from normcheck.saved.clocks import merged
from normcheck.sources.limits import Budget
from normcheck.sources.source import Source

_SIGN = "/.data/extern_modules"


def is_package(names: list[str]) -> bool:
    """Whether an archive with these members is one."""
    return any(name.endswith(_SIGN) and name.count("/") == 2 for name in names)


def read_package(source: Source, archive: Archive, budget: Budget) -> Found:
    """The models in all pickles of a package, each under ``!`` and the name of its pickle."""
    root = next(n for n in archive.namelist() if n.endswith(_SIGN)).removesuffix(_SIGN)
    escaped = root.replace("{", "{{").replace("}", "}}")
    places = Places(f"{root}/byteorder", f"{escaped}/.data/{{}}.storage", package=True)
    whole = Found()
    for member in archive.infolist():
        name = member.filename
        inside = name.startswith(f"{root}/") and not name.startswith(f"{root}/.data/")
        if not inside or not name.endswith((".pkl", ".pickle", ".pt", ".pth")):
            continue
        found = locate_models(read_pickled(source, archive, member, places, budget), budget)
        path = f"{MEMBER}{name.removeprefix(f'{root}/')}"
        whole.models += [
            replace(model, where=path + (f"#{model.where}" if model.where else ""))
            for model in found.models
        ]
        whole.optimizers += found.optimizers
        whole.clocks = merged((*whole.clocks, *found.clocks))
        whole.optimizer_states += found.optimizer_states
        whole.optimizer_steps = max(whole.optimizer_steps or 0, found.optimizer_steps or 0) or None
    return whole
