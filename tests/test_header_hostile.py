"""Headers that were written to use up memory or time."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def _names() -> Iterator[str]:
    for length in itertools.count(1):
        yield from map("".join, itertools.product(LETTERS, repeat=length))


def many(head: str, item: str, tail: str) -> Callable[[int], bytes]:
    def build(size: int) -> bytes:
        written = [head]
        left = size - len(head) - len(tail)
        for name in _names():
            piece = item.replace("NAME", name)
            left -= len(piece) + 1
            if left < 0:
                return ("".join(written).rstrip(",") + tail).encode()
            written.append(piece + ",")
        raise AssertionError

    return build


def _repeated(head: str, piece: str, tail: str = "") -> Callable[[int], bytes]:
    left = len((head + tail).encode())
    return lambda size: (head + piece * ((size - left) // len(piece.encode())) + tail).encode()


TENSOR = '"NAME":{"dtype":"U8","shape":%s,"data_offsets":[0,0]}'
BAD_TENSOR = '":{"dtype":"X","shape":[0],"data_offsets":[0,0]}}'
SHAPES = {
    "metadata keys": many('{"__metadata__":{', '"NAME":""', "}}"),
    "metadata values": many('{"__metadata__":{', '"NAME":"NAME"', "}}"),
    "escaped metadata": many('{"__metadata__":{', '"\\u0041NAME":"\\u4e00"', "}}"),
    "tensors": many("{", TENSOR % "[0]", "}"),
    "tensors, spaced": many("{", TENSOR.replace(":", ": ") % "[0]", "}"),
    "tensors of high rank": many("{", TENSOR % f"[0{',257' * 7}]", "}"),
    "one name many times": many("{", TENSOR.replace("NAME", "a") % "[0]", "}"),
    "nested arrays": _repeated('{"a":', "["),
    "flat arrays": _repeated('{"a":[', "[],"),
    "nested objects": _repeated("", '{"a":'),
    "shape of ones": _repeated('{"a":{"dtype":"U8","shape":[', "1,"),
    "digits": _repeated('{"a":{"dtype":"U8","shape":[', "9"),
    "escapes in a name": _repeated('{"', "\\u0041", '":'),
    "a wide character in a long name": _repeated('{"\U0001f600', "a", '":{}'),
    "backslashes": _repeated('{"', "\\\\"),
    "an open string": _repeated('{"', "a"),
    "white space": _repeated("{", " "),
    "white space between digits": _repeated('{"a":{"dtype":"U8","shape":[1', " ", "1"),
    "commas": _repeated("{", ","),
    "padding": _repeated("{}", " "),
    "a long name that is escaped in the error": _repeated('{"', "\u202e", BAD_TENSOR),
    "a long name of characters above 2^16": _repeated('{"', "\U000e0001", BAD_TENSOR),
    "escapes beside a wide character": _repeated('{"__metadata__":{"\U0001f600', "\\n", '":""}}'),
    "half a surrogate pair at the end": _repeated('{"\U0001f600', "\\n", '\\ud800":""}'),
    "white space beside a wide character": _repeated('{"\U0001f600":', " ", "}"),
}

MEASURE = """
import resource, sys, time
from pathlib import Path
from convsurgeon.errors import ConvsurgeonError
%s

def peak():
    # ru_maxrss of a child begins at its parent's; Linux has the figure of this program alone
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak()
with open(sys.argv[1], "rb") as file:
    text = file.read()
start = time.process_time()
try:
    parse(text)
except (ConvsurgeonError, ValueError):
    pass
seconds = time.process_time() - start
print(peak() - before, seconds)
"""


HEADER = "from convsurgeon.header import describe as parse"


def peak_and_seconds(text: bytes, tmp_path: Path, imported: str = HEADER) -> tuple[int, float]:
    """What a fresh interpreter needs beyond its imports.

    Args:
        text: what is parsed.
        tmp_path: a folder.
        imported: the line that imports `parse`.
    """
    path = tmp_path / "header"
    path.write_bytes(text)
    command = [sys.executable, "-c", MEASURE % imported, str(path)]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    peak, seconds = done.stdout.split()
    return int(peak), float(seconds)


def test_the_measure_sees_what_is_allocated(tmp_path: Path) -> None:
    peak, _ = peak_and_seconds(b"{" * 50_000_000, tmp_path)
    assert peak >= 50_000_000


@pytest.mark.parametrize("shape", SHAPES)
def test_two_megabytes(shape: str, tmp_path: Path) -> None:
    text = SHAPES[shape](2_000_000)
    assert 1_900_000 < len(text) <= 2_000_100
    peak, seconds = peak_and_seconds(text, tmp_path)
    assert peak <= 14 * len(text) + 64_000_000
    assert seconds < 10  # no timed test: anything worse than linear takes minutes


@pytest.mark.long
@pytest.mark.parametrize("shape", SHAPES)
def test_twenty_five_megabytes(shape: str, tmp_path: Path) -> None:
    text = SHAPES[shape](25_000_000)
    peak, _ = peak_and_seconds(text, tmp_path)
    assert peak <= 14 * len(text) + 64_000_000
