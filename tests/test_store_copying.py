"""A new file from parts: in the kernel where it can, and right whatever the kernel answers."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.errors import OutputError, UnreadableError
from convsurgeon.store import CHUNK, Extent, FileDraft, Part, copying, kernel
from convsurgeon.store.copying import BLOCK, write_parts
from tests.files import counting, elsewhere

pytestmark = pytest.mark.skipif(not kernel.WAYS, reason="the kernel copies no ranges here")

SIZE = 3 * CHUNK + 12345
HEADER = b"h" * 100


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(counting(SIZE))
    return path


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def copied(source: Path, begin: int = 0, end: int = SIZE, before: bytes = b"") -> bytes:
    """What becomes of some bytes and an extent behind them."""
    target = source.with_name("target")
    told: list[int] = []
    with opened(source) as fd, FileDraft(target, force=True) as draft:
        draft.write([before, Extent(fd, begin, end, source)], told.append)
        draft.publish()
    assert sum(told) == len(before) + end - begin
    return target.read_bytes()


class Kernel:
    """Stands for the calls of the kernel: those named answer as told, the others are real."""

    def __init__(self, patch: pytest.MonkeyPatch, **answers: Callable[..., Any]) -> None:
        self.asked: list[str] = []
        for name, real in (
            ("ioctl", fcntl.ioctl),
            ("copy_file_range", os.copy_file_range),
            ("sendfile", os.sendfile),
        ):
            place = fcntl if name == "ioctl" else os
            patch.setattr(place, name, self.watched(name, answers.get(name, real)))

    def watched(self, name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            self.asked.append(name)
            return answer(*args)

        return call


def failing(number: int) -> Callable[..., Any]:
    def answer(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    return answer


def nothing(*_: Any) -> int:
    return 0


ERRORS = [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EIO]
REFUSALS = {errno.errorcode[number]: failing(number) for number in ERRORS} | {"0": nothing}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_one_way_refuses_the_next_does(
    source: Path, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    no, no_share = REFUSALS[refusal], REFUSALS[refusal if refusal != "0" else "EINVAL"]
    for refused, asked in (
        ({}, ["ioctl", "copy_file_range"]),
        ({"copy_file_range": no}, ["ioctl", "copy_file_range", "sendfile"]),
        ({"copy_file_range": no, "sendfile": no}, ["ioctl", "copy_file_range", "sendfile"]),
    ):
        with monkeypatch.context() as patch:
            calls = Kernel(patch, ioctl=no_share, **refused)
            assert copied(source) == counting(SIZE)
        assert list(dict.fromkeys(calls.asked)) == asked
        # A way that was refused is not tried again.
        assert all(calls.asked.count(name) == 1 for name in {"ioctl", *refused})


@pytest.mark.parametrize("name", ["copy_file_range", "sendfile"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_is_refused_halfway_goes_on_in_the_next_way(
    source: Path, monkeypatch: pytest.MonkeyPatch, name: str, refusal: str
) -> None:
    """As `copy_file_range` does on file systems that say 0 before the end."""
    real = getattr(os, name)
    done: list[int] = []

    def answer(*args: Any) -> int:
        if sum(done) > CHUNK:
            return int(REFUSALS[refusal]())
        count = [100_001 if arg == SIZE - sum(done) else arg for arg in args]
        done.append(real(*count))
        return done[-1]

    first = {} if name == "copy_file_range" else {"copy_file_range": failing(errno.EXDEV)}
    calls = Kernel(monkeypatch, ioctl=failing(errno.EOPNOTSUPP), **first, **{name: answer})
    assert copied(source) == counting(SIZE)
    assert CHUNK < sum(done) < SIZE
    assert calls.asked.count(name) == len(done) + 1


@pytest.mark.parametrize("most", [1, 4095, 4097, CHUNK - 1])
@pytest.mark.parametrize("name", ["copy_file_range", "sendfile", "preadv"])
def test_short_counts_are_completed(
    source: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    end = min(SIZE, 1000 * most)
    cut: dict[str, Callable[..., Any]] = {
        "copy_file_range": lambda s, t, n, i, j, real=os.copy_file_range: real(
            s, t, min(n, most), i, j
        ),
        "sendfile": lambda t, s, i, n, real=os.sendfile: real(t, s, i, min(n, most)),
        "preadv": lambda s, v, i, real=os.preadv: real(s, [v[0][:most]], i),
    }
    no = failing(errno.ENOSYS)
    Kernel(monkeypatch, ioctl=no, copy_file_range=no, sendfile=no)
    monkeypatch.setattr(os, name, cut[name])
    assert copied(source, 0, end, HEADER) == HEADER + counting(SIZE)[:end]


@pytest.mark.parametrize("name", ["ioctl", "copy_file_range", "sendfile"])
def test_an_interrupted_call_is_made_again(
    source: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real = fcntl.ioctl if name == "ioctl" else getattr(os, name)
    left = [True] * 3

    def answer(*args: Any) -> Any:
        if left:
            left.pop()
            raise InterruptedError(errno.EINTR, "Interrupted system call")
        return real(*args)

    order = ["ioctl", "copy_file_range", "sendfile"]
    refused = {earlier: failing(errno.EXDEV) for earlier in order[: order.index(name)]}
    calls = Kernel(monkeypatch, **refused, **{name: answer})
    assert copied(source) == counting(SIZE)
    assert calls.asked.count(name) > 3


def test_from_one_file_system_to_another(source: Path) -> None:
    with elsewhere(source.parent) as other:
        for one, place in ((source, other), (other / "target", source.parent)):
            with opened(one) as fd, FileDraft(place / "target", force=True) as draft:
                draft.write([HEADER, Extent(fd, 0, one.stat().st_size, one)])
                draft.publish()
            assert (place / "target").read_bytes() == HEADER + one.read_bytes()


def test_a_signal_is_not_swallowed(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> int:
        raise KeyboardInterrupt

    Kernel(monkeypatch, ioctl=failing(errno.ENOTTY), copy_file_range=interrupted)
    with pytest.raises(KeyboardInterrupt):
        copied(source)
    assert not source.with_name("target").exists()


def shared_blocks(patch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Let sharing succeed as a file system of 4096-byte blocks does it; return what was shared."""
    shared: list[tuple[int, int]] = []

    def ioctl(target: int, _request: int, argument: bytes) -> None:
        source, begin, count, place = struct.unpack("qQQQ", argument)
        whole = count % BLOCK == 0 or begin + count == os.fstat(source).st_size
        if begin % BLOCK or place % BLOCK or not whole or not count:
            raise OSError(errno.EINVAL, "Invalid argument")
        assert os.pwrite(target, os.pread(source, count, begin), place) == count
        shared.append((begin, begin + count))

    patch.setattr(fcntl, "ioctl", ioctl)
    return shared


def test_a_range_at_the_same_place_in_its_block_is_shared(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = shared_blocks(monkeypatch)
    data = counting(SIZE)
    assert copied(source, 100, SIZE, HEADER) == HEADER + data[100:]
    assert shared.pop() == (BLOCK, SIZE)  # to the end of the file, whose last block is not whole
    assert copied(source, 100, SIZE - 1, HEADER) == HEADER + data[100:-1]
    assert shared.pop() == (BLOCK, (SIZE - 1) // BLOCK * BLOCK)
    assert copied(source, 101, SIZE, HEADER) == HEADER + data[101:]
    assert copied(source, 100, CHUNK, HEADER) == HEADER + data[100:CHUNK]
    assert shared == []  # at another place in its block; too short


@given(
    st.lists(
        st.tuples(st.integers(0, 40_000), st.integers(0, 40_000), st.integers(0, 5000)), max_size=5
    )
)
def test_parts_of_any_size_and_place(
    tmp_path_factory: pytest.TempPathFactory, ranges: list[tuple[int, int, int]]
) -> None:
    source = tmp_path_factory.mktemp("copying") / "source"
    source.write_bytes(data := counting(40_000))
    target = source.with_name("target")
    with pytest.MonkeyPatch.context() as patch, opened(source) as fd, target.open("wb") as file:
        shared_blocks(patch)
        patch.setattr(copying, "CHUNK", 1)
        patch.setattr(copying, "STEP", 5000)
        parts: list[Part] = []
        for begin, end, gap in ranges:
            parts += [data[:gap], Extent(fd, min(begin, end), max(begin, end), source)]
        write_parts(file.fileno(), parts, target)
    expected = b"".join(data[:g] + data[min(a, b) : max(a, b)] for a, b, g in ranges)
    assert target.read_bytes() == expected


@pytest.mark.parametrize("layout", ["dhd", "hdh", "h", "d", "hd", "dh"])
def test_a_hole_stays_a_hole(tmp_path: Path, layout: str) -> None:
    source, size = tmp_path / "source", CHUNK * len(layout) + 77
    with source.open("wb") as file:
        file.truncate(size)
        for place, kind in enumerate(layout):
            if kind == "d":
                os.pwrite(file.fileno(), counting(CHUNK), place * CHUNK)
    if "h" in layout and source.stat().st_blocks * 512 >= size:
        pytest.skip("the file system knows no holes")
    assert copied(source, 0, size) == source.read_bytes()
    assert (tmp_path / "target").stat().st_blocks <= source.stat().st_blocks + 2 * BLOCK // 512
    assert copied(source, 10, size - 5, HEADER) == HEADER + source.read_bytes()[10:-5]


def test_a_file_system_that_knows_no_holes(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(source, SIZE + 5 * CHUNK)
    real, seeks = os.lseek, []

    def lseek(fd: int, place: int, how: int) -> int:
        if how in {os.SEEK_DATA, os.SEEK_HOLE}:
            seeks.append(how)
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(fd, place, how)

    monkeypatch.setattr(os, "lseek", lseek)
    assert copied(source, 0, SIZE + 5 * CHUNK) == counting(SIZE) + bytes(5 * CHUNK)
    assert seeks == [os.SEEK_DATA, os.SEEK_HOLE]


def test_an_error_names_the_file_at_fault(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no = failing(errno.EIO)
    Kernel(monkeypatch, ioctl=no, copy_file_range=no, sendfile=no)
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", no)
        with pytest.raises(UnreadableError) as unread:
            copied(source)
    monkeypatch.setattr(os, "pwrite", no)
    with pytest.raises(OutputError) as unwritten:
        copied(source)
    assert (unread.value.code, unread.value.where) == ("CS037", str(source))
    assert (unwritten.value.code, unwritten.value.where) == ("CS071", str(source.parent / "target"))


def test_a_source_that_becomes_shorter(source: Path) -> None:
    """The kernel says nothing is left; reading by hand finds that there was to be more."""
    with pytest.raises(UnreadableError) as caught:
        copied(source, 0, SIZE + 1)
    assert (caught.value.code, caught.value.where) == ("CS038", str(source))
    assert not source.with_name("target").exists()


def test_the_disk_begins_with_a_step_while_the_next_is_copied(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "STEP", CHUNK)
    Kernel(monkeypatch, ioctl=failing(errno.EOPNOTSUPP))
    given_: list[tuple[int, int]] = []
    monkeypatch.setattr(copying, "start_write_back", lambda fd, *range_: given_.append(range_))
    assert copied(source, 0, SIZE, bytes(CHUNK)) == bytes(CHUNK) + counting(SIZE)
    assert given_ == [(place * CHUNK, CHUNK) for place in range(4)]


def test_a_hint_that_the_system_does_not_take_is_no_error(source: Path) -> None:
    kernel.start_write_back(-1, 0, SIZE)
    with opened(source) as fd:
        kernel.start_write_back(fd, 0, SIZE)


def test_without_the_call_nothing_is_hinted(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "STEP", CHUNK)
    monkeypatch.setattr(kernel, "_sync_file_range", lambda: None)
    assert copied(source) == counting(SIZE)
