"""An interrupt at any moment of a process is one line and 130, or comes too late to change a thing."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import NoReturn

import pytest

from convsurgeon.cli.app import Commands
from tests.cli_helpers import invoke, model_file, python

LINE = "convsurgeon: interrupted; nothing half-written remains\n"

# Forks once for every moment: a line or a call of Python, counted from the first line of `main`.
MOMENTS = """
import json, os, signal, sys
import convsurgeon.__main__ as entry
import convsurgeon.api.scanning, convsurgeon.cli, convsurgeon.report.show

first, last = signal.SIGINT, signal.SIGTERM

def run(moment, number, stderr):
    count, began, over = -1, False, False

    def trace(frame, event, argument):
        nonlocal count, began
        if not began and (frame.f_code is not entry.main.__code__ or event != "line"):
            return trace
        began = True
        count += event in ("line", "call")
        if count == moment and event in ("line", "call"):
            frame.f_trace = None
            sys.settrace(None)
            signal.raise_signal(number)
        return trace

    os.dup2(stderr, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.settrace(trace)
    code = 77
    try:
        entry.main()
    except SystemExit as end:
        sys.settrace(None)
        code = end.code
    sys.stderr.flush()
    return code, count

def forked(moment, number):
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        answer = os.dup(writing)
        try:
            stderr = os.open("err", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            code, count = run(moment, number, stderr)
        except BaseException as error:
            code, count = repr(error), -1
        os.write(answer, json.dumps([code, count]).encode())
        os._exit(0)
    os.close(writing)
    end = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code, count = json.loads(os.read(reading, 1000) or f"[{end}, -1]")
    os.close(reading)
    with open("err") as file:
        return code, count, file.read()

code, total, err = forked(-1, first)
found = [[total, code, err]]
moments = {*range(1, 100, 3), *range(total, total - 240, -3), total - 1}
moments |= {*range(0, total, total // 41)}
for moment in sorted(moments - {0}):
    code, _, err = forked(moment, (first, last)[moment % 2])
    found.append([moment, code, err])
print(json.dumps(found))
"""


def test_a_signal_at_moments_all_over_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_file(tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    ran = python(MOMENTS, "scan", "model.safetensors")
    assert ran.err == ""
    (total, *undisturbed), *found = json.loads(ran.out)
    assert undisturbed == [0, ""]
    ends = {moment: (code, err) for moment, code, err in found}
    assert len(ends) > 140
    # Before its handler is there, SIGTERM ends the process.
    begun = next(m for m in ends if m % 2 and ends[m] == (130, LINE))
    assert begun < 100
    assert {ends[m] for m in ends if m < begun and m % 2} == {(-15, "")}
    assert {ends[m] for m in ends if m < begun and not m % 2} == {(130, LINE)}
    # When interrupts are ignored, the exit code is that of the command.
    over = next(m for m in ends if m > begun and ends[m] == (0, ""))
    assert {ends[m] for m in ends if m >= over and not m % 2} == {(0, "")}
    assert ends[total] == ends[total - 1] == (0, "")
    assert over > total - 240
    middle = {ends[m] for m in ends if begun <= m < over}
    assert {end for end in middle if not is_lost(*end)} == {(130, LINE)}


def is_lost(code: int, err: str) -> bool:
    """Tell whether Python lost the interrupt, as it does in callbacks of weak references."""
    return code == 0 and err.startswith("Exception ignored in: ")


LATE = """
import atexit, os, signal, sys, time
number = int(sys.argv.pop())

def late():
    os.kill(os.getpid(), number)
    time.sleep(0.01)

atexit.register(late)
from convsurgeon.__main__ import main
main()
"""


IGNORED = """
import os, signal, sys
number = int(sys.argv.pop())
signal.signal(number, signal.SIG_IGN)
import convsurgeon.api.scanning
scan = convsurgeon.api.scanning.scan
def signalled(*paths, **choices):
    os.kill(os.getpid(), number)
    return scan(*paths, **choices)
convsurgeon.api.scanning.scan = signalled
from convsurgeon.__main__ import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_ignored_stays_so(number: int) -> None:
    """What `nohup` is for."""
    ran = python(IGNORED, "scan", "absent", int(number))
    assert (ran.code, "CS030" in ran.err) == (3, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["scan", "absent"], 3)])
def test_a_signal_when_all_is_over(number: int, arguments: list[str], code: int) -> None:
    ran = python(LATE, *arguments, int(number))
    assert ran.code == code
    assert ran.err.count("\n") == (code != 0)


def interrupt(*_: object, **__: object) -> NoReturn:
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["parser", "command", "help"])
def test_wherever_it_is_heard_it_is_said_once(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == "parser":
        monkeypatch.setattr(Commands, "make_context", interrupt)
    elif where == "command":
        monkeypatch.setattr("convsurgeon.cli.scan.run", interrupt)
    else:
        monkeypatch.setattr(Commands, "get_help", interrupt)
    ran = invoke(*(["scan", "absent"] if where != "help" else []))
    assert (ran.code, ran.out, ran.err) == (130, "", LINE)
