"""Runs a scenario undisturbed, then once for every fault, and collects what was found."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from signal import Signals
from typing import Self

from tests.faults.judge import (
    Expected,
    complaints,
    complaints_of_next,
    complaints_when_mended,
)
from tests.faults.points import Fault
from tests.faults.scenarios import Scenario, state
from tests.faults.strace import Call, calls_of, injected, quick_place, traced
from tests.faults.zygote import RELEASE, Order, Ran, Zygote


@dataclass
class Findings:
    """What came of a number of faults.

    Attributes:
        injected: runs into which strace says that it put a fault.
        interrupted: runs that ended by a signal at a random moment.
        missed: runs that ended before the fault came to its call.
        kinds: faults by kind and the exit code that followed.
        complaints: what was wrong, each with its fault.
        calls: system calls of an undisturbed run.
    """

    injected: int = 0
    interrupted: int = 0
    missed: int = 0
    kinds: Counter[tuple[str, int]] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    calls: int = 0

    def __iadd__(self, other: Findings) -> Self:
        self.injected += other.injected
        self.interrupted += other.interrupted
        self.missed += other.missed
        self.kinds += other.kinds
        self.complaints += other.complaints
        self.calls = max(self.calls, other.calls)
        return self


@dataclass
class Bench:
    """A scenario, ready to be disturbed.

    Attributes:
        zygote: runs its command.
        scenario: what is run.
        place: of its folders.
        unsafe: the writer under test, if it is not the real one.
        expected: what may be found after a fault.
        calls: of an undisturbed run.
        seconds: that such a run takes.
    """

    zygote: Zygote
    scenario: Scenario
    place: Path
    unsafe: str
    expected: Expected
    calls: list[Call]
    seconds: float

    def __post_init__(self) -> None:
        self.template = self.place / "template"
        self.point = self.place / "point"

    def copy(self) -> Path:
        """Return a fresh copy of the scenario's folder."""
        shutil.rmtree(self.point, ignore_errors=True)
        shutil.copytree(self.template, self.point, symlinks=True)
        if self.scenario.killed_at:
            self._kill(*self.scenario.killed_at)
        return self.point

    def _kill(self, name: str, number: int) -> None:
        """Let a run be killed as its header is written, and leave that half written."""
        options = ["-e", f"trace={name}", "-e", f"inject={name}:signal=SIGKILL:when={number}"]
        traced(self.zygote, self.order(self.point), options)
        path = self.point / self.scenario.target
        new = self.expected.after.get(self.scenario.target)
        if new and path.read_bytes() != new[2]:
            half = (8 + int.from_bytes(new[2][:8], "little")) // 2
            with path.open("r+b") as file:
                file.write(new[2][:half])

    def order(self, folder: Path, **options: int | None) -> Order:
        """Return the order to run the command there."""
        two = self.scenario.two_threads
        return Order(str(folder), self.scenario.arguments, self.unsafe, two_threads=two, **options)

    def disturb(self, faults: Iterable[Fault]) -> Findings:
        """Run once for every fault."""
        findings = Findings()
        for fault in faults:
            findings += self.once(fault)
        return findings

    def once(self, fault: Fault) -> Findings:
        """Run with one fault, then again without; hold both against what is promised."""
        folder = self.copy()
        ran = traced(self.zygote, self.order(folder), fault.options)
        hit = injected(ran.trace) > 0
        findings = self._judge(fault, ran, hit=hit)
        findings.injected, findings.missed = int(hit), int(not hit)
        return findings

    def at_random(self, signal: Signals, count: int, seed: int) -> Findings:
        """Send a signal at moments that nobody chose; it need not be during a system call."""
        chance = random.Random(seed)
        findings = Findings()
        call = Call("no call", 1, 0, "")
        fault = Fault(f"{signal.name} at random", call, (), frozenset())
        for _ in range(count):
            folder = self.copy()
            pid = self.zygote.start(self.order(folder))
            os.kill(pid, RELEASE)
            time.sleep(chance.random() * self.seconds)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal)
            ran = self.zygote.ended(pid)
            findings += self._judge(fault, ran, hit=ran.code != 0)
            findings.interrupted += ran.code != 0
        return findings

    def _judge(self, fault: Fault, ran: Ran, *, hit: bool) -> Findings:
        folder = self.point
        wrong = complaints(self.scenario, self.expected, state(folder), ran, fault)
        if self.scenario.in_place:
            order = replace(self.order(folder), arguments=self.scenario.mend)
            mended = self.zygote.run(order)
            wrong += complaints_when_mended(self.scenario, self.expected, state(folder), mended)
        again = self.zygote.run(self.order(folder))
        wrong += complaints_of_next(self.scenario, self.expected, state(folder), again)
        texts = [f"{self.scenario.name}: {fault}: {text}; it said {ran.err!r}" for text in wrong]
        kinds = Counter({(fault.kind, ran.code): 1}) if hit else Counter()
        return Findings(kinds=kinds, complaints=texts)


@contextmanager
def bench(
    zygote: Zygote, scenario: Scenario, unsafe: str = "", place: Path | None = None
) -> Iterator[Bench]:
    """Build a scenario and run it undisturbed: by the real writer for what is expected, and by the
    one under test for the calls that it makes."""
    with tempfile.TemporaryDirectory(dir=place or quick_place()) as made:
        root = Path(made)
        scenario.build(root / "template")
        before = state(root / "template")
        found = Bench(zygote, scenario, root, "", Expected(before, before), [], 0.0)
        folder = found.copy()
        began = time.monotonic()
        ran = zygote.run(found.order(folder))
        found.seconds = time.monotonic() - began
        if ran.code:
            raise RuntimeError(f"{scenario.name} fails undisturbed: {ran.err}")
        found.expected = Expected(before, state(folder))
        found.unsafe = unsafe
        found.calls = calls_of(traced(zygote, found.order(found.copy()), ["-y"]).trace)
        yield found
