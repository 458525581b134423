"""A process that has imported everything, and forks one command line per line of its input.

What the fork does from the moment it is released is the command's work and nothing else: no
interpreter start, no imports, no locale. So every call that a fault can hit is one of ours, and a
point costs milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from tests.faults.scenarios import SCENARIOS
from tests.faults.unsafe import WRITERS

REPOSITORY = Path(__file__).parents[2]
RELEASE = signal.SIGUSR1
HUNG = "hung"
"""Stands on stderr for a command that did not end."""
_PR_SET_PTRACER = 0x59616D61
_PATIENCE = 30.0
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Ran:
    """How a command ended.

    Attributes:
        code: its exit code; negative where a signal ended it.
        out: what it wrote on stdout.
        err: what it wrote on stderr.
        trace: the lines of strace, if it was traced.
    """

    code: int
    out: str
    err: str
    trace: tuple[str, ...] = ()


@dataclass(frozen=True)
class Order:
    """What a fork does.

    Attributes:
        folder: where the command runs.
        arguments: of the command line.
        unsafe: a writer of `tests.faults.unsafe` instead of the real one.
        largest: RLIMIT_FSIZE.
        user: whom to become before the command runs.
        two_threads: whether every file is read while it is written.
    """

    folder: str
    arguments: Sequence[str]
    unsafe: str = ""
    largest: int | None = None
    user: int | None = None
    two_threads: bool = False


class Zygote:
    """The process, and how to give it orders; a context."""

    def __enter__(self) -> Self:
        self._scratch = tempfile.TemporaryDirectory()
        self.scratch = Path(self._scratch.name)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self.scratch)], cwd=REPOSITORY,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if self._answer() != "ready":
            raise RuntimeError("the zygote did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._scratch.cleanup()

    def _answer(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def start(self, order: Order) -> int:
        """Fork; the process waits for `RELEASE`. Return its number."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order.__dict__) + "\n")
        self._process.stdin.flush()
        return int(self._answer())

    def ended(self, pid: int) -> Ran:
        """Wait for the end of what `start` started."""
        hung: list[str] = []

        def kill() -> None:
            hung.append(HUNG)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        late = threading.Timer(_PATIENCE, kill)
        late.start()
        code = int(self._answer())
        late.cancel()
        out, err = ((self.scratch / n).read_text("utf-8", "replace") for n in ("out", "err"))
        return Ran(code, out, err + "".join(hung))

    def run(self, order: Order) -> Ran:
        """Run a command undisturbed."""
        pid = self.start(order)
        os.kill(pid, RELEASE)
        return self.ended(pid)


def main() -> None:
    """Serve orders until the input ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {RELEASE})
    scratch = Path(sys.argv[1])
    # What is imported late is imported now; a fork would import it again and again.
    with tempfile.TemporaryDirectory() as place:
        for scenario in SCENARIOS.values():
            folder = Path(place, scenario.name)
            scenario.build(folder)
            kept = os.dup(1), os.dup(2)
            _redirect(scratch)
            os.chdir(folder)
            _command(scenario.arguments)
            for number, fd in enumerate(kept, 1):
                os.dup2(fd, number)
                os.close(fd)
    # As a process begins; a shell's background job would ignore the second.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _say("ready")
    for line in sys.stdin:
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            _child(json.loads(line), scratch, (reading, writing))
        os.close(writing)
        os.read(reading, 1)  # whoever traces it now sees the command alone
        os.close(reading)
        _say(str(pid))
        _say(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _child(order: dict[str, Any], scratch: Path, pipe: tuple[int, int]) -> NoReturn:
    # Where only a parent may trace, strace is not one.
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, -1, 0, 0, 0)
    _redirect(scratch)
    if order["unsafe"]:
        WRITERS[order["unsafe"]]()
    if order["two_threads"]:
        _read_while_written()
    if order["largest"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest"],) * 2)
    os.chdir(order["folder"])
    if order["user"] is not None:
        os.setgroups([])
        os.setresgid(*[order["user"]] * 3)
        os.setresuid(*[order["user"]] * 3)
    os.close(pipe[0])
    os.write(pipe[1], b".")
    signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    signal.sigwait({RELEASE})
    try:
        code = _command(order["arguments"])
    except KeyboardInterrupt:  # just before or behind the command, where there is only this process
        code = 130
    os._exit(code)


def _read_while_written() -> None:
    from convsurgeon.store import behind

    behind.ALONE = 0
    os.cpu_count = lambda: 2


def _redirect(scratch: Path) -> None:
    for number, name in enumerate(("out", "err"), 1):
        fd = os.open(scratch / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(fd, number)
        os.close(fd)


def _command(arguments: Sequence[str]) -> int:
    """Run a command line as its process would; return what that would exit with."""
    from convsurgeon.__main__ import main as command

    sys.argv = ["convsurgeon", *arguments]
    code: Any = 1
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
    os.getppid()  # the mark from which calls are counted, and up to which
    try:
        command()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter does; the judge sees it
        traceback.print_exc()
    os.getppid()
    with contextlib.suppress(KeyboardInterrupt):
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 120  # as the interpreter exits where its last flush fails
    return int(code or 0)


if __name__ == "__main__":
    main()
