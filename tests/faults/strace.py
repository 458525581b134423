"""Puts faults into a process with strace, and reads what the process did."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.faults.scenarios import SCENARIOS
from tests.faults.zygote import RELEASE, Order, Ran, Zygote

_CALL = re.compile(r"(?P<thread>\d+ +)?(?P<name>\w+)\((?P<rest>.*)")
_BEGUN = " <unfinished ...>"
_ENDED = re.compile(r"(?P<thread>\d+ +)<\.\.\. \w+ resumed>(?P<rest>.*)")
_MARK = "getppid"
_EXIT = "exit_group"
# What changes a file system.
_CHANGES = frozenset({
    "chmod", "chown", "copy_file_range", "fallocate", "fchmod", "fchmodat", "fchown", "fchownat",
    "fdatasync", "fsetxattr", "fsync", "ftruncate", "link", "linkat", "mkdir", "mkdirat",
    "pwrite64", "pwritev", "pwritev2", "rename", "renameat", "renameat2", "rmdir", "sendfile",
    "setxattr", "symlink", "symlinkat", "sync_file_range", "unlink", "unlinkat", "write", "writev",
})  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One system call of a process.

    Attributes:
        name: of the call.
        number: which one of its name in its thread, from 1.
        place: which one of all, from 0.
        text: arguments and result as strace shows them, with the paths of descriptors.
    """

    name: str
    number: int
    place: int
    text: str

    @property
    def reports(self) -> bool:
        """Whether it only says on stdout or stderr what was done."""
        return re.match(r"[12]<", self.text) is not None

    @property
    def changes(self) -> bool:
        """Whether it changes a file system."""
        return (self.name in _CHANGES or "FICLONE" in self.text) and not self.reports

    @property
    def result(self) -> int:
        """What it returned; -1 where that is no number."""
        found = re.search(r"= (-?\d+)(?:<[^>]*>)?(?: [A-Z(].*)?$", self.text)
        return int(found[1]) if found else -1


def calls_of(trace: Sequence[str]) -> list[Call]:
    """Return the calls of the command, which lie between two marks, in the order of their ends."""
    counts: Counter[tuple[str, str]] = Counter()
    calls: list[Call] = []
    released = False
    for line in whole_calls(trace):
        found = _CALL.match(line)
        if not found or found["name"] == _EXIT:
            continue
        if found["name"] == _MARK:
            released = not released
            continue
        counts[found["thread"], found["name"]] += 1
        if released:
            number = counts[found["thread"], found["name"]]
            calls.append(Call(found["name"], number, len(calls), found["rest"]))
    return calls


def whole_calls(trace: Sequence[str]) -> Iterator[str]:
    """Join the two halves of each call during which another thread made one."""
    begun: dict[str, str] = {}
    for line in trace:
        if line.endswith(_BEGUN):
            begun[line.split()[0]] = line.removesuffix(_BEGUN)
        elif found := _ENDED.match(line):
            yield begun.pop(found["thread"].strip(), "") + found["rest"]
        else:
            yield line


def traced(
    zygote: Zygote,
    order: Order,
    options: Sequence[str],
    meanwhile: Callable[[int], None] | None = None,
) -> Ran:
    """Run a command under strace.

    Args:
        zygote: forks it.
        order: what it does.
        options: of strace.
        meanwhile: called with the number of the process, when it runs.

    Raises:
        RuntimeError: where strace cannot trace it.
    """
    pid = zygote.start(order)
    log = zygote.scratch / "trace"
    threads = ["-f"] if order.two_threads else []
    command = ["strace", *threads, "-p", str(pid), "-o", str(log), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr
        said = strace.stderr.readline()
        os.kill(pid, RELEASE)
        if meanwhile is not None:
            meanwhile(pid)
        ran = zygote.ended(pid)
    if "attached" not in said:
        raise RuntimeError(said.strip() or "strace says nothing")
    return replace(ran, trace=tuple(log.read_text("utf-8", "replace").splitlines()))


def injected(trace: Sequence[str]) -> int:
    """Return how many faults strace says that it has put in.

    A call that was made to fail or to lie is marked; a signal is shown with the kernel as its
    sender, or as what ended the process.
    """
    marks = ("(INJECTED)", "si_code=SI_KERNEL", "+++ killed by SIGKILL")
    return sum(any(mark in line for mark in marks) for line in trace)


@functools.cache
def why_not() -> str:
    """Return why no faults can be injected here; empty where they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    try:
        with Zygote() as zygote:
            folder = zygote.scratch / "trial"
            scenario = SCENARIOS["file"]
            scenario.build(folder)
            order = Order(str(folder), scenario.arguments)
            ran = traced(
                zygote, order, ["-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1"]
            )
    except RuntimeError as error:
        return f"strace cannot trace here: {error}"
    return "" if injected(ran.trace) else "strace injects nothing here"


def quick_place() -> Path | None:
    """Return a folder in memory where there is one: syncing costs nothing there."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None
