"""What a verdict was found with: figures of rounding depend on it, equalities do not."""

from __future__ import annotations

import platform
from importlib.metadata import version

from convsurgeon.proof.circumstances import Environment
from convsurgeon.version import __version__


def environment(*, torch: bool) -> Environment:
    """Return versions, system and threads.

    Args:
        torch: whether torch took part; otherwise it is not imported.
    """
    threads = 0
    if torch:
        from torch import get_num_threads

        threads = get_num_threads()
    system = f"{platform.system()} {platform.machine()}"
    found = version("torch") if torch else ""
    return Environment(__version__, platform.python_version(), found, system, threads)
