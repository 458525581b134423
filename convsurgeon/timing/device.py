"""The devices that layers are timed on: which one, how to wait for it, what a call holds."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from convsurgeon.errors import RefusedError, UsageError
from convsurgeon.timing.value import Environment
from convsurgeon.version import __version__

if TYPE_CHECKING:
    import torch

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Kind:
    """What differs between kinds of devices.

    Attributes:
        available: whether one is here.
        wait: until everything that was launched is done.
        peak: most bytes that a call holds beyond what is there; or None and why.
        name: of the device.
    """

    available: Callable[[], bool]
    wait: Callable[[torch.device], object]
    peak: Callable[[torch.device, Call], tuple[int | None, str]]
    name: Callable[[torch.device], str]


def need_torch() -> Any:
    """Return torch.

    Raises:
        RefusedError: CS052 where it is missing.
    """
    try:
        import torch
    except ImportError:
        hint = "pip install 'convsurgeon[torch]'"
        raise RefusedError("CS052", "timing layers needs torch", hint=hint) from None
    return torch


def device_of(asked: str | None) -> str:
    """Return the name of the device that the user asks for, or the best one here: cuda, mps, cpu.

    Raises:
        UsageError: CS090 where torch does not know it, or it is not here.
        RefusedError: CS052 without torch.
    """
    torch: Any = need_torch()
    if asked is None:
        asked = next(name for name in ("cuda", "mps", "cpu") if KINDS[name].available())
    known = ", ".join(KINDS)
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise UsageError("CS090", f"{asked!r} is none of {known}", where="--device") from None
    if device.type not in KINDS:
        raise UsageError("CS090", f"{asked!r} is none of {known}", where="--device")
    if not KINDS[device.type].available():
        text = f"{asked!r} is not available to torch {torch.__version__} here"
        raise UsageError("CS090", text, where="--device", hint="--device cpu is always there")
    try:
        torch.zeros(1, device=device)
    except RuntimeError as error:  # such as a number that no card has
        text = f"{device} cannot be used: {said(error)}"
        raise UsageError("CS090", text, where="--device") from None
    return str(device)


def said(error: BaseException) -> str:
    """Return the first line of what torch says; the rest is for its own developers."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def environment(name: str) -> Environment:
    """Return the versions and the machine, for a device by its name."""
    import torch

    device = torch.device(name)
    return Environment(
        convsurgeon=__version__,
        python=platform.python_version(),
        torch=version("torch"),
        system=f"{platform.system()} {platform.machine()}",
        device=str(device),
        device_name=KINDS[device.type].name(device),
        threads=torch.get_num_threads(),
    )


def _cuda_available() -> bool:
    from torch import cuda

    return cuda.is_available()


def _cuda_wait(device: torch.device) -> None:
    from torch import cuda

    cuda.synchronize(device)


def _cuda_peak(device: torch.device, call: Call) -> tuple[int | None, str]:
    from torch import cuda

    cuda.synchronize(device)
    before = cuda.memory_allocated(device)
    cuda.reset_peak_memory_stats(device)
    call()
    cuda.synchronize(device)
    return cuda.max_memory_allocated(device) - before, ""


def _cuda_name(device: torch.device) -> str:
    from torch import cuda

    return str(cuda.get_device_name(device))


def _mps_available() -> bool:
    from torch.backends import mps

    return mps.is_available()


def _mps_wait(_device: torch.device) -> None:
    from torch import mps

    mps.synchronize()


def _mps_peak(_device: torch.device, _call: Call) -> tuple[int | None, str]:
    return None, "torch counts no peak of memory on mps"


def _mps_name(_device: torch.device) -> str:
    return f"{platform.processor() or platform.machine()}, {platform.mac_ver()[0]}"


def _cpu_peak(_device: torch.device, call: Call) -> tuple[int | None, str]:
    """Add up what torch's own allocator gives and takes during a call.

    The profiler records each allocation. A weight that a kernel brings into another order first is
    among them; scratch memory that a library below torch gets by itself is not.
    """
    from torch.autograd.profiler import profile

    with _hushed(), profile(profile_memory=True) as found:
        call()
    results: Any = found.kineto_results
    changes = [event for event in results.events() if event.name() == "[memory]"]
    held = peak = 0
    for change in sorted(changes, key=lambda event: int(event.start_ns())):
        held += change.nbytes()
        peak = max(peak, held)
    return peak, ""


def _cpu_name(_device: torch.device) -> str:
    from torch.backends import cpu

    return f"{platform.processor() or platform.machine()}, {cpu.get_cpu_capability()}"


@contextmanager
def _hushed() -> Iterator[None]:
    """Close the ears to the profiler, which tells stderr below Python when it starts and stops."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        with suppress(OSError):
            os.dup2(kept, 2)
        os.close(kept)


KINDS: Mapping[str, Kind] = {
    "cpu": Kind(lambda: True, lambda _device: None, _cpu_peak, _cpu_name),
    "cuda": Kind(_cuda_available, _cuda_wait, _cuda_peak, _cuda_name),
    "mps": Kind(_mps_available, _mps_wait, _mps_peak, _mps_name),
}
"""The kinds of devices, by torch's names."""
