"""Progress bars: on a terminal only, and only for work of over a second."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from convsurgeon.untrusted import safe

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from convsurgeon.api.work import Progress

_PATIENCE = 1.0
_COUNTED = {"bytes": "DownloadColumn", "layers": "MofNCompleteColumn"}
"""What is counted -> the column of rich that shows how far it is."""


class _Bar:
    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._began = monotonic()
        self._bars: Bars | None = None
        self._task: tuple[str, int] | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        if monotonic() - self._began < _PATIENCE:
            return
        bars = self._bars or self._start()
        if self._task is None or self._task[0] != what:
            if self._task is not None:
                bars.remove_task(self._task[1])  # type: ignore[arg-type]
            self._task = (what, bars.add_task(safe(what), total=total))
        bars.update(self._task[1], completed=done)  # type: ignore[arg-type]

    def _start(self) -> Bars:
        from rich import progress as rich
        from rich.console import Console

        text = rich.TextColumn("{task.description}", markup=False)
        counted = getattr(rich, _COUNTED[self._unit])()
        columns = (text, rich.BarColumn(), counted)
        self._bars = rich.Progress(*columns, console=Console(stderr=True), transient=True)
        self._bars.start()
        return self._bars

    def stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()


@contextmanager
def progress(*, quiet: bool, unit: str = "bytes") -> Iterator[Progress]:
    """Give a callback that draws a bar on stderr, where that is wanted.

    Args:
        quiet: whether it is not.
        unit: what is counted, `bytes` or `layers`.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    bar = _Bar(unit)
    try:
        yield bar
    finally:
        bar.stop()
