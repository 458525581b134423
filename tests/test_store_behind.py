"""A file that is read while it is written: nothing is read before it is there, nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import convsurgeon as cs
from convsurgeon.api import work
from convsurgeon.errors import ConvsurgeonError, NotEquivalentError, OutputError, UnreadableError
from convsurgeon.proof import FileVerdict, compare
from convsurgeon.store import (
    Extent,
    FileDraft,
    FolderDraft,
    Part,
    Source,
    begins_alike,
    behind,
    copying,
    read_safetensors,
)
from convsurgeon.store.interrupts import INTERRUPTS
from tests.cli_helpers import model_file
from tests.faulty import fail_at
from tests.files import framed

STATED = ["embed.proj=s2"]
_TEXT = '{"__metadata__":{"format":"pt"},"a":{"dtype":"U8","shape":[64],"data_offsets":[0,64]}}'
CONTENT = framed(_TEXT, bytes(range(64)))
PREFIX, DATA = CONTENT[:-64], CONTENT[-64:]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behind, "ALONE", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if "writes" in thread.name] == []


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "vit" / "model.safetensors"
    path.parent.mkdir()
    model_file(path)
    (path.parent / "notes.txt").write_text("side file")
    return path


class Steps:
    """Parts that are handed out only when the test says so."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = parts
        self.allowed = threading.Semaphore(0)
        self.given = 0

    def __iter__(self) -> Iterator[Part]:
        for part in self.parts:
            assert self.allowed.acquire(timeout=30)
            self.given += 1
            yield part


@pytest.mark.usefixtures("two")
def test_what_is_not_written_yet_is_waited_for(tmp_path: Path) -> None:
    steps = Steps(PREFIX, DATA[:32], DATA[32:])
    done: list[str] = []

    def allow(what: str) -> None:
        done.append(what)
        steps.allowed.release()

    with FileDraft(tmp_path / "out", force=False) as draft:
        threading.Timer(0.05, allow, ["header"]).start()
        with draft.following(steps, len(CONTENT)) as written:
            file = written.file()
            assert done == ["header"]
            assert file.header.by_name["a"].nbytes == 64
            assert file.size == len(CONTENT)
            with file.reader() as reader:
                assert reader.prefix() == PREFIX
                threading.Timer(0.05, allow, ["half"]).start()
                assert reader.read(3, 32) == DATA[3:32]
                assert done == ["header", "half"]
                threading.Timer(0.05, allow, ["all"]).start()
                buffer = bytearray(2)
                reader.fill(memoryview(buffer), 31)
                assert (bytes(buffer), done) == (DATA[31:33], ["header", "half", "all"])
                assert b"".join(bytes(c) for c in reader.chunks(0, 64)) == DATA
        draft.publish()
    assert (tmp_path / "out").read_bytes() == CONTENT


@contextmanager
def half_written(folder: Path) -> Iterator[tuple[Steps, behind.Following]]:
    """A file of which the header is there; its writer waits."""
    steps = Steps(PREFIX, DATA)
    steps.allowed.release()
    with (
        FileDraft(folder / "out", force=False) as draft,
        draft.following(steps, len(CONTENT)) as written,
    ):
        yield steps, written


@pytest.mark.usefixtures("two")
def test_places_in_it_are_waited_for_as_well(tmp_path: Path) -> None:
    with half_written(tmp_path) as (steps, written), written.file().reader() as reader:
        threading.Timer(0.05, steps.allowed.release).start()
        (extent,) = map(extent_of, reader.parts(0, 64))
        assert steps.given == 2
        assert written.path.read_bytes()[slice(*extent)] == DATA


@pytest.mark.usefixtures("two")
def test_a_copy_is_compared_only_as_far_as_it_is_there(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    steps = Steps(PREFIX, DATA)
    steps.allowed.release()
    with FolderDraft(tmp_path / "out", force=False) as draft:
        with draft.following("copy", steps, len(CONTENT)) as written:
            threading.Timer(0.05, steps.allowed.release).start()
            assert begins_alike(source, written.path, written.ready)
        draft.publish()


@pytest.mark.usefixtures("two")
def test_who_reads_less_than_all_still_gets_all(tmp_path: Path) -> None:
    steps = Steps(PREFIX, DATA)
    steps.allowed.release()
    with FileDraft(tmp_path / "out", force=False) as draft:
        with draft.following(steps, len(CONTENT)) as written:
            written.ready(1)
            threading.Timer(0.05, steps.allowed.release).start()
        draft.publish()
    assert (tmp_path / "out").read_bytes() == CONTENT


@pytest.mark.usefixtures("two")
def test_a_sync_that_fails_after_all_was_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = threading.Event()

    def failing(_: int) -> None:
        assert read.wait(30)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with (
        pytest.raises(OutputError, match="Input/output error"),
        FileDraft(tmp_path / "out", force=False) as draft,
    ):
        with draft.following([PREFIX, DATA], len(CONTENT)) as written:
            written.ready(len(CONTENT))
            threading.Timer(0.05, read.set).start()
        draft.publish()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to ask")
@pytest.mark.usefixtures("two")
def test_the_writer_leaves_signals_to_the_main_thread(tmp_path: Path) -> None:
    with half_written(tmp_path) as (steps, written):
        written.ready(1)
        (writer,) = (one for one in threading.enumerate() if "writes" in one.name)
        status = Path(f"/proc/self/task/{writer.native_id}/status").read_text().splitlines()
        (mask,) = (int(row.split()[1], 16) for row in status if row.startswith("SigBlk"))
        steps.allowed.release()
    assert all(mask >> (number - 1) & 1 for number in INTERRUPTS)


def test_files_are_the_same_either_way(
    model: Path, either_writer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "STEP", 4096)
    original, begun = model.read_bytes(), count_threads(monkeypatch)
    out, back = (model.parent.with_name(f"{name}.safetensors") for name in ("out", "back"))
    cs.swap(model, out, geometry=STATED, verify="bits")
    assert cs.verify(model, out, function=False).equivalent
    cs.restore(out, back)
    assert back.read_bytes() == original
    assert len(begun) == (2 if either_writer else 0)

    report = cs.swap(model.parent, geometry=STATED, verify="bits")
    new = model.parent.with_name("vit.linear")
    assert (new / "model.safetensors").read_bytes() == out.read_bytes()
    assert (new / "notes.txt").read_text() == "side file"
    assert {path.name for path in new.iterdir()} == {path.name for path in model.parent.iterdir()}
    assert report.files[0].outcome == "written"
    cs.restore(new, model.parent.with_name("back"))
    assert (model.parent.with_name("back") / "model.safetensors").read_bytes() == original


def count_threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    begun: list[str] = []
    start = threading.Thread.start

    def counted(thread: threading.Thread) -> None:
        if "writes" in thread.name:
            begun.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", counted)
    return begun


def test_without_room_for_a_thread_it_is_written_first(
    model: Path, two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    out = model.with_name("out.safetensors")
    cs.swap(model, out, geometry=STATED, verify="bits")
    assert cs.verify(model, out, function=False).equivalent


@pytest.mark.parametrize(("call", "number"), [("pwrite", 0), ("ftruncate", 0), ("fsync", 0)])
def test_what_the_writer_is_refused_is_told(
    model: Path, either_writer: bool, call: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, call, fail_at(call, number))
    with pytest.raises(OutputError, match="Input/output error") as caught:
        cs.swap(model, model.with_name("out.safetensors"), geometry=STATED, verify="bits")
    assert caught.value.code == "CS071"
    assert {path.name for path in model.parent.iterdir()} == {"model.safetensors", "notes.txt"}


@pytest.mark.parametrize("place", [0, 8, 40, -1])
def test_what_arrives_wrong_is_never_published(
    model: Path, either_writer: bool, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = copying._NewFile._by_kernel

    def lying(self: copying._NewFile, *arguments: Any) -> int:
        count: int = real(self, *arguments)
        byte = os.pread(self.fd, 1, self.size + place % count)
        os.pwrite(self.fd, bytes([byte[0] ^ 1]), self.size + place % count)
        return count

    monkeypatch.setattr(copying._NewFile, "_by_kernel", lying)
    with pytest.raises(NotEquivalentError) as caught:
        cs.swap(model, model.with_name("out.safetensors"), geometry=STATED, verify="bits")
    assert caught.value.code == "CS083"
    assert {path.name for path in model.parent.iterdir()} == {"model.safetensors", "notes.txt"}


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1])
def test_another_size_than_was_said_is_an_error(tmp_path: Path, size: int) -> None:
    with (
        pytest.raises(UnreadableError, match="another size") as caught,
        FileDraft(tmp_path / "out", force=False) as draft,
        draft.following([PREFIX, DATA], size),
    ):
        pass
    assert caught.value.code == "CS038"


@pytest.mark.usefixtures("two")
def test_what_is_not_there_in_the_end_is_not_read(tmp_path: Path) -> None:
    with (
        pytest.raises(UnreadableError, match="became shorter"),
        FileDraft(tmp_path / "out", force=False) as draft,
        draft.following([PREFIX, DATA[:-1]], len(CONTENT)) as written,
        written.file().reader() as reader,
    ):
        reader.read(0, 64)


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_reader_that_gives_up_stops_the_writer(kind: str, tmp_path: Path) -> None:
    steps = Steps(PREFIX, *[bytes(16)] * 100)
    steps.allowed.release()
    with pytest.raises(ZeroDivisionError):
        if kind == "file":
            with FileDraft(tmp_path / "out", force=False) as file, file.following(steps, 0) as it:
                give_up(it, steps)
        with (
            FolderDraft(tmp_path / "out", force=False) as folder,
            folder.following("sub/x", steps, 0) as it,
        ):
            give_up(it, steps)
    assert steps.given == 2
    assert list(tmp_path.iterdir()) == []


def give_up(written: behind.Following, steps: Steps) -> None:
    written.ready(len(PREFIX))
    threading.Timer(0.1, steps.allowed.release).start()  # only after it was stopped
    raise ZeroDivisionError


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_heard_while_it_waits(tmp_path: Path, number: int) -> None:
    steps = Steps(PREFIX, DATA[:1], DATA[1:])
    steps.allowed.release()
    before = {n: signal.signal(n, interrupted) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        with (
            pytest.raises(KeyboardInterrupt),
            FileDraft(tmp_path / "out", force=False) as draft,
            draft.following(steps, len(CONTENT)) as written,
        ):
            threading.Timer(0.1, os.kill, [os.getpid(), number]).start()
            threading.Timer(0.3, steps.allowed.release).start()
            written.ready(len(CONTENT))
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
    assert steps.given == 2
    assert list(tmp_path.iterdir()) == []


def interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def test_a_source_that_changes_meanwhile_is_to_blame(
    model: Path, either_writer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = copying._NewFile._by_kernel

    def meddle(self: copying._NewFile, *arguments: Any) -> int:
        count: int = real(self, *arguments)
        with model.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\xff" if file.read(1) != b"\xff" else b"\x00")
        os.utime(model, ns=(1, 1))
        return count

    monkeypatch.setattr(copying._NewFile, "_by_kernel", meddle)
    with pytest.raises(ConvsurgeonError) as caught:
        cs.swap(model, model.with_name("out.safetensors"), geometry=STATED, verify="bits")
    assert caught.value.code == "CS038"
    assert {path.name for path in model.parent.iterdir()} == {"model.safetensors", "notes.txt"}


def test_a_source_that_changes_during_the_proof_is_to_blame(
    model: Path, either_writer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meddle(source: Source, written: Source, **options: Any) -> FileVerdict:
        found = compare(source, written, **options)
        os.utime(model, ns=(1, 1))
        return replace(found, differences=("a tensor has other bytes",))

    monkeypatch.setattr(work, "compare", meddle)
    with pytest.raises(UnreadableError, match="changed while it was read"):
        cs.swap(model, model.with_name("out.safetensors"), geometry=STATED, verify="bits")


def test_the_header_is_held_to_the_size_that_is_to_come(two: None, tmp_path: Path) -> None:
    with (
        pytest.raises(ConvsurgeonError) as caught,
        FileDraft(tmp_path / "out", force=False) as draft,
        draft.following([PREFIX, DATA, b"?"], len(CONTENT) + 1) as written,
    ):
        written.file()
    assert caught.value.code == "CS036"


def extent_of(part: Part) -> tuple[int, int]:
    assert isinstance(part, Extent)
    return part.begin, part.end


def test_it_reads_as_any_file_does(two: None, model: Path) -> None:
    content = model.read_bytes()
    with FileDraft(model.with_name("out"), force=False) as draft:
        with draft.following([content[:100], content[100:]], len(content)) as written:
            found, plain = written.file(), read_safetensors(model)
            assert (found.header, found.header_length) == (plain.header, plain.header_length)
            with found.reader() as one, plain.reader() as other:
                assert one.place != other.place
                assert [extent_of(p) for p in one.parts(0, 8)] == [
                    extent_of(p) for p in other.parts(0, 8)
                ]
        draft.publish()
