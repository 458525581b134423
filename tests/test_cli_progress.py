"""Progress bars: on a terminal only, and only for work of over a second."""

from __future__ import annotations

import io
import sys

import pytest

from convsurgeon.cli import progress as module
from convsurgeon.cli.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, *, patience: float, quiet: bool = False
) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(module, "_PATIENCE", patience)
    monkeypatch.setenv("TERM", "xterm")
    with progress(quiet=quiet) as bar:
        bar("write \x1b]0;title.safetensors", 1, 4)
        bar("verify b.safetensors", 3, 4)
    return stream.getvalue()


def test_long_work_on_a_terminal_is_shown_without_raw_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = drawn(monkeypatch, Terminal(), patience=0.0)

    assert "verify b.safetensors" in text
    assert "\x1b]0;title" not in text


@pytest.mark.parametrize(
    ("stream", "patience", "quiet"),
    [(Terminal(), 60.0, False), (io.StringIO(), 0.0, False), (Terminal(), 0.0, True)],
    ids=["short work", "no terminal", "quiet"],
)
def test_otherwise_nothing_is_drawn(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, patience: float, quiet: bool
) -> None:
    assert drawn(monkeypatch, stream, patience=patience, quiet=quiet) == ""
