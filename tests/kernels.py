"""Runs the tests that depend on torch's arithmetic once under each other set of kernels.

``python -m tests.kernels [words for pytest]``. The same training ends elsewhere on another
processor: sums are taken in another order, and differences in the last digit grow from step to
step. No verdict may depend on that. The machine's own kernels are what ``make test`` runs with;
here are those that a processor with less would take.
"""

import os
import platform
import subprocess
import sys
from dataclasses import dataclass

_X86 = ("x86_64", "amd64", "i686")
_ASK = "import torch; print(torch.backends.cpu.get_cpu_capability())"
_FROM_LEAST = ("NO AVX", "DEFAULT", "AVX2", "AVX512")
"""What torch calls the kernels of these processors; each has all that stand before its own."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """A setting of the environment, and what torch says of itself under it."""

    variable: str
    value: str
    shows: str = ""
    """What ``get_cpu_capability`` is then; empty where torch cannot tell."""

    def __str__(self) -> str:
        return f"{self.variable}={self.value}"


ALL = (
    Kernels("ATEN_CPU_CAPABILITY", "default", "DEFAULT"),
    Kernels("ATEN_CPU_CAPABILITY", "avx2", "AVX2"),
    Kernels("ATEN_CPU_CAPABILITY", "avx512", "AVX512"),
    Kernels("DNNL_MAX_CPU_ISA", "SSE41"),
)


def capability(environment: dict[str, str]) -> str:
    """The kernels that torch takes in an environment."""
    line = [sys.executable, "-c", _ASK]
    asked = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    return asked.stdout.strip()


def why_not(kernels: Kernels, own: str, there: str, machine: str) -> str:
    """Why these kernels are not to be run; empty where they are.

    Args:
        kernels: A setting.
        own: What torch takes by itself.
        there: What it takes under the setting.
        machine: The processor's architecture.
    """
    if machine.lower() not in _X86 and kernels.value != "default":
        return f"a {machine} processor has no such kernels"
    if kernels.shows and own == kernels.shows:
        return "these are the machine's own, which make test runs with"
    if kernels.shows and there != kernels.shows:
        return f"this processor and torch have none: it takes {there}"
    # torch believes the variable: it says AVX512 on any processor that is told so, and takes
    # instructions that a smaller one lacks.
    if own in _FROM_LEAST and kernels.shows in _FROM_LEAST[_FROM_LEAST.index(own) :]:
        return f"torch takes no more than {own} here by itself"
    return ""


def main(words: list[str]) -> int:
    """Run them all, and say what became of each."""
    plain = {k: v for k, v in os.environ.items() if k not in {each.variable for each in ALL}}
    own, machine = capability(plain), platform.machine()
    said, failed = [f"the machine's own: {own}, see make test"], False
    for kernels in ALL:
        environment = {**plain, kernels.variable: kernels.value}
        outcome = why_not(kernels, own, capability(environment), machine)
        if not outcome:
            print(f"== {kernels}", flush=True)
            line = [sys.executable, "-m", "pytest", "-q", "-m", "kernels", *words]
            code = subprocess.run(line, env=environment, check=False).returncode
            failed |= code != 0
            outcome = "FAILED" if code else "passed"
        else:
            outcome = f"not run: {outcome}"
        said.append(f"{kernels}: {outcome}")
    print("\n".join(said))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
