"""Ctrl-C and SIGTERM wait while what is half done would stay so.

Held back are Python's handlers, not the signals. A signal that is blocked is so for one thread: the
system gives it to another one of the process (torch has some), and Python runs its handler in the
main thread all the same, between any two instructions.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import currentframe
from types import FrameType
from typing import Any

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What the user, or the system, asks a run to stop by; SIGHUP comes when a terminal is closed."""


class Hold:
    """Handlers that only note what came, from `begin` to `end`; each may be called again.

    It covers a signal that has no handler, SIGTERM in most programs, as well: for the time being it
    has one, and at the end the system does what it would have done, which ends the process. A
    signal that is ignored, or whose handler is none of Python's, is left alone. In another thread
    than the main one nothing is done: handlers run in the main thread only.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._came: list[int] = []
        self._process = 0  # that holds: a fork of it, made by another thread, does not

    def begin(self) -> None:
        """Let interrupts wait; whatever this raises, the caller has to call `end`."""
        self._process = os.getpid()
        for number in INTERRUPTS:
            handler = signal.getsignal(number)
            if handler is None or handler in (signal.SIG_IGN, self._hear):
                continue
            self._before[number] = handler
            try:
                signal.signal(number, self._hear)
            except ValueError:  # not the main thread, or not of the main interpreter
                return

    def end(self) -> None:
        """Put the handlers back, and let them hear what came, each signal once, in order."""
        try:
            # One step for all signals. A handler that hears the next one may raise before the rest
            # of this is done: what is still ours then passes on what it gets.
            self._process = 0
            for number, handler in self._before.items():
                if signal.getsignal(number) == self._hear:
                    signal.signal(number, handler)
        finally:
            self._deliver()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._process != os.getpid():
            self._pass_on(number, frame)
        elif number not in self._came:
            self._came.append(number)

    def _deliver(self) -> None:
        if self._came:
            try:
                self._pass_on(self._came.pop(0), currentframe())
            finally:  # that handler may raise, and the next one is to hear its signal nevertheless
                self._deliver()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        handler = self._before[number]
        if callable(handler):
            handler(number, frame)
        else:  # the system's default action
            signal.signal(number, handler)
            signal.raise_signal(number)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM for a moment: what is being removed is removed whole."""
    hold = Hold()
    try:
        hold.begin()
        yield
    finally:
        hold.end()
