"""Power cuts: a file system is shut down at a random moment of a command, and mounted again.

    python -m tests.faults.power --file-system ext4 --cuts 100

needs root, loop devices, and the mkfs of the file system; it is no part of CI. The cut is the
kernel's own (`EXT4_IOC_SHUTDOWN`, which XFS has as well): nothing that is in memory only reaches the
image any more, with or without a last flush of the log. It is no cut of a drive: what the file
system has given to the device is in the image, so a drive that loses or reorders its cache is not
tried here; `tests.faults.model` tries that on paper.

An output is acknowledged where the command had ended with 0 before the cut. Such an output has to
be there afterwards; every other one has to be old or new.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.judge import Expected, complaints, complaints_of_next, complaints_when_mended
from tests.faults.points import Fault
from tests.faults.scenarios import SCENARIOS, Scenario, below, state
from tests.faults.strace import Call
from tests.faults.zygote import RELEASE, Order, Ran, Zygote

_SHUTDOWN = 0x8004587D
_LOG_FLUSH, _NO_LOG_FLUSH = 1, 2
_IMAGE_BYTES = 400 << 20  # the least that mkfs.xfs takes is 300 MB
_CUT = Fault("power cut", Call("no call", 1, 0, ""), (), frozenset())
MAKE = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}


class Disk:
    """A file system in a file."""

    def __init__(self, folder: Path, kind: str, options: str) -> None:
        self.image, self.mounted = folder / "image", folder / "mounted"
        self.options = ",".join(("loop", *([options] if options else [])))
        self.mounted.mkdir()
        with self.image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        subprocess.run([*MAKE[kind], self.image], check=True)

    def mount(self) -> None:
        """Mount it; what a cut left in its log is played back."""
        subprocess.run(["mount", "-o", self.options, self.image, self.mounted], check=True)

    def unmount(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", self.mounted], check=True)

    def sync(self) -> None:
        """Write all of it to the image."""
        fd = os.open(self.mounted, os.O_RDONLY)
        try:
            ctypes.CDLL(None).syncfs(fd)
        finally:
            os.close(fd)

    def cut(self, flag: int) -> None:
        """Cut the power."""
        fd = os.open(self.mounted, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", flag))
        finally:
            os.close(fd)


@contextmanager
def disk(kind: str, options: str) -> Iterator[Disk]:
    """Make a file system, mounted for as long as the context lasts."""
    with tempfile.TemporaryDirectory() as place:
        made = Disk(Path(place), kind, options)
        made.mount()
        try:
            yield made
        finally:
            made.unmount()


class Cutter:
    """One scenario on one file system."""

    def __init__(self, zygote: Zygote, where: Disk, scenario: Scenario, unsafe: str) -> None:
        self.zygote, self.disk, self.scenario, self.unsafe = zygote, where, scenario, unsafe
        self.template = zygote.scratch / "template"
        shutil.rmtree(self.template, ignore_errors=True)
        scenario.build(self.template)
        self.point = where.mounted / "point"
        self._fresh()
        began = time.monotonic()
        ran = zygote.run(Order(str(self.point), scenario.arguments))
        self.seconds = time.monotonic() - began
        if ran.code:
            raise RuntimeError(ran.err)
        self.expected = Expected(state(self.template), state(self.point))

    def _fresh(self) -> None:
        shutil.rmtree(self.point, ignore_errors=True)
        shutil.copytree(self.template, self.point)
        self.disk.sync()

    def cut(self, moment: float, flag: int) -> tuple[str, list[str]]:
        """Cut the power once.

        Returns:
            What was found, and what is wrong with it.
        """
        self._fresh()
        pid = self.zygote.start(Order(str(self.point), self.scenario.arguments, self.unsafe))
        os.kill(pid, RELEASE)
        time.sleep(moment * self.seconds)
        over = not Path(f"/proc/{pid}").exists()
        self.disk.cut(flag)
        ran = self.zygote.ended(pid)
        acknowledged = over and ran.code == 0
        self.disk.unmount()
        self.disk.mount()
        found = state(self.point)
        seen = Ran(0, "", "") if acknowledged else Ran(-9, "", "")
        wrong = complaints(self.scenario, self.expected, found, seen, _CUT)
        if self.scenario.in_place:
            mended = self.zygote.run(Order(str(self.point), self.scenario.mend))
            now = state(self.point)
            wrong += complaints_when_mended(self.scenario, self.expected, now, mended)
        again = self.zygote.run(Order(str(self.point), self.scenario.arguments))
        wrong += complaints_of_next(self.scenario, self.expected, state(self.point), again)
        new = below(found, self.scenario.target) == below(self.expected.after, self.scenario.target)
        when = "acknowledged" if acknowledged else "not acknowledged"
        return f"{when}: {'new' if new else 'not yet new'}", wrong


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.power")
    parser.add_argument("--file-system", choices=MAKE, default="ext4")
    parser.add_argument("--options", default="", help="of mount")
    parser.add_argument("--cuts", type=int, default=20, help="for each scenario")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unsafe", default="", help="a writer that has to fail")
    options = parser.parse_args()
    chance, violations = random.Random(options.seed), 0
    names = options.scenario or [n for n in SCENARIOS if not SCENARIOS[n].killed_at]
    sys.stdout.write(f"{options.file_system} {options.options} {options.unsafe}\n")
    with Zygote() as zygote, disk(options.file_system, options.options) as where:
        for name in names:
            cutter = Cutter(zygote, where, SCENARIOS[name], options.unsafe)
            counts: Counter[str] = Counter()
            for number in range(options.cuts):
                flag = (_LOG_FLUSH, _NO_LOG_FLUSH)[number % 2]
                outcome, wrong = cutter.cut(1.6 * chance.random(), flag)
                counts[outcome] += 1
                violations += bool(wrong)
                sys.stderr.writelines(f"{name}: {outcome}: {text[:300]}\n" for text in wrong)
            told = ", ".join(f"{what} {counts[what]}" for what in sorted(counts))
            sys.stdout.write(f"{name}: {told}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{options.cuts * len(names)} cuts, {violations} violations\n")
    return int(violations > 0)


if __name__ == "__main__":
    sys.exit(main())
