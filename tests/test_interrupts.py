"""Holding interrupts back: in processes with threads, at every instruction, for every handler."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from types import FrameType
from typing import Any

import pytest

from convsurgeon.store import interrupts
from convsurgeon.store.interrupts import INTERRUPTS, Hold, uninterrupted
from tests.cli_helpers import python


class Heard(KeyboardInterrupt):
    """What the handlers of these tests raise."""


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """Handlers of both signals note and raise; everything is as before afterwards."""
    numbers: list[int] = []

    def hear(number: int, _: object) -> None:
        numbers.append(number)
        raise Heard

    before = {number: signal.signal(number, hear) for number in INTERRUPTS}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def second_thread() -> Iterator[None]:
    """A thread that does nothing and blocks nothing."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    yield
    done.set()
    thread.join()


@contextmanager
def blocked() -> Iterator[None]:
    """The old way: the signals are blocked, in this thread."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def heard_inside(hold: Callable[[], AbstractContextManager[None]], numbers: list[int]) -> list[int]:
    """Send this process, not this thread, an interrupt while it holds them back."""
    inside: list[int] = []
    with pytest.raises(Heard), hold():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            deadline = time.monotonic() + 0.5
            while not numbers and time.monotonic() < deadline:
                time.sleep(0.001)
        finally:
            inside += numbers
    assert numbers == [signal.SIGINT]
    return inside


@pytest.mark.usefixtures("second_thread")
def test_another_thread_that_blocks_nothing(heard: list[int]) -> None:
    assert heard_inside(uninterrupted, heard) == []


@pytest.mark.usefixtures("second_thread")
def test_to_block_signals_is_not_enough(heard: list[int]) -> None:
    """The test above can fail."""
    assert heard_inside(blocked, heard) == [signal.SIGINT]


LIBRARY = """
import os, signal, sys, threading, time
from pathlib import Path
from convsurgeon.store import FileDraft, publish
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
target, number = Path(sys.argv[1]), int(sys.argv[2])
if sys.argv[3] != "as it begins":
    signal.signal(number, getattr(signal, sys.argv[3]))

def sync_folder(_):
    os.kill(os.getpid(), number)
    time.sleep(0.3)
    os.write(1, b"held ")

publish.sync_folder = sync_folder
with FileDraft(target, force=False) as draft:
    draft.write([b"new"])
    draft.publish()
os.write(1, b"not ended")
"""


@pytest.mark.parametrize(
    ("number", "handler", "code"),
    [
        (signal.SIGTERM, "as it begins", -signal.SIGTERM),
        (signal.SIGINT, "as it begins", -signal.SIGINT),  # what Python does about Ctrl-C
        (signal.SIGINT, "SIG_DFL", -signal.SIGINT),
        (signal.SIGTERM, "SIG_IGN", 0),
    ],
)
def test_programs_that_use_the_library(number: int, handler: str, code: int, tmp_path: Any) -> None:
    """The system's own action waits as well, and is taken then."""
    ran = python(LIBRARY, tmp_path / "out", int(number), handler)
    assert (ran.code, ran.out) == (code, "held not ended" if code == 0 else "held ")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def signalled_at(moment: int, act: Callable[[], None]) -> bool:
    """Let a signal come before one instruction of the hold; tell whether there was such a one."""
    numbers = count()
    came = False

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal came
        if frame.f_code.co_filename != interrupts.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and next(numbers) == moment:
            came = True
            signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return came


def test_a_signal_at_every_instruction(heard: list[int]) -> None:
    """It is heard once, never inside, and later ones are heard as if nothing had been."""
    reached = 0
    for moment in count():
        inside: list[bool] = []

        def act(inside: list[bool] = inside) -> None:
            with uninterrupted():
                inside.append(bool(heard))

        heard.clear()
        raised = False
        came = False
        try:
            came = signalled_at(moment, act)
        except Heard:
            raised = True
        if not came and not raised:
            break
        reached += bool(inside)
        assert raised, moment
        assert heard == [signal.SIGINT], moment
        assert not any(inside), moment
        for number in reversed(INTERRUPTS):
            heard.clear()
            with pytest.raises(Heard):
                signal.raise_signal(number)
            assert heard == [number], moment
    assert moment > 100
    assert 0 < reached < moment


def test_handlers_are_put_back(heard: list[int]) -> None:
    before = [signal.getsignal(number) for number in INTERRUPTS]
    with uninterrupted():
        assert all(signal.getsignal(n) not in before for n in INTERRUPTS)
    assert [signal.getsignal(number) for number in INTERRUPTS] == before
    assert heard == []


def test_each_signal_is_heard_once_and_in_order(heard: list[int]) -> None:
    with pytest.raises(Heard), uninterrupted():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
    assert heard == [signal.SIGTERM, signal.SIGINT]  # although the first one raised


@pytest.mark.parametrize("inner_first", [True, False])
def test_holds_within_holds(inner_first: bool, heard: list[int]) -> None:
    outer, inner = Hold(), Hold()
    outer.begin()
    inner.begin()
    signal.raise_signal(signal.SIGINT)
    first, last = (inner, outer) if inner_first else (outer, inner)
    first.end()
    assert heard == []
    with pytest.raises(Heard):
        last.end()
    assert heard == [signal.SIGINT]
    with pytest.raises(Heard):
        signal.raise_signal(signal.SIGTERM)


def test_it_may_begin_and_end_again(heard: list[int]) -> None:
    hold = Hold()
    hold.end()
    for _ in range(2):
        hold.begin()
        hold.begin()
        signal.raise_signal(signal.SIGINT)
        assert heard == []
        with pytest.raises(Heard):
            hold.end()
        hold.end()
        assert heard == [signal.SIGINT]
        heard.clear()


def test_a_handler_that_is_none_of_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    """To install one in its place would lose it: it cannot be put back."""
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("it was replaced"))
    with uninterrupted():
        pass


def test_an_ignored_signal_stays_ignored(heard: list[int]) -> None:
    """Also for a program that another thread starts meanwhile: it would inherit it otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with uninterrupted():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.raise_signal(signal.SIGINT)
    assert heard == []


def test_another_thread_does_nothing(heard: list[int]) -> None:
    before = [signal.getsignal(number) for number in INTERRUPTS]
    found: list[Any] = []

    def hold() -> None:
        with uninterrupted():
            found.extend(signal.getsignal(number) for number in INTERRUPTS)

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert found == before
    assert heard == []


def test_a_fork_by_another_thread_holds_nothing(
    heard: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that would end the hold is not in it."""
    with uninterrupted():
        with monkeypatch.context() as patch, pytest.raises(Heard):
            patch.setattr(os, "getpid", lambda: -1)
            signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
