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


class _Bar:
    def __init__(self) -> None:
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
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
        self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
        self._bars.start()
        return self._bars

    def stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()


@contextmanager
def progress(*, quiet: bool) -> Iterator[Progress]:
    """Give a callback that draws a bar on stderr, where that is wanted."""
    if quiet or not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    bar = _Bar()
    try:
        yield bar
    finally:
        bar.stop()
