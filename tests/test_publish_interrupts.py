"""An interrupt in the moment in which names change waits until what is left over is removed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from convsurgeon.store import FileDraft, FolderDraft, draft, publish

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """Raise for either signal, as the command line does; everything is as before afterwards."""
    numbers: list[int] = []

    def hear(number: int, _: object) -> None:
        numbers.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, hear) for number in SIGNALS}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


def sending(number: int, first: Callable[..., object] | None = None) -> Callable[..., object]:
    """Do something, then send the signal to this process, whichever of its threads gets it."""

    def call(*arguments: object) -> object:
        found = first(*arguments) if first else None
        os.kill(os.getpid(), number)
        return found

    return call


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("kind", ["file", "folder over a folder"])
def test_it_waits_for_the_clean_up(
    kind: str, number: int, tmp_path: Path, heard: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    if kind != "file":
        target.mkdir()
        (target / "old").write_bytes(b"old")
    monkeypatch.setattr(publish, "sync_folder", sending(number))
    handlers = [signal.getsignal(number) for number in SIGNALS]
    reached = False
    draft_of = FileDraft if kind == "file" else FolderDraft
    with pytest.raises(KeyboardInterrupt), draft_of(target, force=kind != "file") as one:
        if isinstance(one, FileDraft):
            one.write([b"new"])
        else:
            one.write("new", [b"new"])
        one.publish()
        assert heard == []
        reached = True
    assert reached
    assert heard == [number]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (target if kind == "file" else target / "new").read_bytes() == b"new"
    assert [signal.getsignal(number) for number in SIGNALS] == handlers


def test_without_it_the_old_folder_can_be_left(
    tmp_path: Path, heard: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment itself: the end of the block, before the first line of the clean-up."""
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_bytes(b"old")
    real = FolderDraft.__exit__

    def late(self: FolderDraft, *error: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        real(self, *error)  # type: ignore[arg-type]

    monkeypatch.setattr(FolderDraft, "__exit__", late)

    def run(content: bytes) -> None:
        with pytest.raises(KeyboardInterrupt), FolderDraft(target, force=True) as one:
            one.write("new", [content])
            one.publish()

    run(b"new")
    run(b"new")  # the very bytes were there
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    assert (target / "new").read_bytes() == b"new"
    monkeypatch.setattr(draft.Draft, "_hold_interrupts", lambda _: None)
    run(b"newer")
    assert len(list(tmp_path.iterdir())) == 2
