"""What ``--trust`` lets run, said before it runs. Without torch."""

from normcheck.pickles.torch_objects import constructors
from normcheck.saved.checkpoint import Checkpoint, Form
from normcheck.saved.dtypes import BY_NAME, of_storage_class
from normcheck.wording import plural

_SHOWN = 12
_MODULES = "torch.nn.modules."


def what_runs(checkpoint: Checkpoint) -> str:
    """One sentence on the code that unpickling a file would run.

    Args:
        checkpoint: As our own reader read it, which runs none of it.
    """
    if any(model.form is Form.TORCHSCRIPT for model in checkpoint.models):
        return (
            f"{checkpoint.name}: --trust loads it with torch.jit.load, which runs its TorchScript "
            "code, with your rights"
        )
    names = foreign_names(checkpoint)
    if not names:
        what = "names nothing but torch's own classes"
    else:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        listed = ", ".join(name[:80] for name in names[:_SHOWN])
        what = f"names {plural(len(names), 'thing')} outside of torch.nn: {listed}{more}"
    return (
        f"{checkpoint.name}: --trust unpickles it, which runs whatever it names, with your rights; "
        f"it {what}"
    )


def foreign_names(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Classes and functions that a pickle names, but for modules and tensors of torch."""
    table = constructors()
    return tuple(
        f"{module}.{name}"
        for module, name in checkpoint.names
        if (module, name) not in table
        and not f"{module}.".startswith(_MODULES)
        and not (module == "torch" and (name in BY_NAME or of_storage_class(name)))
        and (module, name) != ("torch.storage", "_load_from_bytes")
    )
